"""Paging backwards through a room, to its beginning: nothing twice, nothing skipped."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from client import enter, knock
from djangoapp import people
from djangoapp.models import Message

NOW = datetime.now(UTC) - timedelta(days=1)


def fill(room, author, count: int) -> list[str]:
    """Stores messages of which many share an instant and some are hidden; the ids of the visible, oldest first."""
    rows = [
        Message(
            room=room,
            author=author,
            content=str(number),
            created_at=NOW + timedelta(seconds=number // 7),  # seven messages of one instant
            is_hidden=number % 11 == 3,
        )
        for number in range(count)
    ]
    Message.objects.bulk_create(rows)
    # Within an instant, by Django's own index: (room_id, created_at DESC, id).
    newest_first = Message.objects.filter(room=room, is_hidden=False).order_by("-created_at", "id")
    return [str(pk) for pk in newest_first.values_list("pk", flat=True)][::-1]


@pytest.mark.parametrize("limit", [1, 13, 50, 100])
async def test_every_message_comes_once(one, limit):
    ada = people.user()
    room = people.room(ada)
    stored = fill(room, ada, 75 if limit == 1 else 320)
    tab = await knock(one, room, ada)
    page = await tab.until("room_state")
    seen = [message["id"] for message in page["messages"]]
    assert seen == stored[-50:]
    await tab.until("message_history")
    while page["hasMore"]:
        await tab.send(type="request_history", cursor=page["cursor"], limit=limit)
        page = await tab.until("message_history")
        ids = [message["id"] for message in page["messages"]]
        assert 0 < len(ids) <= limit
        if page["hasMore"]:
            assert page["cursor"] == ids[0] and len(ids) == limit
        seen = ids + seen
    assert seen == stored


async def test_limits_and_cursors_that_make_no_sense(one):
    ada = people.user()
    room = people.room(ada)
    stored = fill(room, ada, 150)
    tab = await enter(one, room, ada)
    await tab.until("message_history")

    async def ask(**fields):
        await tab.send(type="request_history", **fields)
        return await tab.until("message_history")

    assert len((await ask())["messages"]) == 50, "the default"
    assert len((await ask(limit=1000))["messages"]) == 100
    assert len((await ask(limit=0))["messages"]) == 1
    assert len((await ask(limit=-5, cursor=None))["messages"]) == 1
    end = await ask(cursor=stored[0])
    assert (end["messages"], end["hasMore"]) == ([], False)

    foreign = people.message(people.room(), ada, "elsewhere", NOW)
    for cursor in (str(uuid.uuid4()), str(foreign.pk)):
        await tab.send(type="request_history", cursor=cursor)
        assert (await tab.until("error"))["message"] == "Failed to process message"


async def test_history_goes_on_below_what_comes_in_meanwhile(one):
    ada = people.user()
    room = people.room(ada)
    stored = fill(room, ada, 80)
    tab = await enter(one, room, ada)
    page = await tab.until("message_history")
    await tab.say("new")
    await tab.until("new_message")
    await tab.send(type="request_history", cursor=page["cursor"])
    older = await tab.until("message_history")
    assert [message["id"] for message in older["messages"]] == stored[:-50]
    assert older["hasMore"] is False
