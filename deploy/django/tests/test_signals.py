"""What REST, the admin or a task saves is told to the sockets, in the gateway's own shapes."""

from datetime import UTC, datetime

import people
from core.community import services
from core.community.models import DirectMessageThread, Message, Room, RoomMembership, Thread, UserBlock
from core.thrive_circle.models import Circle, CircleMembership
from django.db import transaction
from django.utils import timezone

from community_gateway import acting, quietly


def test_a_new_message_has_every_field_of_the_gateways_own(heard):
    ada, grace = people.user(avatar_url="https://a.example/x.png"), people.user()
    room = people.room(ada, grace)
    question = people.message(room, grace, "why? " * 100)
    heard.all()
    at = datetime(2026, 11, 22, 13, 37, 40, 475420, UTC)
    message = Message(room=room, author=ada, content="because", reply_to=question, mentions=[grace.pk])
    message.created_at = at
    message.save()
    Message.objects.filter(pk=message.pk).update(created_at=at)
    (channel, event), = heard.all()
    assert channel == f"community:room:{room.pk}"
    created = event["message"].pop("createdAt")
    assert created.endswith("+00:00") and len(created) == len("2026-11-22T13:37:40.475420+00:00")
    assert event == {
        "event": "new_message",
        "message": {
            "id": str(message.pk), "roomId": str(room.pk), "threadId": None,
            "author": {"id": str(ada.pk), "username": ada.username, "avatarUrl": "https://a.example/x.png"},
            "content": "because", "messageType": "text", "attachments": [], "embeds": [], "mentions": [grace.pk],
            "replyToId": str(question.pk),
            "replyTo": {"id": str(question.pk), "content": question.content[:200],
                        "author": {"id": str(grace.pk), "username": grace.username}},
            "reactionCounts": {}, "isEdited": False, "editedAt": None, "isPinned": False,
        },
    }


def test_a_message_by_nobody_is_by_unknown(heard):
    Message.objects.create(room=people.room(), author=None, content="x")
    (_, event), = heard.all()
    assert event["message"]["author"] == {"id": None, "username": "Unknown", "avatarUrl": None}


def test_messages_go_where_their_readers_are(heard):
    ada, grace = people.user(), people.user()
    thread = people.direct(ada, grace)
    room = people.room(ada)
    inside = Thread(room=room, creator=ada, title="t")
    with quietly():
        inside.save()
    Message.objects.create(room=thread.room, author=ada, content="x")
    Message.objects.create(room=room, thread=inside, author=ada, content="y")
    assert [channel for channel, _ in heard.all()] == [f"community:dm:{thread.pk}", f"community:thread:{inside.pk}"]


def test_blocks_keep_a_message_from_both_sides(heard):
    ada, grace, linus = people.user(), people.user(), people.user()
    room = people.room(ada, grace, linus)
    UserBlock.objects.create(blocker=grace, blocked=ada)
    UserBlock.objects.create(blocker=ada, blocked=linus)
    heard.all()
    Message.objects.create(room=room, author=ada, content="x")
    (_, event), = heard.all()
    assert sorted(event["except"]) == sorted([str(grace.pk), str(linus.pk)])


def test_what_happens_to_a_message_is_told_once(heard):
    ada, boss = people.user(), people.moderator()
    message = people.message(people.room(ada), ada)
    here = f"community:room:{message.room_id}"

    message.content, message.is_edited, message.edited_at = "better", True, timezone.now()
    message.save()
    (channel, event), = heard.all()
    assert (channel, event["event"], event["message"]["content"]) == (here, "message_edited", "better")
    assert event["message"]["isEdited"] is True and event["message"]["editedAt"].endswith("+00:00")

    with acting(boss):
        message.is_pinned = True
        message.save(update_fields=["is_pinned"])
    assert heard.all() == [(here, {"event": "message_pinned", "messageId": str(message.pk), "isPinned": True,
                                   "by": str(boss.pk)})]

    message.save()
    message.reaction_counts = {"x": 1}
    message.save(update_fields=["reaction_counts"])
    assert heard.all() == []

    message.is_hidden = True
    message.save()
    message.is_hidden = False
    message.save()  # nobody left a record of hiding it: the event is ours
    assert [event.get("decision") or event["event"] for _, event in heard.all()] == ["hidden", "new_message"]

    message.message_type, message.content = "deleted", "[Message deleted]"
    message.save()
    assert heard.all() == [(here, {"event": "message_deleted", "messageId": str(message.pk), "deletedBy": str(ada.pk)})]


def test_what_happens_to_a_message_in_a_thread_is_told_there(heard):
    ada = people.user()
    room = people.room(ada)
    with quietly():
        inside = Thread.objects.create(room=room, creator=ada, title="t")
    message = people.message(room, ada, thread=inside)
    message.content = "better"
    message.save()
    message.is_pinned = True
    with acting(ada):
        message.save()
    services.react(message, ada, "👍", add=True)
    message.message_type = "deleted"
    message.save()
    told = heard.all()
    assert {channel for channel, _ in told} == {f"community:thread:{inside.pk}"}
    ids = {"threadId": str(inside.pk), "messageId": str(message.pk)}
    assert told[0][1]["message"]["threadId"] == str(inside.pk)
    assert [event for _, event in told[1:]] == [
        {"event": "message_pinned"} | ids | {"isPinned": True, "by": str(ada.pk)},
        {"event": "reaction_updated"} | ids | {"emoji": "👍", "userId": str(ada.pk), "added": True,
                                               "reactionCounts": {"👍": 1}},
        {"event": "message_deleted"} | ids | {"deletedBy": str(ada.pk)},
    ]


def test_a_row_that_is_gone_is_a_message_that_is_deleted(heard):
    ada = people.user()
    first, second = (people.message(people.room(ada), ada) for _ in range(2))
    first_id, room_of_second = first.pk, second.room
    first.delete()
    Message.objects.filter(pk=second.pk).delete()
    assert [event["messageId"] for _, event in heard.all()] == [str(first_id), str(second.pk)]
    people.message(room_of_second, ada)
    room_of_second.delete()  # the room goes, and with it everybody who would want to know
    assert {event["event"] for _, event in heard.all() if "event" in event} == set()


def test_hidden_messages_say_nothing(heard):
    ada = people.user()
    message = people.message(people.room(ada), ada, is_hidden=True)
    Message.objects.create(room=message.room, author=ada, content="spam", is_hidden=True)
    message.content = "more spam"
    message.save()
    message.delete()
    assert heard.all() == []


def test_rights_are_looked_up_again_when_they_change(heard):
    ada = people.user()
    room = people.room()
    membership = RoomMembership.objects.create(room=room, user=ada)
    membership.role = "banned"
    membership.save()
    membership.last_read_at = timezone.now()
    membership.save()  # no right of anybody's
    membership.delete()
    order = {"action": "refresh", "room": str(room.pk), "user": str(ada.pk)}
    assert heard.orders() == [order, order, order]


def test_a_membership_that_moves_is_looked_up_where_it_was_and_where_it_is(heard):
    ada, grace = people.user(), people.user()
    old, new = people.room(ada), people.room()
    membership = RoomMembership.objects.get(room=old)
    membership.room, membership.user = new, grace
    membership.save()
    assert heard.orders() == [{"action": "refresh", "room": str(new.pk), "user": str(grace.pk)},
                              {"action": "refresh", "room": str(old.pk), "user": str(ada.pk)}]
    today = timezone.now().date()
    circle = Circle.objects.create(name="c", week_start=today, week_end=today)
    with quietly():
        membership = CircleMembership.objects.create(circle=circle, user=ada)
    heard.all()
    membership.user = grace
    membership.save()
    assert heard.orders() == [{"action": "refresh", "user": str(one.pk)} for one in (grace, ada)]


def test_circles_and_conversations_are_rights_too(heard):
    ada, grace = people.user(), people.user()
    today = timezone.now().date()
    circle = Circle.objects.create(name="c", week_start=today, week_end=today)
    heard.all()
    membership = CircleMembership.objects.create(circle=circle, user=ada)
    membership.is_active = False
    membership.save()
    thread = DirectMessageThread.objects.create(room=people.room())
    thread.participants.add(ada, grace)
    thread.participants.remove(grace)
    orders = heard.orders()
    assert orders[:2] == [{"action": "refresh", "user": str(ada.pk)}] * 2
    assert [order["user"] for order in orders[2:] if "user" in order] == [str(ada.pk), str(grace.pk), str(grace.pk)]
    assert {order["room"] for order in orders[2:]} == {str(thread.room_id)}


def test_a_room_is_told_of_its_settings_and_not_of_its_counters(heard):
    room = people.room()
    room.slow_mode_seconds = 30
    room.save()
    room.message_count = 5
    room.save()
    room.is_archived = True
    room.save(update_fields=["is_archived", "updated_at"])
    assert heard.orders() == [{"action": "room_changed", "room": str(room.pk)}] * 2


def test_a_new_room_is_nobodys_business(heard):
    Room.objects.create(name="n", slug=f"n-{timezone.now().timestamp()}".replace(".", "-"))
    assert heard.all() == []


def test_threads_are_told_in_their_room(heard):
    ada = people.user()
    room = people.room(ada)
    thread = Thread.objects.create(room=room, creator=ada, title="t")
    thread.is_locked = True
    thread.save()
    (one, created), (_, updated) = heard.all()
    assert one == f"community:room:{room.pk}"
    assert (created["event"], updated["event"]) == ("thread_created", "thread_updated")
    assert created["thread"] | {"createdAt": ""} == {
        "id": str(thread.pk), "roomId": str(room.pk), "title": "t", "parentMessageId": None, "creatorId": str(ada.pk),
        "isLocked": False, "isPinned": False, "isResolved": False, "isArchived": False, "messageCount": 0,
        "lastMessageAt": None, "createdAt": "",
    }
    assert updated["thread"]["isLocked"] is True


def test_blocks_are_told_to_both(heard):
    ada, grace = people.user(), people.user()
    block = UserBlock.objects.create(blocker=ada, blocked=grace)
    block.delete()
    assert heard.orders() == [{"action": "block_changed", "users": [str(ada.pk), str(grace.pk)]}] * 2


def test_accounts_that_end_end_their_sockets(heard):
    ada, grace = people.user(), people.user()
    ada.first_name = "Ada"
    ada.save()
    ada.is_active = False
    ada.save()
    key = grace.pk
    grace.delete()
    assert [order for order in heard.orders()] == [{"action": "disconnect", "user": str(ada.pk)},
                                                   {"action": "disconnect", "user": str(key)}]


def test_a_session_that_logs_out_ends_sockets_where_the_settings_say_so(heard, settings_of, client):
    ada = people.user()
    client.force_login(ada)
    client.logout()
    assert heard.orders() == []
    with settings_of(SIGNALS=["logout"]):
        client.force_login(ada)
        client.logout()
    assert heard.orders() == [{"action": "disconnect", "user": str(ada.pk)}]


def test_quietly_is_quiet_and_so_is_a_rollback(heard):
    ada = people.user()
    room = people.room(ada)
    with quietly():
        Message.objects.create(room=room, author=ada, content="x")
    try:
        with transaction.atomic():
            Message.objects.create(room=room, author=ada, content="x")
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert heard.all() == []


def test_only_the_kinds_that_the_settings_name_are_told(heard, settings_of):
    ada = people.user()
    room = people.room(ada)
    with settings_of(SIGNALS=["message_changed"]):
        message = Message.objects.create(room=room, author=ada, content="x")
        message.content = "y"
        message.save()
        room.name = "new"
        room.save()
    assert [event["event"] for _, event in heard.all()] == ["message_edited"]


def test_an_update_that_touches_no_watched_field_asks_nothing_of_the_database(django_queries):
    ada = people.user()
    with django_queries() as queries:
        ada.last_login = timezone.now()
        ada.save(update_fields=["last_login"])
    assert len(queries) == 1
