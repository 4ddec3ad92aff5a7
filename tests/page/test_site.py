"""The reference site of deploy/dev in real browsers: people on both gateways and on Daphne, and a moderator in the admin."""

import pytest

STATUS = "document.querySelector('#status').innerText"
TEXTS = "#messages li .text"
QUEUE = "/admin/community/moderationqueue/"


def fill(page, values: dict[str, str]) -> None:
    for selector, value in values.items():
        page.run(f"document.querySelector('{selector}').focus()")
        page.type(value)
    page.press_enter()


@pytest.fixture
def enter(dev, browser):
    """Logs in on the site as a person in a browser of their own, and waits until they are in the General forum by way of a
    gateway: 0, 1, or 2 for Daphne's own consumers."""
    opened = []

    def one(user: str, gateway: int = 0):
        dev.forget_logins()
        page = browser.open(dev.site)
        opened.append(page)
        page.wait("!document.querySelector('#login').hidden")
        fill(page, {"#username": user, "#password": "demo"})
        connected(page)
        page.run(f"""(() => {{ const gateways = document.querySelector('#gateway');
            gateways.selectedIndex = {gateway}; gateways.dispatchEvent(new Event('change')); }})()""")
        connected(page)
        return page

    yield one
    for page in opened:
        page.close()
    assert browser.exceptions == []


@pytest.fixture
def moderate(dev, browser):
    """Logs in to the admin as the moderator, and clicks a decision about the message with some text."""
    page = browser.open(dev.site + "/admin/login/?next=" + QUEUE)
    page.wait("document.querySelector('#id_password') !== null")
    fill(page, {"#id_username": "margaret", "#id_password": "demo"})

    def decide(text: str, decision: str) -> None:
        page.wait(f"location.pathname === '{QUEUE}' && document.readyState === 'complete'")
        page.run("window.old = true; location.reload()")
        page.wait("!window.old && document.readyState === 'complete' && document.querySelector('#result_list') !== null")
        row = f"[...document.querySelectorAll('#result_list tr')].find((row) => row.innerText.includes('{text}'))"
        page.run(f"{row}.querySelector('a').click()")
        page.wait("document.readyState === 'complete' && document.querySelector('[name=_decision]') !== null")
        page.click(f"[name=_decision][value={decision}]")
        page.wait(f"location.pathname === '{QUEUE}' && document.querySelector('.messagelist .success') !== null")

    yield decide
    page.close()


def connected(page) -> None:
    page.wait(f"{STATUS} === 'connected' && document.querySelector('#room-name').innerText === 'General'")


def say(page, text: str) -> None:
    page.run("document.querySelector('#text').focus()")
    page.type(text)
    page.press_enter()


def sees(page, text: str) -> None:
    page.wait(f"[...document.querySelectorAll('{TEXTS}')].some((one) => one.innerText === '{text}')")


def sees_no(page, text: str) -> None:
    page.wait(f"![...document.querySelectorAll('{TEXTS}')].some((one) => one.innerText === '{text}')")


def beside(page, text: str, button: str) -> None:
    """Clicks a button beside a message."""
    page.run(f"""[...document.querySelectorAll('#messages li')].find((item) => item.textContent.includes('{text}'))
        .querySelectorAll('button').forEach((one) => one.textContent === '{button}' && one.click())""")


def test_two_people_on_two_gateways_talk_and_mention(enter):
    ada, grace = enter("ada"), enter("grace", 1)
    for page in (ada, grace):
        page.wait("document.querySelector('#online').innerText.includes('ada')"
                  " && document.querySelector('#online').innerText.includes('grace')")
    ada.run("document.querySelector('#text').focus()")
    ada.type("hello @grace")
    grace.wait_for_text("#typing", "ada is typing")
    ada.press_enter()
    grace.wait_for_text("#messages li.mention .text", "hello @grace")
    grace.wait_for_text("#notice", "ada mentioned you")
    say(grace, "hello ada")
    for page in (ada, grace):
        sees(page, "hello ada")
        assert page.texts(TEXTS)[-2:] == ["hello @grace", "hello ada"], "each once"


def test_what_a_moderator_clicks_in_the_admin_shows_in_the_other_browsers(enter, moderate):
    linus, grace = enter("linus"), enter("grace", 1)
    say(linus, "buy my watches")
    sees(grace, "buy my watches")
    grace.run("window.prompt = () => 'nobody asked'")
    beside(grace, "buy my watches", "report")
    grace.wait_for_text("#notice", "Reported.")

    moderate("buy my watches", "hide")
    sees_no(grace, "buy my watches")
    linus.wait_for_text("#notice", "A moderator: removed")
    moderate("buy my watches", "approve")
    sees(grace, "buy my watches")

    moderate("buy my watches", "ban")
    linus.wait(f"{STATUS} === 'closed'")
    linus.wait_for_text("#notice", "4003")
    grace.wait("!document.querySelector('#online').innerText.includes('linus')")
    assert grace.run(STATUS) == "connected"


def test_a_block_separates_at_once(enter):
    ada, ken = enter("ada"), enter("ken", 1)
    say(ken, "pst, ada")
    sees(ada, "pst, ada")
    beside(ada, "pst, ada", "block")
    ada.wait_for_text("#notice", "Blocked.")
    sees_no(ada, "pst, ada")
    ada.wait("!document.querySelector('#online').innerText.includes('ken')")
    say(ken, "do you hear me?")
    sees(ken, "do you hear me?")
    say(ada, "it is quiet here")
    sees(ada, "it is quiet here")
    assert "do you hear me?" not in ada.texts(TEXTS)
    assert "it is quiet here" not in ken.texts(TEXTS)


def test_a_room_has_members_on_the_gateways_and_on_daphne(enter):
    old, new = enter("grace", 2), enter("ada")
    assert "(Daphne)" in old.run("document.querySelector('#gateway').selectedOptions[0].innerText")
    say(old, "written on Daphne")
    sees(new, "written on Daphne")
    say(new, "written on a gateway")
    for page in (old, new):
        sees(page, "written on a gateway")
        assert page.texts(TEXTS)[-2:] == ["written on Daphne", "written on a gateway"], "each once"


def test_who_is_away_and_named_is_told_by_the_worker(dev, enter):
    say(enter("ada"), "where are you, @barbara?")
    dev.wait_for("Task community_gateway.tasks.notify_mention")
