"""The package as pip installs it: in a venv of its own, with nothing of this tree on the path."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import PACKAGE

# A project without Celery, Channels or Firebase, and with no model of a chat.
PROJECT = """
import sys

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    SECRET_KEY="for a test",
    INSTALLED_APPS=["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
                    "django.contrib.sessions", "community_gateway"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {
        "context_processors": ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
                               "django.contrib.messages.context_processors.messages"]}}],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
                "django.contrib.messages.middleware.MessageMiddleware"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    COMMUNITY_GATEWAY={"MODELS": dict.fromkeys(["room", "message", "thread", "membership", "dm", "block", "queue", "action",
                                                "circle_membership"], "")},
)
django.setup()
import community_gateway
from community_gateway.models import Device
from django.core.management import get_commands, load_command_class
from django.template.loader import get_template

assert community_gateway.__file__.startswith(sys.prefix), community_gateway.__file__
call_command("check", fail_level="WARNING")
call_command("migrate", "community_gateway", verbosity=0)
call_command("makemigrations", "community_gateway", check=True, dry_run=True, verbosity=0)
assert Device.objects.count() == 0
for name in ("gateway_selftest", "gateway_status"):
    load_command_class(get_commands()[name], name).print_help("manage.py", name)
for name in ("admin/community_gateway/queue.html", "community_gateway/digest.txt", "community_gateway/digest_subject.txt"):
    get_template(name)
print("all is there")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A venv with the wheel in it, and the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()  # setuptools leaves things where it builds
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PACKAGE / name, source)
    shutil.copytree(PACKAGE / "community_gateway", source / "community_gateway", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder / "dist", source], check=True)
    (wheel,) = (folder / "dist").iterdir()
    subprocess.run([*pip, "install", wheel], check=True)
    return python, wheel


def test_a_wheel_holds_every_file_of_the_package_and_no_other(built):
    names = {name for name in zipfile.ZipFile(built[1]).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / "community_gateway").rglob("*") if path.is_file()}
    assert names == {name for name in files if "__pycache__" not in name}


def test_it_works_where_nothing_else_is_installed(built, tmp_path):
    clean = {name: value for name, value in os.environ.items()
             if name not in ("PYTHONPATH", "DJANGO_SETTINGS_MODULE") and not name.startswith("GATEWAY_")}
    done = subprocess.run([built[0], "-c", PROJECT], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is there\n") and "--no-handover" in done.stdout
