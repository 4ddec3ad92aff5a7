"""The old consumers on a real Daphne, alone and with a gateway as the other side of the same room."""

import re
import subprocess
import sys
import threading

import people
import pytest
from conftest import ORIGIN, PACKAGE
from core.community.models import Message, RoomMembership
from sockets import Tab, enter
from test_reference_rest import As
from websockets.exceptions import InvalidStatus

from community_gateway.sessions import connection_token


@pytest.fixture(scope="module")
def daphne(stack):
    """Its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "daphne", "-e", "tcp:0:interface=127.0.0.1", "reference.asgi:application"],
        cwd=PACKAGE / "reference", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
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
    yield found[1]
    process.terminate()
    process.wait(30)


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
