"""One Postgres and one Redis for all tests (deploy/devstack), the reference project on a database of its own."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
ROOT = PACKAGE.parent.parent
sys.path[:0] = [str(PACKAGE), str(PACKAGE / "reference"), str(HERE)]

ORIGIN = "https://chat.example.org"
SECRET_KEY = "for tests only, and long enough for every HMAC that simplejwt can be set to"

_STACK = pytest.StashKey()


def pytest_sessionstart(session):
    """Starts the servers before tests are imported: Django's settings name their ports."""
    import psycopg

    from stack import Stack

    stack = Stack()
    session.config.add_cleanup(stack.stop)
    session.config.stash[_STACK] = stack
    parts = urlsplit(stack.urls["database_url"])
    with psycopg.connect(stack.urls["database_url"], autocommit=True) as connection:
        connection.execute("CREATE DATABASE reference")
    database = urlunsplit(parts._replace(path="/reference"))
    os.environ.update(
        DATABASE_URL=database,
        GATEWAY_REDIS_URL=stack.urls["redis_url"],
        GATEWAY_CACHE_URL=stack.urls["cache_url"],
        GATEWAY_BROKER_URL=stack.urls["broker_url"],
        SECRET_KEY=SECRET_KEY,
        CORS_ALLOWED_ORIGINS=ORIGIN,
        INSECURE_COOKIES="1",
        ALLOWED_HOSTS="*",
        DJANGO_SETTINGS_MODULE="reference.settings",
        PYTHONPATH=f"{PACKAGE}:{PACKAGE / 'reference'}",
        EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
    )
    stack.urls["database_url"] = database
    import django
    from django.conf import settings

    hashers = ["MD5PasswordHasher", "PBKDF2PasswordHasher"]  # the fast one first, for tests alone
    settings.PASSWORD_HASHERS = [f"django.contrib.auth.hashers.{name}" for name in hashers]
    django.setup()
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    call_command("migrate", verbosity=0)
    setup_test_environment()


@pytest.fixture(scope="session")
def stack(pytestconfig):
    return pytestconfig.stash[_STACK]


@pytest.fixture(autouse=True)
def fresh():
    """Nothing that a test did to the process stays: connections, the mail box, the pause after a Redis that was away."""
    from django.core import mail

    from community_gateway import publishing

    mail.outbox.clear()
    publishing._client, publishing._silent_until, publishing._layer_silent_until = None, 0.0, 0.0
    yield
    from django.db import connections

    connections.close_all()


@pytest.fixture
def heard(stack):
    """What is published for the gateways, in order."""
    from hearing import Hearing

    hearing = Hearing(stack.urls["redis_url"])
    yield hearing
    hearing.close()


@pytest.fixture(scope="session")
def gateway(stack):
    """A real gateway beside the reference project."""
    from stack import Gateway

    running = Gateway(stack, SECRET_KEY, "one", CORS_ALLOWED_ORIGINS=ORIGIN, GATEWAY_PRESENCE_GRACE_SECONDS=0.2)
    yield running
    assert running.stop() == 0


@pytest.fixture
def client():
    """Django's test client, not logged in."""
    from django.test import Client

    return Client()


@pytest.fixture
def settings_of():
    """COMMUNITY_GATEWAY with some settings changed, for a block."""
    from contextlib import contextmanager

    from django.conf import settings
    from django.test import override_settings

    @contextmanager
    def changed(**values):
        with override_settings(COMMUNITY_GATEWAY=settings.COMMUNITY_GATEWAY | values):
            yield

    return changed


@pytest.fixture
def django_queries():
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    return lambda: CaptureQueriesContext(connection)
