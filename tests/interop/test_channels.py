"""Rooms with members on both sides: the gateway's sockets, and real consumers on Daphne over real channel layers."""

import asyncio

import pytest
from django.utils.module_loading import import_string

from client import Tab, becomes, dial, enter, room_path
from djangoapp import people
from djangoapp.setup import LAYERS
from process import Daphne

MESSAGES = 500  # from each side
UNLIMITED = {
    "GATEWAY_LIMIT_MESSAGES_PER_MINUTE": 0,
    "GATEWAY_LIMIT_MESSAGES_PER_HOUR": 0,
    "GATEWAY_LIMIT_FRAMES_PER_SECOND": 0,
}


@pytest.fixture(scope="module", params=["core", "pubsub"])
def both(request, stack, start):
    """Two gateways and a Daphne on one layer."""
    layer = request.param
    daphne = Daphne(stack, layer)
    gateways = [start(f"{layer}{number}", GATEWAY_CHANNELS=layer, **UNLIMITED) for number in (1, 2)]
    yield gateways, daphne, layer
    daphne.stop()


async def at_daphne(daphne, room) -> Tab:
    tab = await dial(daphne, room_path(room))
    await tab.until("room_state")
    return tab


def texts(events) -> list[str]:
    return [event["message"]["content"] for event in events]


async def test_a_mixed_room_loses_nothing_and_repeats_nothing(both):
    (one, two), daphne, _ = both
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    tabs = [
        await enter(one, room, ada),
        await enter(two, room, grace),
        await at_daphne(daphne, room),
        await at_daphne(daphne, room),
    ]

    async def talk(tab, name, count):
        for number in range(count):
            await tab.say(f"{name} {number}")
            if number % 10 == 0:  # as fast as it is taken, and not faster
                await tab.settled() if tab in tabs[:2] else await asyncio.sleep(0)

    await asyncio.gather(
        talk(tabs[0], "ada", MESSAGES // 2),
        talk(tabs[1], "grace", MESSAGES // 2),
        talk(tabs[2], "ken", MESSAGES // 2),
        talk(tabs[3], "linus", MESSAGES // 2),
    )
    await tabs[0].say("the end here")
    await tabs[2].say("the end there")
    for tab in tabs:  # nothing comes after these that belongs before them
        await tab.collect("new_message", 2 * MESSAGES + 2)
    expected = ["the end here", "the end there"]
    expected += (f"{name} {n}" for name in ("ada", "grace", "ken", "linus") for n in range(MESSAGES // 2))
    for tab in tabs:
        events = await tab.collect("new_message", 2 * MESSAGES + 2)
        assert sorted(texts(events)) == sorted(expected)
        for name in ("ada", "grace", "ken", "linus"):
            mine = [text for text in texts(events) if text.startswith(name)]
            assert mine == [f"{name} {n}" for n in range(MESSAGES // 2)], f"{name}'s are in order"


async def test_a_consumer_sees_who_comes_writes_and_goes(both):
    (one, two), daphne, _ = both
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    watcher = await at_daphne(daphne, room)
    first = await enter(one, room, ada)
    await watcher.until("user_joined", userId=str(ada.pk), username=ada.username)
    second = await enter(two, room, grace)
    await watcher.until("user_joined", userId=str(grace.pk))
    await second.send(type="typing", is_typing=True)
    await watcher.until("typing", userId=str(grace.pk), isTyping=True)
    await first.say("Grüße 🦀")
    theirs = await watcher.until("new_message")
    assert theirs == await second.until("new_message")
    await first.send(type="edit_message", message_id=theirs["message"]["id"], content="Grüße!")
    assert (await watcher.until("message_edited"))["message"]["isEdited"] is True


async def test_code_of_django_reaches_the_sockets(both, stack):
    (one, two), _, layer = both
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    a, b = await enter(one, room, ada), await enter(two, room, grace)
    django = import_string(LAYERS[layer])(hosts=[stack.urls["redis_url"]])
    group = f"community.room.{room.pk}"
    event = {"event": "lesson_started", "lesson": {"id": 7, "title": "Ünïcode", "score": 1.5, "none": None}}
    await django.group_send(group, {"type": "room_event"} | event)
    for tab in (a, b):
        came = await tab.until("lesson_started")
        assert came == event | {"epoch": came["epoch"], "offset": 1}
    if layer == "core":
        await django.close_pools()


async def test_a_consumer_that_died_hurts_nobody(stack, start, realtime):
    gateway = start("undertaker", **UNLIMITED, GATEWAY_CHANNELS_CAPACITY=5)
    daphne = Daphne(stack, "core")
    ada = people.user()
    room = people.room(ada)
    await at_daphne(daphne, room)
    daphne.kill()
    a = await enter(gateway, room, ada)
    group = f"asgi:group:community.room.{room.pk}"
    dead = [name for name in realtime.zrange(group, 0, -1) if not name.startswith("specific.gw-")]
    assert len(dead) == 1, "it never said goodbye"
    for number in range(20):
        await a.say(str(number))
    await a.collect("new_message", 20)
    inbox = "asgi" + dead[0][: dead[0].index("!") + 1]
    await becomes(5, lambda: realtime.zcard(inbox))
    assert 0 < realtime.ttl(inbox) <= 15
