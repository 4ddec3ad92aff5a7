"""Configures Django as the app does. Must run before anything else of Django is imported."""

import os
from urllib.parse import urlsplit

import django
from django.conf import settings

SECRET_KEY = "for interop tests only, and long enough for every HMAC that simplejwt can be set to"
ACCESS_COOKIE = "access_token"
LAYERS = {
    "core": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
# As the app has it; the other layer keeps nothing.
CAPACITIES = {"core": {"capacity": 3000, "expiry": 15}, "pubsub": {}}


def configure(stack: dict, layer: str = "core") -> None:
    """`stack` is the line that deploy/devstack prints, `layer` one of `LAYERS`."""
    # The tests block on Postgres in the event loop, on purpose: it is next door, and nothing else runs there.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    database = urlsplit(stack["database_url"])
    settings.configure(
        SECRET_KEY=SECRET_KEY,
        USE_TZ=True,
        TIME_ZONE="UTC",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "djangoapp"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": database.hostname,
                "PORT": database.port,
                "USER": database.username,
                "NAME": database.path.lstrip("/"),
            }
        },
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": stack["cache_url"],
                "KEY_PREFIX": "allthrive",
                "TIMEOUT": 300,
                "VERSION": 1,
            }
        },
        CHANNEL_LAYERS={
            "default": {"BACKEND": LAYERS[layer], "CONFIG": {"hosts": [stack["redis_url"]]} | CAPACITIES[layer]}
        },
        SIMPLE_JWT={"ALGORITHM": "HS256", "SIGNING_KEY": SECRET_KEY, "USER_ID_CLAIM": "user_id"},
    )
    django.setup()
