"""publish() and control(): after the commit, in bounded time, never an exception because of Redis."""

import asyncio
import logging
import socket
import time
import uuid

import pytest
from django.db import transaction
from django.test import override_settings

from community_gateway import control, for_user, publish, publishing


def test_an_event_goes_to_the_topic_that_is_named(heard):
    key = uuid.uuid4()
    publish(room=key, event={"event": "poll", "n": 1})
    publish(thread=key, event={"event": "poll"})
    publish(dm=key, event={"event": "poll"}, to=[1, "2"])
    publish(user=7, event={"event": "poll", "at": uuid.UUID(int=1)}, except_=[3])
    assert heard.all() == [
        (f"community:room:{key}", {"event": "poll", "n": 1}),
        (f"community:thread:{key}", {"event": "poll"}),
        (f"community:dm:{key}", {"event": "poll", "to": ["1", "2"]}),
        ("community:user:7", {"event": "poll", "at": "00000000-0000-0000-0000-000000000001", "except": ["3"]}),
    ]


def test_an_empty_list_of_receivers_reaches_nobody_rather_than_all(heard):
    publish(room="r", event={"event": "poll"}, to=[])
    publish(room="r", event={"event": "poll"}, except_=[])
    assert [payload for _, payload in heard.all()] == [{"event": "poll", "to": []}, {"event": "poll"}]


def test_nothing_is_published_before_the_commit_or_after_a_rollback(heard):
    with transaction.atomic():
        publish(room="r", event={"event": "first"})
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            publish(room="r", event={"event": "undone"})
            raise ZeroDivisionError
        assert heard.all() == []
    assert [payload["event"] for _, payload in heard.all()] == ["first"]


def test_orders_are_what_the_gateway_reads(heard):
    control("disconnect", user=7)
    control("logout", user=7, session_version=2)
    control("kick", room="r", user=7)
    control("refresh", room="r", user=7)
    control("refresh")
    control("room_changed", room="r")
    control("block_changed", users=[1, 2])
    control("moderation", message="m", decision="hidden")
    control("reload")
    assert heard.orders() == [
        {"action": "disconnect", "user": "7"},
        {"action": "logout", "user": "7", "session_version": 2},
        {"action": "kick", "room": "r", "user": "7"},
        {"action": "refresh", "room": "r", "user": "7"},
        {"action": "refresh"},
        {"action": "room_changed", "room": "r"},
        {"action": "block_changed", "users": ["1", "2"]},
        {"action": "moderation", "message": "m", "decision": "hidden"},
        {"action": "reload"},
    ]


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (TypeError, lambda: publish(event={"event": "x"})),
        (TypeError, lambda: publish(room="r", dm="d", event={"event": "x"})),
        (ValueError, lambda: publish(room="r", event={"type": "x"})),
        (TypeError, lambda: publish(room="r", event={"event": "x"}, to=[1], except_=[2])),
        (TypeError, lambda: publish(room="r", event={"event": "x", "odd": object()})),
        (ValueError, lambda: control("dance")),
        (TypeError, lambda: control("kick", room="r")),
        (TypeError, lambda: control("disconnect", user=1, room="r")),
        (ValueError, lambda: control("moderation", message="m", decision="maybe")),
    ],
)
def test_a_wrong_call_fails_where_it_stands(error, call, heard):
    with pytest.raises(error):
        call()
    assert heard.all() == []


def test_redis_away_is_logged_and_nothing_else(settings_of, caplog):
    with settings_of(REDIS_URL="redis://127.0.0.1:1/3"), caplog.at_level(logging.WARNING, "community_gateway"):
        publish(room="r-id", event={"event": "poll"})
        control("kick", room="r", user=7)
    assert [record.message for record in caplog.records] == [
        "Not published on community:room: ConnectionError",
        "Not published on community:control: Redis did not answer a moment ago.",
    ]


def test_a_redis_that_hangs_costs_a_request_its_timeout_once(settings_of):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/3"
        with settings_of(REDIS_URL=url, REDIS_TIMEOUT=0.2):
            began = time.monotonic()
            for _ in range(50):
                publish(room="r", event={"event": "poll"})
            assert time.monotonic() - began < 2


def test_publishing_goes_on_once_redis_is_back(stack, settings_of, heard):
    with settings_of(REDIS_URL="redis://127.0.0.1:1/3", REDIS_PAUSE=0.0):
        publish(room="r", event={"event": "lost"})
    with settings_of(REDIS_URL=stack.urls["redis_url"]):
        publish(room="r", event={"event": "heard"})
    assert [payload["event"] for _, payload in heard.all()] == ["heard"]


def test_over_the_channel_layer_both_sides_hear_it_once(settings_of, heard):
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer

    async def scenario():
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add("community.room.r", channel)
        from asgiref.sync import sync_to_async

        def send():
            publish(room="r", event={"event": "poll", "n": 1})
            publish(room="r", event={"event": "limited"}, to=[1])
            publish(room="r", event={"event": "limited"}, except_=[1, "2"])

        await sync_to_async(send)()
        async with asyncio.timeout(20):
            return [await layer.receive(channel) for _ in range(3)]

    with settings_of(TRANSPORT="channels"):
        assert async_to_sync(scenario)() == [
            {"type": "room_event", "event": "poll", "n": 1},
            {"type": "room_event", "event": "limited", "to": ["1"]},
            {"type": "room_event", "event": "limited", "except": ["1", "2"]},
        ]
    assert heard.all() == []


def test_what_a_consumer_sends_to_its_user():
    event = {"event": "poll", "n": 1}
    for message, users in [({}, [1, 2]), ({"to": ["1"]}, [1]), ({"to": [1]}, [1]), ({"to": []}, []), ({"except": ["1"]}, [2]),
                           ({"except": []}, [1, 2])]:
        got = {user: for_user({"type": "room_event"} | event | message, user) for user in (1, 2)}
        assert got == {user: event if user in users else None for user in (1, 2)}


def test_a_layer_that_hangs_costs_a_request_its_timeout_once(settings_of, caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/3"
        layers = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [url]}}}
        with override_settings(CHANNEL_LAYERS=layers), settings_of(TRANSPORT="channels", REDIS_TIMEOUT=0.2):
            began = time.monotonic()
            for _ in range(20):
                publish(room="r", event={"event": "poll"})
            assert time.monotonic() - began < 3
    assert caplog.text.count("did not answer a moment ago") == 19


def test_the_pause_ends(monkeypatch, settings_of):
    with settings_of(REDIS_URL="redis://127.0.0.1:1/3", REDIS_PAUSE=100.0):
        publish(room="r", event={"event": "lost"})
        until = publishing._silent_until
    assert 90 < until - time.monotonic() <= 100
