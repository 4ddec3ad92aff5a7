"""The reference project's page in a real browser: what people and moderators do shows in the other window."""

import os
import subprocess
import sys
import threading
import time
import urllib.request

import people
import pytest
from conftest import PACKAGE, ROOT, SECRET_KEY
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import override_settings
from stack import Gateway

sys.path.append(str(ROOT / "tests" / "page"))
from browser import Browser  # noqa: E402 (its folder must be known first)

STATUS = "document.querySelector('#status').innerText"


@pytest.fixture(scope="module")
def site(stack):
    """The project on `runserver`, and a gateway that lets its pages in."""
    from test_canary import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    beside = Gateway(stack, SECRET_KEY, "page", CORS_ALLOWED_ORIGINS=url, GATEWAY_PRESENCE_GRACE_SECONDS=0.2)
    settings = {"DEBUG": "1", "GATEWAY_URLS": f"ws://{beside.public}", "CORS_ALLOWED_ORIGINS": url, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"], env=os.environ | settings,
        cwd=PACKAGE / "reference", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Quit the server with" in line:
            break
    else:
        raise AssertionError("".join(lines))
    rest = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    rest.start()
    until = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=20).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < until, "".join(lines)
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(30)
    assert beside.stop() == 0


@pytest.fixture(scope="module")
def browser():
    running = Browser()
    yield running
    running.close()
    assert running.exceptions == []


@pytest.fixture
def visit(site, browser):
    """Opens the page as somebody in a window of their own, and waits until they are in a room."""
    opened = []

    def one(user, room):
        cache.delete("throttle_login_127.0.0.1")
        # As the project in the other process hashes, which is not in a hurry.
        type(user).objects.filter(pk=user.pk).update(password=make_password("secret", hasher="pbkdf2_sha256"))
        page = browser.open(site)
        opened.append(page)
        page.wait("!document.querySelector('#login').hidden")
        for name, value in {"username": user.username, "password": "secret"}.items():
            page.run(f"document.querySelector('#{name}').focus()")
            page.type(value)
        page.press_enter()
        page.wait("document.querySelectorAll('#rooms button').length > 0")
        page.run(f"[...document.querySelectorAll('#rooms button')].find((one) => one.innerText === '{room.name}').click()")
        page.wait(f"{STATUS} === 'connected' && document.querySelector('#room-name').innerText === '{room.name}'")
        return page

    yield one
    for page in opened:
        page.close()


def say(page, text: str) -> None:
    page.run("document.querySelector('#text').focus()")
    page.type(text)
    page.press_enter()


def test_two_people_talk_and_a_moderator_is_heard(visit, client, site):
    ada, grace, boss = people.user(), people.user(), people.moderator()
    room = people.room(ada, grace, position=-1)
    one, other = visit(ada, room), visit(grace, room)
    say(one, f"hello @{grace.username}")
    other.wait_for_text("#messages li.mention .text", f"hello @{grace.username}")
    other.wait_for_text("#notice", f"{ada.username} mentioned you")

    other.run("window.prompt = () => 'rude'; document.querySelector('#messages li button').click()")
    other.wait_for_text("#notice", "Reported.")
    item = room.messages.get().queue_items.get()
    client.force_login(boss)
    form = {"_duration": "", "review_notes": "", "_decision": "hide"}
    client.post(f"/admin/community/moderationqueue/{item.pk}/change/", form)
    other.wait("document.querySelectorAll('#messages li').length === 0")
    one.wait_for_text("#notice", "A moderator: removed")
    client.post(f"/admin/community/moderationqueue/{item.pk}/change/", form | {"_decision": "approve"})
    other.wait_for_text("#messages li .text", "hello")

    client.post(f"/admin/community/moderationqueue/{item.pk}/change/", form | {"_decision": "ban"})
    one.wait(f"{STATUS} === 'closed'")
    one.wait_for_text("#notice", "4003")
    other.wait(f"{STATUS} === 'connected'")


def test_logging_out_everywhere_shows_in_the_other_window(visit):
    ada = people.user()
    room = people.room(ada, position=-2)
    one, other = visit(ada, room), visit(ada, room)
    one.run("document.querySelector('#logout').click()")
    for page in (one, other):
        page.wait("!document.querySelector('#login').hidden")


def test_demo_people_are_for_development_alone():
    with pytest.raises(CommandError, match="DEBUG=1"):
        call_command("demo")
    for _ in range(2):
        with override_settings(DEBUG=True):
            call_command("demo")
    ada = get_user_model().objects.get(username="ada")
    assert ada.room_memberships.count() == 2 and ada.check_password("demo")
