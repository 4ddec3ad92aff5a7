"""Attachments go from the browser to S3 or MinIO directly, with a request that is signed here and allows one file."""

import re
import uuid
from urllib.parse import urlsplit

from django.conf import settings
from rest_framework.exceptions import APIException, ValidationError

LARGEST = 25 * 1024 * 1024
TYPES = re.compile(r"^(image/(png|jpeg|gif|webp|avif)|video/(mp4|webm)|audio/(mpeg|ogg|mp4|webm)|text/plain|application/(pdf|zip))\Z")
SECONDS = 300


class NoStorage(APIException):
    """There is nowhere to upload to, or no key to sign with."""

    status_code = 503
    default_detail = "Files are not taken here: neither S3_BUCKET nor S3_ENDPOINT_URL is set"


def client():
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise NoStorage("Files are not taken here: boto3 is not installed") from None
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    try:
        keys = boto3.DEFAULT_SESSION.get_credentials()
    except BotoCoreError:
        keys = None
    if keys is None:
        raise NoStorage("Files are not taken here: there is no key to sign with")
    return boto3.client("s3", endpoint_url=settings.S3["endpoint_url"], region_name=settings.S3["region"],
                        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))


def fits(size) -> bool:
    return type(size) is int and 0 < size <= LARGEST


def presign(user, name: str, size: int, kind: str) -> dict:
    """A form post for exactly this size and type, and the address that the file will have."""
    if not settings.S3["bucket"]:
        raise NoStorage
    if not TYPES.match(kind):
        raise ValidationError({"type": "Files of this type are not taken"})
    if not fits(size):
        raise ValidationError({"size": f"A file has 1 to {LARGEST} bytes"})
    clean = re.sub(r"[^\w.-]+", "_", name.rsplit("/", 1)[-1])[-100:].strip(".") or "file"
    key = f"community/{user.pk}/{uuid.uuid4()}/{clean}"
    bucket = settings.S3["bucket"]
    form = client().generate_presigned_post(
        bucket, key, Fields={"Content-Type": kind},
        Conditions=[{"Content-Type": kind}, ["content-length-range", size, size]], ExpiresIn=SECONDS,
    )
    return {"upload": form, "attachment": {"url": f"{address()}/{key}", "name": clean, "size": size, "type": kind}}


def address() -> str:
    """Where uploaded files are, without the slash at the end."""
    bucket, public = settings.S3["bucket"], settings.S3["public_url"]
    return f"{public.rstrip('/')}/{bucket}" if public else f"https://{bucket}.s3.amazonaws.com"


def is_ours(url) -> bool:
    """Says whether an address is one that `presign` gave out. Compared by its parts: text that begins alike may lead
    anywhere."""
    if not settings.S3["bucket"] or not isinstance(url, str) or len(url) > 2000 or re.search(r"[\s\\?#]|/\.\.?(/|$)", url):
        return False
    try:
        given, ours = urlsplit(url), urlsplit(address())
    except ValueError:
        return False
    same = (given.scheme, given.netloc) == (ours.scheme, ours.netloc)
    return same and given.path.startswith(f"{ours.path}/community/")


def checked(given) -> list[dict]:
    """A message's attachments, as the gateway takes them too."""
    if not isinstance(given, list) or len(given) > 10:
        raise ValidationError({"attachments": "A list of at most 10"})
    for one in given:
        if not isinstance(one, dict) or set(one) != {"url", "name", "size", "type"}:
            raise ValidationError({"attachments": "Each has url, name, size and type"})
        if not is_ours(one["url"]):
            raise ValidationError({"attachments": "Only files that were uploaded here"})
        if not isinstance(one["type"], str) or not TYPES.match(one["type"]) or not fits(one["size"]):
            raise ValidationError({"attachments": "Type or size is not taken"})
        if not isinstance(one["name"], str) or not 0 < len(one["name"]) <= 255 or "\0" in one["name"]:
            raise ValidationError({"attachments": "A name of 1 to 255 characters"})
    return given
