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
