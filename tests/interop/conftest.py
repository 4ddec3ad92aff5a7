"""The stack and two gateways on it, for all tests; each test makes its own people and rooms."""

import asyncio
import inspect
import sys

import pytest

import djangoapp.setup
from gateway import Gateway, Stack

TEST_DEADLINE = 120.0  # seconds for one test

_STACK = pytest.StashKey[Stack]()
_gateways: list[Gateway] = []  # all that were started, for their logs


def pytest_sessionstart(session):
    """Starts the stack before the tests are imported: Django's settings name its ports."""
    stack = Stack()
    session.config.add_cleanup(stack.stop)
    session.config.stash[_STACK] = stack
    djangoapp.setup.configure(stack.urls)


@pytest.fixture(scope="session")
def stack(pytestconfig) -> Stack:
    return pytestconfig.stash[_STACK]


@pytest.fixture(scope="session")
def start(stack):
    """Starts gateways; what still runs at the end must end as asked."""
    running: list[Gateway] = []

    def start_one(name: str, **settings) -> Gateway:
        gateway = Gateway(stack, djangoapp.setup.SECRET_KEY, name, **settings)
        running.append(gateway)
        _gateways.append(gateway)
        return gateway

    yield start_one
    codes = {gateway.name: gateway.stop() for gateway in running if gateway.is_running}
    assert set(codes.values()) <= {0}, f"exit codes: {codes}"


@pytest.fixture(scope="session")
def pair(start) -> tuple[Gateway, Gateway]:
    """Two instances on one Redis, as in production but for a shorter grace."""
    return start("one", GATEWAY_PRESENCE_GRACE_SECONDS=0.2), start("two", GATEWAY_PRESENCE_GRACE_SECONDS=0.2)


@pytest.fixture
def one(pair) -> Gateway:
    return pair[0]


@pytest.fixture
def two(pair) -> Gateway:
    return pair[1]


@pytest.fixture
def realtime(stack):
    """The gateway's own database in Redis, as Django code may read it."""
    import redis

    client = redis.Redis.from_url(stack.urls["redis_url"], decode_responses=True)
    yield client
    client.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs `async def` tests, each in a loop of its own, and closes the tabs that they opened."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(_run(pyfuncitem.obj(**arguments)))
    return True


async def _run(test):
    from django.core.cache import caches
    from django.db import connections

    from client import Tab

    Tab.opened.clear()
    try:
        async with asyncio.timeout(TEST_DEADLINE):
            await test
    finally:
        await asyncio.gather(*(tab.close() for tab in Tab.opened))
        connections.close_all()  # Django keeps them for each loop
        caches.close_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the end of the gateways' logs under a test that failed."""
    report = yield
    if report.failed:
        for gateway in _gateways:
            report.sections.append((f"log of gateway {gateway.name}", "\n".join(gateway.lines[-30:])))
    return report


def pytest_report_header():
    import django
    import websockets

    return f"Django {django.__version__}, websockets {websockets.__version__}, {sys.version.split()[0]}"
