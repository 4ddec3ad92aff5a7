"""The system checks say what is wrong with the settings, all at once."""

from community_gateway.checks import check
from community_gateway.conf import MODELS


def ids(**values):
    return sorted(problem.id.split(".")[1] for problem in check())


def test_the_reference_project_has_nothing_wrong():
    assert check() == []


def test_a_name_that_is_not_known_is_told_with_the_nearest(settings_of):
    with settings_of(REDIS_ULR="x"):
        (problem,) = check()
    assert (problem.id, problem.hint) == ("community_gateway.W002", "Did you mean REDIS_URL?")


def test_every_wrong_value_is_told(settings_of):
    wrong = {"REDIS_URL": "http://x", "PUBLIC_URL": "x", "REDIS_TIMEOUT": 0, "TOKEN_SECONDS": "60", "REDIS_PAUSE": -1,
             "NOTIFICATION_TEXT": None, "TRANSPORT": "smoke", "CACHE": "none", "SIGNALS": ["weather"], "OPS_URLS": "x",
             "TASKS": {"wedding": "x"}}
    with settings_of(**wrong):
        found = [problem.msg for problem in check()]
    assert len(found) == len(wrong)
    assert all(any(f"['{name}']" in message for message in found) for name in wrong)


def test_models_that_are_not_there_or_cannot_be_it_are_told(settings_of):
    with settings_of(MODELS={"room": "community.Nothing", "message": "users.User", "circle_membership": "", "cat": "x.Y"}):
        assert ids() == ["E004", "E005", "W002"]
    assert set(MODELS) >= {"room", "message"}


def test_a_project_without_circles_and_blocks_works(settings_of, heard):
    import people
    from core.community.models import Message

    with settings_of(MODELS={"circle_membership": "", "block": "", "dm": ""}):
        ada = people.user()
        Message.objects.create(room=people.room(ada), author=ada, content="x")
    assert len(heard.all()) == 1


def test_settings_that_are_no_dict():
    from django.test import override_settings

    with override_settings(COMMUNITY_GATEWAY=["x"]):
        assert ids() == ["E001"]


def test_the_package_stands_on_django_and_redis_alone():
    """Imported with nothing else installed: what is extra is imported where it is used."""
    import subprocess
    import sys

    script = (
        "import sys, importlib.abc\n"
        "class No(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('celery', 'channels', 'firebase_admin', 'rest_framework', 'websockets', 'boto3'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.auth', 'django.contrib.contenttypes', 'community_gateway'],\n"
        "    DATABASES={}, COMMUNITY_GATEWAY={'MODELS': dict.fromkeys(['room', 'message', 'thread', 'membership', 'dm',\n"
        "    'block', 'queue', 'action', 'circle_membership'], '')})\n"
        "import django; django.setup()\n"
        "from django.core.checks import run_checks\n"
        "assert run_checks() == [], run_checks()\n"
        "import community_gateway.views, community_gateway.moderation, community_gateway.notifications\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
