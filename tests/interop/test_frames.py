"""Every frame and event that the existing hooks and the Django consumers speak."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from client import enter, knock
from djangoapp import people
from djangoapp.models import Membership, Message, Room

EMPTY_MESSAGE = {
    "threadId": None,
    "messageType": "text",
    "attachments": [],
    "embeds": [],
    "mentions": [],
    "replyToId": None,
    "replyTo": None,
    "reactionCounts": {},
    "isEdited": False,
    "editedAt": None,
    "isPinned": False,
}


def author_of(user) -> dict:
    return {"id": str(user.pk), "username": user.username, "avatarUrl": user.avatar_url}


async def test_room_state_is_first_and_the_newcomer_sees_its_own_join(one):
    ada = people.user(username="ada", avatar_url="https://cdn.example.org/ada.png")
    grace = people.user(username="grace")
    room = people.room(ada, grace, description="Where we talk.", icon="coffee")
    asked = datetime.now(UTC) - timedelta(minutes=1)
    stored = people.message(room, grace, "from Django", asked, mentions=[str(ada.pk)], reaction_counts={"🎉": 2})
    tab = await knock(one, room, ada)

    state = await tab.next()
    assert state["event"] == "room_state"
    assert state["room"] == {
        "id": str(room.pk),
        "name": room.name,
        "description": "Where we talk.",
        "icon": "coffee",
        "roomType": "forum",
        "memberCount": 2,
    }
    assert state["messages"] == [
        EMPTY_MESSAGE
        | {
            "id": str(stored.pk),
            "roomId": str(room.pk),
            "author": author_of(grace),
            "content": "from Django",
            "mentions": [str(ada.pk)],
            "reactionCounts": {"🎉": 2},
            "createdAt": asked.isoformat(timespec="microseconds"),
        }
    ]
    assert state["onlineUsers"] == [{"userId": str(ada.pk), "username": ada.username}]
    assert (state["onlineCount"], state["hasMore"], state["cursor"]) == (1, False, None)

    assert await tab.next() == {
        "event": "user_joined",
        "userId": str(ada.pk),
        "username": ada.username,
        "avatarUrl": "https://cdn.example.org/ada.png",
    }


async def test_room_state_has_the_newest_fifty_oldest_first_and_never_a_hidden_one(one):
    ada = people.user()
    room = people.room(ada)
    start = datetime.now(UTC) - timedelta(hours=1)
    for number in range(60):
        people.message(room, ada, str(number), start + timedelta(seconds=number), is_hidden=number == 58)
    people.message(room, None, "whose account is gone", start + timedelta(seconds=60))
    tab = await knock(one, room, ada)

    state = await tab.next()
    said = [message["content"] for message in state["messages"]]
    assert said == [str(number) for number in range(10, 60) if number != 58] + ["whose account is gone"]
    assert state["messages"][-1]["author"] == {"id": None, "username": "Unknown", "avatarUrl": None}
    assert state["hasMore"] is True and state["cursor"] == state["messages"][0]["id"]
    # The existing hook begins to page only after this event.
    assert await tab.next() == {"event": "message_history", "messages": [], "hasMore": True, "cursor": state["cursor"]}


async def test_ping_is_answered_with_a_naive_time(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    before = datetime.now(UTC).replace(tzinfo=None)
    await tab.send(type="ping")
    pong = await tab.until("pong")
    assert set(pong) == {"event", "timestamp"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", pong["timestamp"])
    assert timedelta(0) <= datetime.fromisoformat(pong["timestamp"]) - before < timedelta(seconds=30)


async def test_the_protocols_own_ping_is_answered_too(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    await (await tab.socket.ping())
    await tab.settled()  # and it goes on


async def test_a_message_is_stored_counted_and_seen_by_everybody_alike(one, two):
    ada, grace = people.user(username="ada"), people.user(username="grace")
    room = people.room(ada, grace)
    a, b = await enter(one, room, ada), await enter(two, room, grace)
    await a.say("  Grüße 🦀 \n", client_id="mine-1")

    seen = await b.until("new_message")
    assert seen == await a.until("new_message")
    message = seen["message"]
    row = Message.objects.get(room=room)
    assert message == EMPTY_MESSAGE | {
        "id": str(row.pk),
        "roomId": str(room.pk),
        "author": author_of(ada),
        "content": "Grüße 🦀",
        "createdAt": row.created_at.isoformat(timespec="microseconds"),
    }
    assert seen["clientId"] == "mine-1"
    (ack,) = await a.collect("message_ack", 1)  # before or after the event
    assert ack == {
        "event": "message_ack",
        "clientId": "mine-1",
        "messageId": str(row.pk),
        "createdAt": message["createdAt"],
        "epoch": seen["epoch"],
        "offset": seen["offset"],
    }

    assert row.pk.version == 7 and (row.author_id, row.content, row.message_type) == (ada.pk, "Grüße 🦀", "text")
    assert (row.attachments, row.embeds, row.mentions, row.reaction_counts) == ([], [], [], {})
    assert not (row.is_edited or row.is_flagged or row.is_hidden or row.is_pinned)
    assert row.edited_at is row.thread_id is row.reply_to_id is None
    assert abs(row.updated_at - datetime.now(UTC)) < timedelta(seconds=30)
    room_now = Room.objects.get(pk=room.pk)
    assert (room_now.message_count, room_now.last_message_at) == (1, row.created_at)
    assert room_now.updated_at > room.updated_at
    sent = dict(Membership.objects.filter(room=room).values_list("user_id", "messages_sent"))
    assert sent == {ada.pk: 1, grace.pk: 0}


async def test_a_user_without_a_membership_may_write_in_a_public_room(one):
    stranger = people.user()
    room = people.room()
    tab = await enter(one, room, stranger)
    await tab.say("hello")
    assert (await tab.until("new_message"))["message"]["author"] == author_of(stranger)
    assert not Membership.objects.filter(room=room).exists()
    assert Room.objects.get(pk=room.pk).message_count == 1


async def test_a_reply_names_what_it_answers(one, two):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    a, b = await enter(one, room, ada), await enter(two, room, grace)
    await a.say("a question")
    question = (await b.until("new_message"))["message"]
    await b.say("an answer", reply_to_id=question["id"])

    assert (await a.until("new_message"))["message"] == question
    answer = (await a.until("new_message"))["message"]
    assert answer["replyToId"] == question["id"]
    assert answer["replyTo"] == {
        "id": question["id"],
        "content": "a question",
        "author": {"id": str(ada.pk), "username": ada.username},
    }
    assert str(Message.objects.get(pk=answer["id"]).reply_to_id) == question["id"]

    again = await enter(one, room, people.user())
    assert again.events[0]["messages"][-1] == answer, "history shows the same"


async def test_a_reply_to_what_is_not_in_this_room_is_no_reply(one):
    ada = people.user()
    room, elsewhere = people.room(ada), people.room(ada)
    foreign = people.message(elsewhere, ada, "elsewhere", datetime.now(UTC))
    tab = await enter(one, room, ada)
    for target in (foreign.pk, uuid.uuid4()):
        await tab.say("an answer", reply_to_id=str(target))
        message = (await tab.until("new_message"))["message"]
        assert (message["replyToId"], message["replyTo"]) == (None, None)
        assert Message.objects.get(pk=message["id"]).reply_to_id is None


async def test_attachments_are_kept_and_passed_on(one, two):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    Membership.objects.filter(room=room, user=ada).update(role="trusted")
    a, b = await enter(one, room, ada), await enter(two, room, grace)
    image = {"url": "https://cdn.example.org/a.png", "name": "a.png", "size": 12, "type": "image/png"}
    paper = {"url": "https://cdn.example.org/b.pdf", "name": "b.pdf", "size": 99, "type": "application/pdf"}
    for attachments, kind in (([image], "image"), ([image, paper], "file")):
        await a.say("look", attachments=attachments)
        message = (await b.until("new_message"))["message"]
        assert (message["attachments"], message["messageType"]) == (attachments, kind)
        row = Message.objects.get(pk=message["id"])
        assert (row.attachments, row.message_type) == (attachments, kind)


async def test_typing_reaches_everybody_and_only_news_of_it(one, two):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    a, b = await enter(one, room, ada), await enter(two, room, grace)
    for is_typing in (False, True, True, False, False):
        await a.send(type="typing", is_typing=is_typing)
    await a.settled()
    await b.say("marker")
    for tab in (a, b):
        await tab.until("new_message")
        told = [event for event in tab.events if event["event"] == "typing"]
        assert told == [
            {"event": "typing", "userId": str(ada.pk), "username": ada.username, "isTyping": is_typing}
            for is_typing in (True, False)
        ]


async def test_user_left_names_who_left(one, two):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    b = await enter(two, room, grace)
    a = await enter(one, room, ada)
    assert await b.until("user_joined", userId=str(ada.pk))
    await a.close()
    assert a.code == 1000
    assert await b.until("user_left") == {"event": "user_left", "userId": str(ada.pk)}


REFUSALS = {
    "{": "Invalid JSON format",
    "": "Invalid JSON format",
    '{"type":"ping"} {"type":"ping"}': "Invalid JSON format",
    '{"type":"dance"}': "Unknown message type: dance",
    "{}": "Unknown message type: None",
    '{"type":"send_message"}': "Message content is required",
    '{"type":"send_message","content":""}': "Message content is required",
    '{"type":"send_message","content":" \\t\\n\\u2003 "}': "Message content is required",
    '{"type":"send_message","content":"%s"}' % ("🦀" * 4001): "Message too long (max 4000 characters)",
    "[]": "Failed to process message",
    '"ping"': "Failed to process message",
    "42": "Failed to process message",
    "null": "Failed to process message",
    '{"type":42}': "Failed to process message",
    '{"type":"send_message","content":42}': "Failed to process message",
    '{"type":"send_message","content":"a\\u0000b"}': "Failed to process message",
    '{"type":"send_message","content":"a\\ud800b"}': "Failed to process message",
    '{"type":"send_message","content":"a","reply_to_id":"nonsense"}': "Failed to process message",
    '{"type":"send_message","content":"a","attachments":{}}': "Failed to process message",
    '{"type":"send_message","content":"a","attachments":[{"url":"javascript:1"}]}': "Failed to process message",
    '{"type":"typing","is_typing":"yes"}': "Failed to process message",
    '{"type":"read_receipt"}': "Failed to process message",
    '{"type":"read_receipt","message_id":7}': "Failed to process message",
    '{"type":"request_history","limit":"all"}': "Failed to process message",
}


@pytest.mark.parametrize("frame", REFUSALS, ids=lambda frame: frame[:60] or "empty")
async def test_what_is_wrong_with_a_frame_is_said_in_the_old_words(one, frame):
    ada = people.user()
    room = people.room(ada)
    tab = await enter(one, room, ada)
    await tab.socket.send(frame)
    error = await tab.until("error")
    assert error["message"] == REFUSALS[frame]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error["code"])
    await tab.settled()  # it lives
    assert not Message.objects.filter(room=room).exists()


async def test_the_longest_message_is_counted_in_characters(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    longest = "".join(chr(0x2_0000 + number) for number in range(4000))  # one repeated would be refused as spam
    await tab.say(" " + longest + "\n")
    message = (await tab.until("new_message"))["message"]
    assert Message.objects.get(pk=message["id"]).content == longest


async def test_unknown_fields_are_ignored(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    await tab.say("hello", colour={"deep": [1, None]}, thread=7)
    assert (await tab.until("new_message"))["message"]["content"] == "hello"


async def test_a_refusal_says_which_send_it_means(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    await tab.say("  ", client_id="mine-2")
    error = await tab.until("error")
    assert (error["code"], error["clientId"], error["requestType"]) == ("content_required", "mine-2", "send_message")
