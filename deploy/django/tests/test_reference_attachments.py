"""Attachments go to a real S3 server by a signed request, which allows exactly what was asked for."""

import urllib.error
import urllib.request
import uuid

import people
import pytest
from test_reference_rest import As


@pytest.fixture(scope="module")
def s3():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        from django.conf import settings

        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setitem(settings.S3, "endpoint_url", url)
        patch.setitem(settings.S3, "public_url", url)
        patch.setitem(settings.S3, "bucket", "attachments")
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket=settings.S3["bucket"])
        yield url
    server.stop()


def upload(form: dict, content: bytes, **fields) -> int:
    """Posts the form as a browser would; the answer's status."""
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
             for name, value in (form["fields"] | fields).items()]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode() + content + b"\r\n")
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    request = urllib.request.Request(form["url"], body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_file_is_uploaded_attached_and_read(s3):
    ada = people.user()
    room = people.room(ada)
    browser = As(ada)
    made = browser.post("attachments/", name="../my cat?.png", size=4, type="image/png")
    assert made["attachment"]["name"] == "my_cat_.png"
    assert upload(made["upload"], b"\x89PNG") in (200, 204)
    sent = browser.post(f"rooms/{room.pk}/messages/", content="look", attachments=[made["attachment"]])
    assert (sent["messageType"], sent["attachments"]) == ("image", [made["attachment"]])
    import boto3
    from django.conf import settings

    key = made["upload"]["fields"]["key"]
    stored = boto3.client("s3", endpoint_url=s3, region_name="us-east-1").get_object(Bucket=settings.S3["bucket"], Key=key)
    assert (stored["Body"].read(), stored["ContentType"]) == (b"\x89PNG", "image/png")
    assert made["attachment"]["url"] == f"{s3}/{settings.S3['bucket']}/{key}"


def test_where_files_cannot_be_kept_that_is_said(monkeypatch):
    import sys

    from django.conf import settings

    browser = As(people.user())
    file = {"name": "a.png", "size": 4, "type": "image/png"}
    for name in ("bucket", "public_url", "endpoint_url"):
        monkeypatch.setitem(settings.S3, name, "")
    assert "neither S3_BUCKET nor S3_ENDPOINT_URL is set" in browser.post("attachments/", 503, **file)["detail"]
    room = people.room(browser.user)
    url = "https://.s3.amazonaws.com/community/1/x/a.png"
    browser.post(f"rooms/{room.pk}/messages/", 400, content="x", attachments=[file | {"url": url}])
    monkeypatch.setitem(settings.S3, "bucket", "attachments")
    monkeypatch.setitem(settings.S3, "endpoint_url", None)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # which remembers keys
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert "no key to sign with" in browser.post("attachments/", 503, **file)["detail"]
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    assert "boto3 is not installed" in browser.post("attachments/", 503, **file)["detail"]


def test_the_signature_says_size_type_and_place(s3):
    import base64
    import json

    made = As(people.user()).post("attachments/", name="a.pdf", size=10, type="application/pdf")
    policy = json.loads(base64.b64decode(made["upload"]["fields"]["policy"]))
    assert ["content-length-range", 10, 10] in policy["conditions"]
    assert {"Content-Type": "application/pdf"} in policy["conditions"]
    assert {"key": made["upload"]["fields"]["key"]} in policy["conditions"]


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": 26 * 1024 * 1024}, {"size": "4"}, {"type": "text/html"}, {"type": "image/svg+xml"}, {"name": ""}]
)
def test_what_is_not_taken_is_not_signed(s3, wrong):
    As(people.user()).post("attachments/", 400, **({"name": "a.png", "size": 4, "type": "image/png"} | wrong))


def test_only_what_was_uploaded_here_can_be_attached(s3):
    ada = people.user()
    browser, room = As(ada), people.room(ada)
    foreign = {"url": "https://elsewhere.example/a.png", "name": "a", "size": 1, "type": "image/png"}
    browser.post(f"rooms/{room.pk}/messages/", 400, content="x", attachments=[foreign])
    browser.post(f"rooms/{room.pk}/messages/", 400, content="x", attachments=[{"url": s3}])


@pytest.fixture(params=["http://files.example:9000", "https://cdn.example.com/store/", ""])
def place(request, monkeypatch):
    """Where files are: MinIO, a CDN with a path, or S3 itself."""
    from django.conf import settings

    monkeypatch.setitem(settings.S3, "bucket", "attachments")
    monkeypatch.setitem(settings.S3, "public_url", request.param)
    return request.param.rstrip("/") + "/attachments" if request.param else "https://attachments.s3.amazonaws.com"


def attached(**changes):
    from core.community import attachments
    from rest_framework.exceptions import ValidationError

    try:
        return attachments.checked([{"url": "", "name": "a.png", "size": 4, "type": "image/png"} | changes])
    except ValidationError:
        return None


def test_an_address_is_compared_by_its_parts(place):
    key = "community/1/3f2504e0-4f89-41d3-9a0c-0305e82c3301/a.png"
    scheme, host = place.split("://")[0], place.split("://")[1].split("/")[0]
    assert attached(url=f"{place}/{key}")
    for url in (
        "https://elsewhere.example/a.png", f"{scheme}://{host}.evil.example/attachments/{key}", f"{scheme}://{host}@evil.example/{key}",
        f"{place}.evil.example/{key}", f"{place}@evil.example/{key}", f"{place}/other/a.png", f"{place}/community/../../x/a.png",
        f"{place}/{key}#x", f"{place}/{key}?x", f"{place}/{key} x", f"{scheme}://{host}\\@evil.example/{key}", "http://[", f"{place}", 7, None,
        f"{'http' if scheme == 'https' else 'https'}://{host}/attachments/{key}",
    ):
        assert attached(url=url) is None, url


@pytest.mark.parametrize(
    "wrong", [{"size": -1}, {"size": 0}, {"size": True}, {"size": 4.0}, {"size": "4"}, {"size": 26 * 1024 * 1024}, {"name": 7},
              {"name": ""}, {"name": "x" * 256}, {"name": "a\0"}, {"name": ["a"]}, {"type": "image/png\n"}, {"type": None}]
)
def test_what_is_not_signed_is_not_attached(place, wrong):
    url = f"{place}/community/1/x/a.png"
    assert attached(url=url)
    assert attached(url=url, **wrong) is None
