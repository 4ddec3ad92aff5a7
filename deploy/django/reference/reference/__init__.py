"""A small Django project with the gateway beside it: accounts, rooms, messages, circles, moderation."""

from .celery import app as celery_app

__all__ = ["celery_app"]
