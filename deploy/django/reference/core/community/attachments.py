"""Attachments go from the browser to S3 or MinIO directly, with a request that is signed here and allows one file."""

import re
import uuid

from django.conf import settings
from rest_framework.exceptions import ValidationError

LARGEST = 25 * 1024 * 1024
TYPES = re.compile(r"^(image/(png|jpeg|gif|webp|avif)|video/(mp4|webm)|audio/(mpeg|ogg|mp4|webm)|text/plain|application/(pdf|zip))$")
SECONDS = 300


def client():
    import boto3
    from botocore.config import Config

    return boto3.client("s3", endpoint_url=settings.S3["endpoint_url"], region_name=settings.S3["region"],
                        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))


def presign(user, name: str, size: int, kind: str) -> dict:
    """A form post for exactly this size and type, and the address that the file will have."""
    if not TYPES.match(kind):
        raise ValidationError({"type": "Files of this type are not taken"})
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= LARGEST:
        raise ValidationError({"size": f"A file has 1 to {LARGEST} bytes"})
    clean = re.sub(r"[^\w.-]+", "_", name.rsplit("/", 1)[-1])[-100:].strip(".") or "file"
    key = f"community/{user.pk}/{uuid.uuid4()}/{clean}"
    bucket = settings.S3["bucket"]
    form = client().generate_presigned_post(
        bucket, key, Fields={"Content-Type": kind},
        Conditions=[{"Content-Type": kind}, ["content-length-range", size, size]], ExpiresIn=SECONDS,
    )
    public = (settings.S3["public_url"] or f"https://{bucket}.s3.amazonaws.com").rstrip("/")
    address = f"{public}/{bucket}/{key}" if settings.S3["public_url"] else f"{public}/{key}"
    return {"upload": form, "attachment": {"url": address, "name": clean, "size": size, "type": kind}}


def checked(given) -> list[dict]:
    """A message's attachments, as the gateway takes them too."""
    if not isinstance(given, list) or len(given) > 10:
        raise ValidationError({"attachments": "A list of at most 10"})
    prefix = settings.S3["public_url"]
    for one in given:
        if not isinstance(one, dict) or set(one) != {"url", "name", "size", "type"}:
            raise ValidationError({"attachments": "Each has url, name, size and type"})
        if not isinstance(one["url"], str) or not one["url"].startswith(prefix or "https://"):
            raise ValidationError({"attachments": "Only files that were uploaded here"})
        if not isinstance(one["type"], str) or not TYPES.match(one["type"]) or not isinstance(one["size"], int) or one["size"] > LARGEST:
            raise ValidationError({"attachments": "Type or size is not taken"})
    return given
