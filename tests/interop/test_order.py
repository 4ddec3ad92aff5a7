"""Many at once: exact counters, and one order for everybody."""

import asyncio
from datetime import datetime

from client import enter
from djangoapp import people
from djangoapp.models import Membership, Message, Room

USERS = 40
SENDS = 200


async def test_200_sends_at_once_over_two_instances_are_exact_and_in_one_order(one, two):
    users = [people.user() for _ in range(USERS)]
    room = people.room(*users)
    Room.objects.filter(pk=room.pk).update(message_count=1000)
    tabs = await asyncio.gather(*(enter((one, two)[at % 2], room, user) for at, user in enumerate(users)))
    texts = [f"{at}" for at in range(SENDS)]
    await asyncio.gather(*(tabs[at % USERS].say(text) for at, text in enumerate(texts)))
    seen = await asyncio.gather(*(tab.collect("new_message", SENDS) for tab in tabs))

    rows = Message.objects.filter(room=room)
    assert rows.count() == SENDS
    room_now = Room.objects.get(pk=room.pk)
    assert room_now.message_count == 1000 + SENDS
    assert set(Membership.objects.filter(room=room).values_list("messages_sent", flat=True)) == {SENDS // USERS}
    assert sorted(rows.values_list("content", flat=True)) == sorted(texts)

    first, *others = seen
    assert len(first) == SENDS and all(other == first for other in others), "everybody saw the same, in one order"
    times = [datetime.fromisoformat(event["message"]["createdAt"]) for event in first]
    assert all(earlier < later for earlier, later in zip(times, times[1:])), "and it is the order of createdAt"
    assert times[-1] == room_now.last_message_at
    offsets = [event["offset"] for event in first]
    assert offsets == list(range(offsets[0], offsets[0] + SENDS)), "without a hole"
    stored = [str(pk) for pk in rows.order_by("created_at").values_list("pk", flat=True)]
    assert [event["message"]["id"] for event in first] == stored, "and of the table"

    late = await enter(two, room, people.user())
    assert [message["id"] for message in late.events[0]["messages"]] == stored[-50:], "and of history"
    assert not any(event["event"] == "error" for tab in tabs for event in tab.events)
