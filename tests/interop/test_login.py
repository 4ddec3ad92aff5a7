"""Who is let in: tokens from Django's cache, JWTs from simplejwt, sessions that Django has ended."""

import asyncio
import itertools
import json
import os
import secrets
import subprocess
from datetime import UTC, datetime, timedelta

import jwt
import pytest
import redis
from django.core.cache import cache
from rest_framework_simplejwt.tokens import RefreshToken

from client import dial, enter, room_path
from djangoapp import people
from djangoapp.setup import SECRET_KEY
from gateway import binary

NOT_AUTHENTICATED = 4001


async def who(gateway, room, **credentials) -> str:
    """The user as whom these credentials are let in."""
    tab = await dial(gateway, room_path(room), **credentials)
    return (await tab.until("user_joined"))["userId"]


async def is_refused(gateway, room, **credentials) -> bool:
    tab = await dial(gateway, room_path(room), **credentials)
    code = await tab.close_code()
    assert not tab.events, "who is not let in is told nothing"
    return code == NOT_AUTHENTICATED


async def test_a_token_of_django_lets_in_once_among_many_who_show_it_at_once(one, two):
    ada = people.user()
    room = people.room(ada)
    token = people.connection_token(ada)
    doors = itertools.islice(itertools.cycle((one, two)), 20)
    tabs = await asyncio.gather(*(dial(door, room_path(room), connection_token=token) for door in doors))

    async def outcome(tab):
        try:
            return (await tab.next())["event"]
        except AssertionError:
            return await tab.close_code()

    outcomes = await asyncio.gather(*map(outcome, tabs))
    assert sorted(outcomes, key=str) == [NOT_AUTHENTICATED] * 19 + ["room_state"]
    assert cache.get(f"ws_conn_token:{token}") is None


async def test_tokens_are_read_whatever_the_page_and_the_name_are(one):
    room = people.room()
    for username, overrides in (
        ("Zoë-李雷-🦀", {"connection_id": "community-room-1700000000000"}),
        ("ada", {"extra": [1, {"nested": (None, b"x")}], "created_at": 1_700_000_000}),
        ("grace", {"username": "shared", "connection_id": "shared"}),
    ):
        user = people.user(username=username)
        assert await who(one, room, connection_token=people.connection_token(user, **overrides)) == str(user.pk)


async def test_a_token_in_json_is_as_good(one, stack):
    ada = people.user()
    token = secrets.token_urlsafe(32)
    value = {"user_id": ada.pk, "username": ada.username, "connection_id": None, "created_at": 1.5, "used": False}
    with redis.Redis.from_url(stack.urls["cache_url"]) as raw:
        raw.set(f"allthrive:1:ws_conn_token:{token}", json.dumps(value), ex=60)
    assert await who(one, people.room(), connection_token=token) == str(ada.pk)


@pytest.mark.parametrize("form", ["django", "json"])
async def test_tokens_that_the_gateway_mints_are_as_good_as_django_s(one, stack, form):
    ada = people.user(username="Zoë")
    environment = {"DATABASE_URL": stack.urls["database_url"], "GATEWAY_CACHE_URL": stack.urls["cache_url"]}
    command = [binary(), "token", "--user", str(ada.pk), "--count", "2", "--format", form]
    first, second = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
    assert len({first, second}) == 2 and {len(first), len(second)} == {43}
    if form == "django":
        value = cache.get(f"ws_conn_token:{first}")
        assert abs(value.pop("created_at") - datetime.now(UTC).timestamp()) < 30
        assert value == {"user_id": ada.pk, "username": ada.username, "connection_id": None, "used": False}
    room = people.room()
    assert await who(one, room, connection_token=first) == str(ada.pk)
    assert await is_refused(one, room, connection_token=first)


class Hostile:
    """What a pickle from an attacker runs when it is read by Python."""

    def __reduce__(self):
        return os.getcwd, ()


@pytest.mark.parametrize(
    "overrides",
    [{"used": True}, {"used": 0}, {"user_id": None}, {"user_id": "nobody"}, {"user_id": -1}, {"user_id": Hostile()}],
    ids=str,
)
async def test_a_token_that_is_not_good_is_used_up_all_the_same(one, overrides):
    token = people.connection_token(people.user(), **overrides)
    assert await is_refused(one, people.room(), connection_token=token)
    assert cache.get(f"ws_conn_token:{token}") is None


async def test_nobody_and_nonsense_are_not_let_in(one):
    room = people.room()
    assert await is_refused(one, room)
    assert await is_refused(one, room, connection_token=secrets.token_urlsafe(32))
    assert await is_refused(one, room, connection_token="*" * 43)
    assert await is_refused(one, room, token="a.b.c")


async def test_a_token_of_somebody_inactive_or_unknown_is_refused(one):
    room = people.room()
    assert await is_refused(one, room, connection_token=people.connection_token(people.user(is_active=False)))
    gone = people.user()
    token = people.connection_token(gone)
    gone.delete()
    assert await is_refused(one, room, connection_token=token)


async def test_a_jwt_lets_in_by_cookie_and_by_query(one):
    ada = people.user()
    room = people.room()
    assert await who(one, room, cookie=people.access_jwt(ada)) == str(ada.pk)
    assert await who(one, room, token=people.access_jwt(people.user())) != str(ada.pk)
    without_version = people.access_jwt(people.user(), session_version=None)
    assert "session_version" not in jwt.decode(without_version, options={"verify_signature": False})
    assert await who(one, room, token=without_version)


async def test_the_token_decides_then_the_cookie_then_the_query(one):
    room = people.room()
    ada, grace, ken = (people.user() for _ in range(3))
    good = people.connection_token(ada)
    assert await who(
        one, room, connection_token=good, cookie=people.access_jwt(grace), token=people.access_jwt(ken)
    ) == str(ada.pk)
    assert await who(one, room, cookie=people.access_jwt(grace), token=people.access_jwt(ken)) == str(grace.pk)
    assert await who(one, room, connection_token="", cookie="", token=people.access_jwt(ken)) == str(ken.pk)
    # A bad one does not fall through to the next.
    assert await is_refused(one, room, connection_token=good, cookie=people.access_jwt(grace))
    assert await is_refused(one, room, cookie="a.b.c", token=people.access_jwt(ken))


async def test_jwts_that_simplejwt_would_refuse_are_refused(one):
    ada = people.user()
    room = people.room()
    assert await is_refused(one, room, token=people.access_jwt(ada, lifetime=timedelta(seconds=-1)))
    assert await is_refused(one, room, token=str(RefreshToken.for_user(ada)))
    claims = jwt.decode(people.access_jwt(ada), SECRET_KEY, algorithms=["HS256"])
    assert await is_refused(one, room, token=jwt.encode(claims, SECRET_KEY[::-1], "HS256"))
    assert await is_refused(one, room, token=jwt.encode(claims, SECRET_KEY, "HS512"))
    assert await is_refused(one, room, token=jwt.encode(claims, None, "none"))
    assert await who(one, room, token=jwt.encode(claims, SECRET_KEY, "HS256")) == str(ada.pk)


async def test_a_logout_everywhere_ends_the_jwts_of_before(one):
    ada = people.user()
    room = people.room()
    before = people.access_jwt(ada)
    assert await who(one, room, cookie=before) == str(ada.pk)
    people.log_out_everywhere(ada)
    assert await is_refused(one, room, cookie=before)
    assert await is_refused(one, room, token=before)
    # What was minted after it is good, and so are tokens, which have no version.
    await enter(one, room, ada)
    again = await dial(one, room_path(room), cookie=people.access_jwt(ada))
    await again.until("room_state")


async def test_a_forgotten_session_version_counts_as_valid(one):
    ada = people.user()
    claimed = people.access_jwt(ada, session_version=7)
    room = people.room()
    assert await is_refused(one, room, cookie=claimed)
    cache.delete(f"session:version:{ada.pk}")
    assert await who(one, room, cookie=claimed) == str(ada.pk)


async def test_activity_is_written_as_django_reads_it_and_not_too_often(one, two, stack):
    ada = people.user()
    room = people.room(ada)
    before = datetime.now(UTC)
    await enter(one, room, ada)
    activity, debounce = f"session:activity:{ada.pk}", f"session:debounce:{ada.pk}"

    first = datetime.fromisoformat(cache.get(activity))
    assert first.tzinfo is not None and timedelta(0) <= first - before < timedelta(seconds=30)
    assert cache.get(debounce) == "1"
    with redis.Redis.from_url(stack.urls["cache_url"]) as raw:
        assert 86_000 < raw.ttl(f"allthrive:1:{activity}") <= 86_400
        assert 250 < raw.ttl(f"allthrive:1:{debounce}") <= 300

    await enter(two, room, ada)
    assert datetime.fromisoformat(cache.get(activity)) == first, "debounced, on the other instance too"
    cache.delete(debounce)
    await enter(two, room, ada)
    assert datetime.fromisoformat(cache.get(activity)) > first
    assert cache.add(debounce, "1", 300) is False, "Django sees the gateway's debounce"


async def test_django_s_own_debounce_is_respected(one):
    ada = people.user()
    assert cache.add(f"session:debounce:{ada.pk}", "1", 300)
    await enter(one, people.room(ada), ada)
    assert cache.get(f"session:activity:{ada.pk}") is None


async def test_who_is_refused_is_not_active(one):
    ada = people.user()
    room = people.room()
    before = people.access_jwt(ada)
    people.log_out_everywhere(ada)
    assert await is_refused(one, room, cookie=before)
    assert cache.get(f"session:activity:{ada.pk}") is None


async def test_nothing_secret_is_logged(one):
    ada = people.user()
    room = people.room(ada)
    token, cookie, query = people.connection_token(ada), people.access_jwt(ada), people.access_jwt(ada)
    tab = await dial(one, room_path(room), connection_token=token, cookie=cookie, token=query)
    await tab.until("room_state")
    await tab.say("a very private text")
    await tab.until("new_message")
    await tab.close()
    one.wait_for_log("session ended", user=ada.pk)
    log = "\n".join(one.lines)
    for secret in (token, cookie, query, "a very private text", SECRET_KEY, "connection_token"):
        assert secret not in log
