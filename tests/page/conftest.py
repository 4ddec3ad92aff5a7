"""deploy/dev and a browser, for all tests of the page."""

import pytest

from browser import Browser
from dev import Dev


ADMIN_TOKEN = "a-token-of-the-tests-that-is-long-enough"


@pytest.fixture(scope="session")
def dev():
    run = Dev(GATEWAY_PRESENCE_GRACE_SECONDS=1, GATEWAY_LIMIT_CONNECTS_PER_MINUTE=0,
              GATEWAY_ADMIN_TOKEN=f"oncall:{ADMIN_TOKEN}")
    yield run
    run.close()


@pytest.fixture(scope="session")
def browser():
    chromium = Browser()
    yield chromium
    chromium.close()


@pytest.fixture
def visit(dev, browser):
    """Opens the chat page as a person on a gateway, and waits until the room is there."""
    opened = []

    def enter(user: str, gateway: str, room: str = "General"):
        page = browser.open(f"{dev.page}/?user={user}&gateway={gateway}&room={room.replace(' ', '%20')}")
        opened.append(page)
        page.wait_for_text("#status", "connected")
        return page

    yield enter
    for page in opened:
        page.close()
    assert browser.exceptions == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the end of the log under a test that failed."""
    report = yield
    if report.failed and isinstance(run := item.funcargs.get("dev"), Dev):
        report.sections.append(("deploy/dev", run.log()))
    return report
