"""The old consumers on a real Daphne, alone and with a gateway as the other side of the same room."""

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import people
import pytest
from conftest import ORIGIN, PACKAGE, SECRET_KEY
from core.community.models import Message, RoomMembership, UserBlock
from sockets import Tab, enter
from stack import Gateway
from test_reference_rest import As
from websockets.exceptions import InvalidStatus

from community_gateway import publish
from community_gateway.sessions import connection_token


@contextmanager
def running_daphne(**variables):
    """Its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "daphne", "-e", "tcp:0:interface=127.0.0.1", "reference.asgi:application"],
        cwd=PACKAGE / "reference", env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"Listening on TCP address ([\d.:]+)", line):
            break
    else:
        raise AssertionError("".join(lines))
    rest = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    rest.start()
    try:
        yield found[1]
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def daphne(stack):
    """Its address."""
    with running_daphne() as address:
        yield address


def come(daphne, path, user, **options) -> Tab:
    return Tab(f"ws://{daphne}/ws/community/{path}/?connection_token={connection_token(user)}", **options)


def come_in(daphne, room, user) -> Tab:
    tab = come(daphne, f"room/{room.pk}", user)
    tab.until("user_joined", userId=str(user.pk))
    return tab


def test_the_first_part_of_the_protocol(daphne):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace, description="d", icon="i")
    old = [people.message(room, grace, str(n)) for n in range(51)]
    with come(daphne, f"room/{room.pk}", ada) as tab:
        state = tab.next()
        assert (state["event"], state["room"]) == ("room_state", {
            "id": str(room.pk), "name": room.name, "description": "d", "icon": "i", "roomType": "forum", "memberCount": 2})
        assert [one["content"] for one in state["messages"]] == [str(n) for n in range(1, 51)]
        assert state["onlineUsers"] == [{"userId": str(ada.pk), "username": ada.username}]
        assert tab.next() == {"event": "user_joined", "userId": str(ada.pk), "username": ada.username, "avatarUrl": None}

        with come_in(daphne, room, grace) as other:
            tab.until("user_joined", userId=str(grace.pk))
            tab.send(type="send_message", content="  hello  ", reply_to_id=str(old[0].pk))
            for one in (tab, other):
                message = one.until("new_message")["message"]
                assert (message["content"], message["replyToId"]) == ("hello", str(old[0].pk))
            other.send(type="typing", is_typing=True)
            assert tab.until("typing") == {"event": "typing", "userId": str(grace.pk), "username": grace.username,
                                           "isTyping": True}
        assert tab.until("user_left") == {"event": "user_left", "userId": str(grace.pk)}

        tab.send(type="request_history", cursor=state["messages"][0]["id"], limit=10)
        page = tab.until("message_history")
        assert ([one["content"] for one in page["messages"]], page["hasMore"], page["cursor"]) == (["0"], False, None)
        tab.send(type="read_receipt", message_id=str(old[-1].pk))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", pong(tab)["timestamp"])
        assert RoomMembership.objects.get(room=room, user=ada).last_read_at == old[-1].created_at
    room.refresh_from_db()
    assert room.message_count == 1


def pong(tab) -> dict:
    tab.send(type="ping")
    return tab.until("pong")


def test_errors_in_the_words_that_clients_know(daphne):
    ada = people.user()
    room = people.room(ada)
    with come_in(daphne, room, ada) as tab:
        tab.socket.send("{")
        assert tab.next() == {"event": "error", "message": "Invalid JSON format"}
        for frame, message in [
            ({"type": "dance"}, "Unknown message type: dance"),
            ({"type": "send_message", "content": "  "}, "Message content is required"),
            ({"type": "send_message", "content": "x" * 4001}, "Message too long (max 4000 characters)"),
            ({"type": "send_message", "content": 7}, "Failed to process message"),
            ({"type": "read_receipt"}, "Failed to process message"),
        ]:
            tab.send(**frame)
            assert tab.next() == {"event": "error", "message": message}
        RoomMembership.objects.filter(room=room, user=ada).update(role="muted")
        tab.send(type="send_message", content="x")
        assert tab.next()["message"] == "You cannot send messages in this room"
        RoomMembership.objects.filter(room=room, user=ada).update(role="member")
        for _ in range(9):  # the refused one counted
            tab.send(type="send_message", content="x")
            tab.until("new_message")
        tab.send(type="send_message", content="x")
        assert tab.until("error")["message"] == "Rate limit exceeded. Please slow down."


def refused(daphne, path, user=None, **options) -> int:
    with pytest.raises(InvalidStatus) as error:
        token = f"?connection_token={connection_token(user)}" if user else ""
        Tab(f"ws://{daphne}/ws/community/{path}/{token}", **options)
    return error.value.response.status_code


def test_who_is_not_let_in(daphne):
    ada, grace = people.user(), people.user()
    private, thread = people.room(grace, visibility="private"), people.direct(grace, people.user())
    assert refused(daphne, f"room/{private.pk}") == 403
    assert refused(daphne, f"room/{private.pk}", ada) == 403
    assert refused(daphne, f"dm/{thread.pk}", ada) == 403
    assert refused(daphne, f"room/{private.pk}", grace, origin="https://elsewhere.example") == 403
    with come(daphne, f"room/{private.pk}", grace, origin=ORIGIN) as tab:
        assert tab.next()["event"] == "room_state"


def test_conversations(daphne):
    ada, grace = people.user(), people.user()
    thread = people.direct(ada, grace)
    with come(daphne, f"dm/{thread.pk}", ada) as one, come(daphne, f"dm/{thread.pk}", grace) as other:
        for tab in (one, other):
            assert tab.next() == {"event": "dm_state", "threadId": str(thread.pk), "messages": []}
        pong(one), pong(other)
        one.send(type="send_message", content="psst")
        assert other.until("new_message")["message"]["content"] == "psst"
    thread.refresh_from_db()
    assert thread.last_message_at is not None


# ---- one room, both sides ------------------------------------------------------------------------------------------


def test_a_room_with_members_on_both_sides(daphne, gateway):
    """Everything once, in one order, to everybody."""
    ada, grace, linus = people.user(), people.user(), people.user()
    room = people.room(ada, grace, linus)
    with come_in(daphne, room, ada) as old, enter(gateway, room, grace) as new, enter(gateway, room, linus) as other:
        old.until("user_joined", userId=str(linus.pk))
        new.settled(), other.settled()
        for number in range(5):
            old.send(type="send_message", content=f"old {number}")
            assert new.until("new_message")["message"]["content"] == f"old {number}"
            new.send(type="send_message", content=f"new {number}")
            assert old.until("new_message", )["message"]["content"] == f"old {number}"
            assert old.until("new_message")["message"]["content"] == f"new {number}"
            new.until("new_message")
        new.send(type="typing", is_typing=True)
        assert old.until("typing")["userId"] == str(grace.pk)
        seen = [event["message"]["content"] for event in other.settled() if event["event"] == "new_message"]
        assert seen == [f"{side} {number}" for number in range(5) for side in ("old", "new")]
        assert not [event for event in old.settled() if event["event"] == "new_message"]
    room.refresh_from_db()
    assert room.message_count == Message.objects.filter(room=room).count() == 10


def test_rest_is_heard_on_both_sides_when_events_go_by_the_channel_layer(daphne, gateway, settings_of):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    with come_in(daphne, room, ada) as old, enter(gateway, room, grace) as new, settings_of(TRANSPORT="channels"):
        pong(old)
        As(ada).post(f"rooms/{room.pk}/messages/", content="by rest")
        for tab in (old, new):
            assert tab.until("new_message")["message"]["content"] == "by rest"
            assert [event for event in tab.settled() if event["event"] == "new_message"] == []


def test_a_block_keeps_what_rest_writes_from_both_sides_and_nobody_else(daphne, gateway, settings_of):
    """Over the layer an event names whom it is not for; a gateway and a consumer obey alike, and pass no names on."""
    ada, blocked, other = people.user(), people.user(), people.user()
    room = people.room(ada, blocked, other)
    UserBlock.objects.create(blocker=ada, blocked=blocked)
    with (come_in(daphne, room, blocked) as old_blocked, come_in(daphne, room, other) as old,
          enter(gateway, room, blocked) as new_blocked, enter(gateway, room, other) as new, settings_of(TRANSPORT="channels")):
        sent = As(ada).post(f"rooms/{room.pk}/messages/", content="not for everybody")
        As(ada).patch(f"messages/{sent['id']}/", content="still not")
        publish(room=room, event={"event": "poll", "n": 1}, to=[other])
        publish(room=room, event={"event": "poll", "n": 2})
        for tab in (old, new):
            assert tab.until("new_message")["message"]["content"] == "not for everybody"
            assert tab.until("message_edited")["message"]["content"] == "still not"
            seen = [tab.until("poll") for _ in range(2)]
            assert [one["n"] for one in seen] == [1, 2] and not any({"to", "except"} & set(one) for one in seen)
        for tab in (old_blocked, new_blocked):
            events = []
            while not events or events[-1]["event"] != "poll":
                events.append(tab.next())
            assert events[-1]["n"] == 2
            assert not [one for one in events if one["event"] in ("new_message", "message_edited")]


@pytest.fixture(scope="module")
def unlimited(stack):
    """A gateway and a Daphne that take as much as they are sent."""
    limits = {f"GATEWAY_LIMIT_{name}": "0" for name in ("MESSAGES_PER_MINUTE", "MESSAGES_PER_HOUR", "FRAMES_PER_SECOND")}
    gateway = Gateway(stack, SECRET_KEY, "unlimited", CORS_ALLOWED_ORIGINS=ORIGIN, **limits)
    with running_daphne(**limits) as address:
        yield gateway, address
    assert gateway.stop() == 0


def converse(tab, name, count, total) -> list[str]:
    """Says so many things, as fast as they come back; everything that was said by anybody, in the order it came."""
    seen = []

    def until(reached):
        while not reached():
            event = tab.next()
            assert event["event"] != "error", event
            if event["event"] == "new_message":
                seen.append(event["message"]["content"])

    for number in range(count):
        tab.send(type="send_message", content=f"{name} {number}")
        if number % 10 == 9:
            until(lambda: f"{name} {number}" in seen)
    until(lambda: len(seen) >= total)
    return seen


def all_of_them_talk(tabs, count):
    """Everybody sees everything once, and each one's in order."""
    total = count * len(tabs)
    with ThreadPoolExecutor(len(tabs)) as pool:
        talking = [pool.submit(converse, tab, name, count, total) for name, tab in tabs.items()]
        saw = [one.result() for one in talking]
    said = sorted(f"{name} {number}" for name in tabs for number in range(count))
    for seen in saw:
        assert sorted(seen) == said
        for name in tabs:
            assert [one for one in seen if one.startswith(name)] == [f"{name} {number}" for number in range(count)]


def test_a_thousand_messages_in_a_room_of_both_sides(unlimited):
    gateway, daphne = unlimited
    ada, grace, linus, ken = (people.user() for _ in range(4))
    room = people.room(ada, grace, linus, ken)
    with (come_in(daphne, room, ada) as a, come_in(daphne, room, grace) as b, enter(gateway, room, linus) as c,
          enter(gateway, room, ken) as d):
        all_of_them_talk({"ada": a, "grace": b, "linus": c, "ken": d}, 250)
    room.refresh_from_db()
    assert room.message_count == Message.objects.filter(room=room).count() == 1000


def test_a_conversation_of_both_sides(unlimited, settings_of):
    gateway, daphne = unlimited
    ada, grace = people.user(), people.user()
    talk = people.direct(ada, grace)
    path = f"dm/{talk.pk}"
    with come(daphne, path, ada) as a, come(daphne, path, grace) as b, come(gateway.public, path, grace) as c:
        for tab in (a, b, c):
            tab.until("dm_state")
            pong(tab)
        all_of_them_talk({"ada": a, "grace there": b, "grace here": c}, 50)
        with settings_of(TRANSPORT="channels"):
            sent = As(ada).post(f"rooms/{talk.room.pk}/messages/", content="by rest")
        for tab in (a, b, c):
            message = tab.until("new_message")["message"]
            assert (message["id"], message["content"]) == (sent["id"], "by rest")
        c.send(type="send_message", content="the end")  # and nothing twice before it
        for tab in (a, b, c):
            assert tab.until("new_message")["message"]["content"] == "the end"
    talk.room.refresh_from_db()
    assert talk.room.message_count == 152
