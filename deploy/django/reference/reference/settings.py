"""Settings from the environment, under the same names as the gateway's where both have them."""

import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent


def listed(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


DEBUG = os.environ.get("DEBUG", "") == "1"
SECRET_KEY = os.environ["SECRET_KEY"]
ALLOWED_HOSTS = listed("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CORS_ALLOWED_ORIGINS = listed("CORS_ALLOWED_ORIGINS")  # whose sockets are let in: the same list as the gateway's
CSRF_TRUSTED_ORIGINS = CORS_ALLOWED_ORIGINS

INSTALLED_APPS = [
    "daphne",  # gives `runserver` sockets; before staticfiles
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "channels",
    "rest_framework",
    "core.users",
    "core.thrive_circle",
    "core.community",
    "community_gateway",
    *listed("EXTRA_APPS"),  # community_gateway.indexes, for who wants the partial indexes
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "reference.urls"
ASGI_APPLICATION = "reference.asgi.application"
WSGI_APPLICATION = "reference.wsgi.application"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "web"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "users.User"

_database = urlsplit(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _database.hostname,
        "PORT": _database.port,
        "USER": _database.username,
        "PASSWORD": _database.password,
        "NAME": _database.path.lstrip("/"),
        "OPTIONS": {"options": "-c statement_timeout=30000"},
    }
}

_cache_url = os.environ.get("GATEWAY_CACHE_URL") or os.environ.get("CACHE_URL", "redis://127.0.0.1:6379/2")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": _cache_url,
        "KEY_PREFIX": os.environ.get("GATEWAY_CACHE_PREFIX", "allthrive"),
        "TIMEOUT": 300,
        "VERSION": 1,
    }
}

REALTIME_URL = os.environ.get("GATEWAY_REDIS_URL", "redis://127.0.0.1:6379/3")
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [REALTIME_URL], "capacity": 3000, "expiry": 15},
    }
}

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or os.environ.get("GATEWAY_BROKER_URL", "redis://127.0.0.1:6379/0")
CELERY_TASK_IGNORE_RESULT = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BEAT_SCHEDULE = {
    "digests": {"task": "community_gateway.tasks.send_digests", "schedule": 3600},
    "expired": {"task": "community_gateway.tasks.end_expired_actions", "schedule": 60},
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["core.users.login.CookieLogin"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_THROTTLE_RATES": {"login": "10/min"},
}
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": SECRET_KEY,
    "USER_ID_CLAIM": "user_id",
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=7),
}
JWT_ACCESS_COOKIE = os.environ.get("GATEWAY_JWT_COOKIE", "access_token")
JWT_REFRESH_COOKIE = "refresh_token"
JWT_COOKIE_SECURE = not DEBUG and os.environ.get("INSECURE_COOKIES", "") != "1"
LOGIN_URL = "/login/"

EMAIL_BACKEND = os.environ.get("EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend")  # SES in production
DEFAULT_FROM_EMAIL = os.environ.get("DEFAULT_FROM_EMAIL", "community@localhost")

# What the old consumers let one user send in a minute; 0 lets all through, for measurements.
MESSAGES_PER_MINUTE = int(os.environ.get("GATEWAY_LIMIT_MESSAGES_PER_MINUTE", "10"))

# Attachments: MinIO or S3, uploaded by the browser itself with a request that is signed here. Without a bucket or an
# endpoint there are none.
S3 = {
    "endpoint_url": os.environ.get("S3_ENDPOINT_URL") or None,
    "public_url": os.environ.get("S3_PUBLIC_URL") or os.environ.get("S3_ENDPOINT_URL", ""),
    "bucket": os.environ.get("S3_BUCKET") or ("attachments" if os.environ.get("S3_ENDPOINT_URL") else ""),
    "region": os.environ.get("S3_REGION", "us-east-1"),
}

# What the chat page may connect to.
GATEWAY_URLS = listed("GATEWAY_URLS") or [os.environ.get("GATEWAY_PUBLIC_URL", "ws://127.0.0.1:8001")]

COMMUNITY_GATEWAY = {
    "REDIS_URL": REALTIME_URL,
    "PUBLIC_URL": os.environ.get("GATEWAY_PUBLIC_URL", "ws://127.0.0.1:8001"),
    "OPS_URLS": listed("GATEWAY_OPS_URLS", "http://127.0.0.1:9101"),
    "ORIGIN": CORS_ALLOWED_ORIGINS[0] if CORS_ALLOWED_ORIGINS else "",
    "FIREBASE_CREDENTIALS": os.environ.get("FIREBASE_CREDENTIALS", ""),
    "TRANSPORT": os.environ.get("GATEWAY_TRANSPORT", "redis"),
}
