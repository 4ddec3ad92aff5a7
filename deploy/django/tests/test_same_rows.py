"""The gateway writes what Django would have written: the same things done through REST and through sockets leave the same
rows, column by column, in every table of the chat."""

import json
from datetime import datetime

import people
from core.community.models import Message, Thread
from django.db import connection
from sockets import Tab, enter
from test_reference_rest import As

from community_gateway import quietly
from community_gateway.sessions import connection_token

ROOMS = "SELECT id FROM community_room WHERE id = ANY(%(rooms)s)"
MESSAGES = f"SELECT id FROM community_message WHERE room_id IN ({ROOMS})"
# Every table that a message, a reaction, a thread or a report may touch, and which of its rows are this test's.
TABLES = {
    "community_room": "id = ANY(%(rooms)s)",
    "community_message": "room_id = ANY(%(rooms)s)",
    "community_messagereaction": f"message_id IN ({MESSAGES})",
    "community_roommembership": "room_id = ANY(%(rooms)s)",
    "community_thread": "room_id = ANY(%(rooms)s)",
    "community_directmessagethread": "room_id = ANY(%(rooms)s)",
    "community_directmessagethread_participants":
        "directmessagethread_id IN (SELECT id FROM community_directmessagethread WHERE room_id = ANY(%(rooms)s))",
    "community_moderationqueue": f"message_id IN ({MESSAGES})",
    "community_moderationqueue_reporters":
        f"moderationqueue_id IN (SELECT id FROM community_moderationqueue WHERE message_id IN ({MESSAGES}))",
    "community_moderationaction": "target_room_id = ANY(%(rooms)s)",
    "community_userblock": "blocker_id = ANY(%(users)s)",
    "users_user": "id = ANY(%(users)s)",
}


class World:
    """Two people, a room with a thread, a conversation."""

    def __init__(self):
        self.ada, self.grace = people.user(username="ada"), people.user(username="grace")
        self.room, self.talk = people.room(self.ada, self.grace), people.direct(self.ada, self.grace)
        self.room.memberships.filter(user=self.grace).update(role="moderator")
        with quietly():
            self.thread = Thread.objects.create(room=self.room, creator=self.ada, title="t")

    def message(self, content: str) -> Message:
        return Message.objects.get(room__in=(self.room, self.talk.room), content=content.format(grace=self.grace.username))

    def rows(self) -> dict[str, list]:
        """All rows, with names in place of ids, and of times only what they mean."""
        rooms = [self.room.pk, self.talk.room.pk]
        messages = list(Message.objects.filter(room__in=rooms).order_by("created_at"))
        names = {str(self.ada.pk): "ada", str(self.grace.pk): "grace", str(self.room.pk): "room", str(self.talk.pk): "talk",
                 str(self.talk.room.pk): "room of talk", str(self.thread.pk): "thread", None: None}
        names |= {str(message.pk): f"message {number}" for number, message in enumerate(messages)}
        times = {message.created_at: f"when message {n} was written" for n, message in enumerate(messages)}

        def plain(name, value, table=""):
            if name == "id" and isinstance(value, int) and table != "users_user":
                return "an id"  # a number that is an account's as well, by chance
            if name == "id" or name.endswith("_id"):
                return names.get(value if value is None else str(value), "an id")
            if name.endswith("_at") or name == "date_joined":
                if value is None or name == "updated_at":  # for which Django reads the clock once more
                    return value and "a time"
                return times.get(datetime.fromisoformat(value), "a time")
            if name == "mentions":
                return [names[str(one)] for one in value]
            if isinstance(value, list):
                return [{key: plain(key, one) for key, one in item.items()} if isinstance(item, dict) else item for item in value]
            return value.replace(self.grace.username, "grace") if isinstance(value, str) else value

        found = {}
        with connection.cursor() as cursor:
            for table, condition in TABLES.items():
                parameters = {"rooms": rooms, "users": [self.ada.pk, self.grace.pk]}
                cursor.execute(f"SELECT to_jsonb(t) FROM {table} t WHERE {condition}", parameters)
                rows = [{name: plain(name, value, table) for name, value in json.loads(row).items()} for (row,) in cursor.fetchall()]
                # Names are made for each world; who is online only a gateway knows.
                unlike = {"username", "email", "password"} if table == "users_user" else {"slug", "name", "online_count"}
                rows = [{name: value for name, value in row.items() if name not in unlike} for row in rows]
                found[table] = sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
        return found


FIRST, ANSWER, INSIDE, LAST = "hello @{grace}", "hello yourself", "in the thread", "to be taken away"


def by_rest(world: World) -> None:
    ada, grace = As(world.ada), As(world.grace)
    here = f"rooms/{world.room.pk}/messages/"
    ada.post(here, content=FIRST.format(grace=world.grace.username))
    first = world.message(FIRST).pk
    grace.post(here, content=ANSWER, reply_to_id=str(first))
    ada.post(here, content=INSIDE, thread_id=str(world.thread.pk))
    for who in (ada, grace):
        who.post(f"messages/{first}/reactions/", 200, emoji="👍")
    grace.post(f"messages/{first}/reactions/", 200, emoji="🎉")
    ada.delete(f"messages/{first}/reactions/", 200, emoji="👍")
    grace.delete(f"messages/{first}/reactions/", 200, emoji="🎉")
    grace.patch(f"messages/{world.message(ANSWER).pk}/", content="hello, hello")
    grace.post(f"messages/{first}/pin/", 200)
    ada.post(f"messages/{world.message('hello, hello').pk}/report/", reason="rude")
    ada.post(here, content=LAST)
    ada.delete(f"messages/{world.message(LAST).pk}/")
    ada.post(f"rooms/{world.room.pk}/threads/", parent_message_id=str(first), title="more of it")
    ada.post(f"rooms/{world.talk.room.pk}/messages/", content="psst")


def by_sockets(world: World, gateway) -> None:
    def send(tab, **frame):
        tab.send(type="send_message", **frame)
        return tab.until("new_message")["message"]["id"]

    with enter(gateway, world.room, world.ada) as ada, enter(gateway, world.room, world.grace) as grace:
        first = send(ada, content=FIRST.format(grace=world.grace.username))
        grace.until("new_message")
        answer = send(grace, content=ANSWER, reply_to_id=first)
        ada.send(type="open_thread", thread_id=str(world.thread.pk))
        ada.until("thread_state")
        ada.send(type="send_message", content=INSIDE, thread_id=str(world.thread.pk), client_id="inside")
        ada.until("message_ack")
        for tab, frame, emoji in [(ada, "add", "👍"), (grace, "add", "👍"), (grace, "add", "🎉"), (ada, "remove", "👍"),
                                  (grace, "remove", "🎉")]:
            tab.send(type=f"{frame}_reaction", message_id=first, emoji=emoji)
            tab.until("reaction_updated", emoji=emoji, added=frame == "add",
                      userId=str((world.ada if tab is ada else world.grace).pk))
        grace.send(type="edit_message", message_id=answer, content="hello, hello")
        grace.until("message_edited")
        grace.send(type="pin_message", message_id=first)
        grace.until("message_pinned")
        ada.send(type="report_message", message_id=answer, reason="rude")
        ada.until("message_reported")
        ada.settled()
        last = send(ada, content=LAST)
        ada.send(type="delete_message", message_id=last)
        ada.until("message_deleted")
        ada.send(type="create_thread", parent_message_id=first, title="more of it")
        ada.until("thread_created")
    token = connection_token(world.ada)
    with Tab(f"ws://{gateway.public}/ws/community/dm/{world.talk.pk}/?connection_token={token}") as ada:
        ada.until("dm_state")
        send(ada, content="psst")


def test_rest_and_sockets_leave_the_same_rows(gateway):
    django, socket = World(), World()
    by_rest(django)
    by_sockets(socket, gateway)
    wanted, found = django.rows(), socket.rows()
    different = [
        (table, name, one.get(name), other.get(name))
        for table in TABLES
        for one, other in zip(wanted[table], found[table], strict=True)
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]
    assert different == []
    assert len(found["community_message"]) == 5 and len(found["community_messagereaction"]) == 1
    (room,) = (row for row in found["community_room"] if row["id"] == "room")
    assert (room["message_count"], room["last_message_at"]) == (4, "when message 3 was written")
    (talk,) = found["community_directmessagethread"]
    assert talk["last_message_at"] == "when message 4 was written"
