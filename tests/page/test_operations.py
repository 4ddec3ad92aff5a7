"""The operations API, held against its description by schemathesis, and the operator's page in a real browser."""

import subprocess
import sys

import pytest

from conftest import ADMIN_TOKEN


def test_the_api_does_what_its_description_says(dev, tmp_path):
    command = [
        "run", f"{dev.operations[0]}/admin/openapi.json", "--header", f"Authorization: Bearer {ADMIN_TOKEN}",
        "--exclude-path", "/admin/drain",  # which would end it; the behaviour tests have it
        "--max-examples", "25", "--seed", "7", "--no-color",
    ]
    # By its module: a script's first line may be too long for the system.
    run = subprocess.run(
        [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout


@pytest.fixture
def operator(dev, browser):
    """The operator's page, opened with a good token."""
    page = browser.open(f"{dev.operations[0]}/admin/")
    page.wait("document.querySelector('#token') !== null")
    page.run("document.querySelector('#token').focus()")
    page.type(ADMIN_TOKEN)
    page.press_enter()
    page.wait_for_text("#state", "all 2 deliver")
    page.wait("getComputedStyle(document.querySelector('#door')).display === 'none'")
    yield page
    page.close()
    assert browser.exceptions == []


def look_up(page, what: str) -> None:
    page.run(f"document.querySelector('#what').value = '{what}'")
    page.click("#look button")


def test_a_wrong_token_opens_nothing(dev, browser):
    page = browser.open(f"{dev.operations[0]}/admin/")
    page.wait("document.querySelector('#token') !== null")
    page.run("document.querySelector('#token').value = 'not-a-token-of-this-place-at-all'")
    page.click("#door button")
    page.wait_for_text("#door-error", "bearer token")
    assert page.run("document.querySelector('#inside').hidden")
    page.close()


def test_both_instances_are_shown_with_who_is_there(operator, visit):
    visit("ada", "one")
    visit("grace", "two")
    operator.wait("[...document.querySelectorAll('#instances tbody tr')].map((row) => row.cells[0].innerText).join() === 'one,two'")
    operator.wait_for_text("#rooms tbody", "one 1, two 1")
    operator.wait("[...document.querySelectorAll('#plots polyline')].every((line) => line.getAttribute('points').includes(' '))")
    operator.click("#rooms tbody button")
    operator.wait_for_text("#found", "2 people online")


def test_an_action_is_asked_for_once_more_and_then_done(operator, visit):
    linus = visit("linus", "two")
    look_up(operator, "3")
    operator.wait_for_text("#found", "1 socket")
    operator.click("#found .danger")
    operator.wait("document.querySelector('#sure').open")
    operator.click("#sure button[value=no]")
    operator.wait("!document.querySelector('#sure').open")
    operator.click("#found .danger")
    operator.click("#sure button[value=yes]")
    operator.wait_for_text("#said", "Done: Disconnect user 3")
    linus.wait_for_text("#status", "4001")
    linus.wait_for_text("#status", "connected")


def test_who_is_unknown_or_no_id_is_told(operator):
    look_up(operator, "ada")
    operator.wait_for_text("#found-error", "a user is a number")
    look_up(operator, "999999")
    operator.wait_for_text("#found", "0 sockets")
