"""The operations API, held against its description by schemathesis, and the operator's page in a real browser."""

import subprocess
import sys

import pytest

from conftest import ADMIN_TOKEN
from gateway import Gateway

ROOM = "10000000-0000-4000-8000-000000000001"  # General
SETTINGS = f"GATEWAY_ADMIN_TOKEN=oncall:{ADMIN_TOKEN}\n"


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


def open_page(browser, operations: str):
    """The operator's page, opened with a good token."""
    page = browser.open(f"{operations}/admin/")
    page.wait("document.querySelector('#token') !== null")
    page.run("document.querySelector('#token').focus()")
    page.type(ADMIN_TOKEN)
    page.press_enter()
    page.wait_for_text("#state", "deliver")
    page.wait("getComputedStyle(document.querySelector('#door')).display === 'none'")
    return page


@pytest.fixture
def operator(dev, browser):
    page = open_page(browser, dev.operations[0])
    yield page
    page.close()
    assert browser.exceptions == []


@pytest.fixture
def third(dev, browser):
    """A gateway of the test's own."""
    gateway = Gateway(dev, "three", SETTINGS)
    yield gateway
    gateway.close()


@pytest.fixture
def of_third(third, browser):
    page = open_page(browser, third.operations)
    yield page
    page.close()
    assert browser.exceptions == []


def press(page, text: str, within: str = "#found") -> None:
    """Clicks the first button of this text."""
    button = f"[...document.querySelectorAll('{within} button')].find((one) => one.innerText === '{text}')"
    page.wait(f"{button} !== undefined")
    page.run(f"{button}.click()")


def confirm(page, question: str) -> None:
    page.wait("document.querySelector('#sure').open")
    page.wait_for_text("#sure p", question)
    page.click("#sure button[value=yes]")
    page.wait_for_text("#said", "Done: ")


def audited(said, path: str, whom: str) -> None:
    said.wait_for("an operator acted", "oncall", f"/admin/{path}", whom)


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


def test_all_instances_are_shown_with_who_is_there(operator, visit):
    visit("ada", "one")
    visit("grace", "two")
    operator.wait("[...document.querySelectorAll('#instances tbody tr')].map((row) => row.cells[0].innerText).join() === 'one,two'")
    operator.wait_for_text("#rooms tbody", "one 1")
    operator.wait_for_text("#rooms tbody", "two 1")
    operator.click("#rooms tbody button")
    operator.wait_for_text("#found", "2 people online")
    press(operator, "two", "#instances")
    operator.wait_for_text("#found", "two: 1 socket shown")
    operator.wait_for_text("#sockets tbody", ROOM)
    press(operator, "2", "#sockets")
    operator.wait_for_text("#found", "user 2: 1 socket")


def test_each_instance_has_a_line_in_every_plot_and_a_strip_for_all_it_works_with(operator):
    for name in ("one", "two"):
        line = f"[...document.querySelectorAll('#plots figure')].every((plot) => plot.querySelector('[data-instance={name}]')?.getAttribute('points').includes(' '))"
        operator.wait(line)
        for part in ("redis", "fan_out", "postgres", "cache"):
            operator.wait(f"document.querySelector('#dependencies [data-instance={name}][data-part={part}] rect.up') !== null")
    operator.wait_for_text("#dependencies", "off")  # the second layer of moderation has no key here


def test_nothing_is_cut_off(operator, visit):
    visit("ada", "one")
    for width in (1100, 700):
        operator.resize(width, 900)
        operator.wait("document.querySelectorAll('#rooms tbody tr').length > 0")
        wide = "[...document.querySelectorAll('main :is(section, div, figure, table, td, form, ul)')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
        operator.wait(f"{wide}.length === 0 && document.documentElement.scrollWidth <= innerWidth")


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


def test_who_is_kicked_leaves_the_room(operator, dev, visit):
    ken = visit("ken", "two")
    user = dev.user("ken")
    look_up(operator, ROOM)
    operator.wait_for_text("#sockets tbody", "two")
    operator.run(f"[...document.querySelectorAll('#sockets tbody tr')].find((row) => row.cells[0].innerText === '{user}').querySelector('.danger').click()")
    confirm(operator, f"Kick user {user}")
    ken.wait("document.body.innerText.includes('4003')")
    audited(dev, "rooms/{room}/kick", f"user:{user}")


def test_a_notice_reaches_a_client(operator, third, of_third, dev):
    with third.enter_and_fall_silent(dev.user("ada"), ROOM) as ada:
        of_third.run("document.querySelector('#text').value = 'We move at noon.'")
        of_third.run(f"document.querySelector('#room').value = '{ROOM}'")
        of_third.click("#notice button")
        confirm(of_third, f"Tell those in {ROOM} this?")
        heard = b""
        while b"We move at noon." not in heard:
            heard += ada.recv(4096) or pytest.fail(f"the socket ended: {heard!r}")
    audited(third.said, "notices", f"room:{ROOM}")


def test_more_is_logged_and_then_as_usual(operator, dev):
    look_up(operator, "3")
    press(operator, "Log more for ten minutes")
    confirm(operator, "Log all that is done")
    audited(dev, "users/{user}/log", "user:3 level:debug")
    press(operator, "Log as usual")
    confirm(operator, "Log no more")
    audited(dev, "users/{user}/log", "user:3 level:off")


def test_limits_that_were_hit_are_shown_of_a_user_and_of_a_room(operator, dev, visit):
    # Somebody who has nothing to say in the tests that come after.
    margaret = visit("margaret", "two")
    for number in range(12):
        margaret.run(f"document.querySelector('#text').value = 'number {number}'")
        margaret.click("#send")
    margaret.wait_for_text("#error", "")
    for what in (dev.user("margaret"), ROOM):
        margaret.wait("document.querySelector('#error').innerText !== ''")
        look_up(operator, what)
        operator.wait_for_text("#limits tbody", "send_message")


def test_what_is_read_again_shows_its_version_and_what_waits(third, of_third):
    of_third.wait_for_text("#version", "version 1 since")
    third.set(SETTINGS + "GATEWAY_LIMIT_MESSAGES_PER_MINUTE=7\nGATEWAY_DB_POOL=7\n")
    of_third.click("#reload button")
    of_third.wait("document.querySelector('#sure').open")
    of_third.click("#sure button[value=yes]")
    of_third.wait_for_text("#said", "three: applied (version 2)")
    of_third.wait_for_text("#version", "version 2 since")
    of_third.wait_for_text("#version", "needs a restart: GATEWAY_DB_POOL")
    of_third.wait_for_text("#instances tbody", "needs a restart: GATEWAY_DB_POOL")
    of_third.run("document.querySelector('#effective').open = true")
    shown = "[...document.querySelectorAll('#settings tbody tr')].map((row) => row.innerText.replaceAll('\\t', ' ')).join('|')"
    of_third.wait(f"{shown}.includes('GATEWAY_LIMIT_MESSAGES_PER_MINUTE 7')")
    of_third.wait(f"{shown}.includes('SECRET_KEY ***')")
    audited(third.said, "reload", "everything")
    of_third.run("(() => { const whose = document.querySelector('#whose'); whose.value = 'one'; whose.onchange(); })()")
    of_third.wait_for_text("#version", "version 1 since")


def test_an_instance_drains_when_it_is_confirmed(operator, third, of_third, dev):
    operator.wait_for_text("#instances tbody", "three")
    drain = "[...document.querySelectorAll('#instances tbody tr')].find((row) => row.cells[0].innerText === '%s').querySelector('.danger')"
    assert operator.run((drain % "three") + ".disabled"), "only its own page drains an instance"
    with third.enter_and_fall_silent(dev.user("ada"), ROOM):
        assert third.ready() == 200
        of_third.run((drain % "three") + ".click()")
        confirm(of_third, "Drain three and end it?")
        while (status := third.ready()) == 200:
            pass  # the answer to the operator goes before
        assert status == 503
    assert third.exit_code() == 0
    audited(third.said, "drain", "instance:three")
    operator.wait("!document.querySelector('#instances tbody').innerText.includes('three')")


def test_redis_away_is_shown_while_it_lasts_and_afterwards(operator, dev):
    part = "#dependencies [data-instance=one][data-part=redis]"
    operator.wait(f"document.querySelector('{part} rect.up') !== null")
    with dev.redis_away():
        operator.wait_for_text("#state", "Redis is away: only this instance is shown")
        operator.wait(f"document.querySelector('{part} rect.down') !== null")
        operator.wait_for_text("#outages", "one: Redis answers is away since")
    operator.wait_for_text("#state", "deliver")
    operator.wait_for_text("#state", "all")
    operator.wait_for_text("#outages", "one: Redis answers was away from")
    assert operator.run(f"document.querySelector('{part} rect.down') !== null"), "the strip remembers"


def test_who_is_unknown_or_no_id_is_told(operator):
    look_up(operator, "ada")
    operator.wait_for_text("#found-error", "a user is a number")
    look_up(operator, "999999")
    operator.wait_for_text("#found", "0 sockets")
