"""What rows of Django's beyond the room itself allow and forbid: circles, trust, slow mode, blocks, conversations."""

import uuid
from datetime import UTC, date, datetime, timedelta

from client import dial, dm_path, enter, knock
from djangoapp import people
from djangoapp.models import Block, Circle, CircleMembership, DirectThread, Membership, Message, Room, User


def since(user, days: int) -> None:
    """Lets a user have joined days ago: date_joined is auto_now_add."""
    User.objects.filter(pk=user.pk).update(date_joined=datetime.now(UTC) - timedelta(days=days))


async def test_a_circle_s_members_enter_its_room_without_a_membership(one):
    ada, former, stranger = (people.user() for _ in range(3))
    circle = Circle.objects.create(name="Seven", week_start=date.today(), week_end=date.today() + timedelta(days=6))
    CircleMembership.objects.create(circle=circle, user=ada)
    CircleMembership.objects.create(circle=circle, user=former, is_active=False)
    room = people.room(room_type="circle", visibility="private", circle_id=circle.pk)
    tab = await enter(one, room, ada)
    await tab.say("hello, circle")
    await tab.until("new_message")
    assert await (await knock(one, room, former)).close_code() == 4003
    assert await (await knock(one, room, stranger)).close_code() == 4003


async def test_newcomers_post_neither_links_nor_attachments(one):
    ada, old = people.user(), people.user()
    room, past = people.room(ada, old), people.room(old)
    since(old, days=3)
    Membership.objects.filter(room=past, user=old).update(messages_sent=10)
    image = {"url": "https://cdn.example.org/a.png", "name": "a.png", "size": 12, "type": "image/png"}
    new, member = await enter(one, room, ada), await enter(one, room, old)
    await new.say("see https://example.org")
    assert (await new.until("error"))["code"] == "links_not_allowed"
    await new.say("see", attachments=[image])
    assert (await new.until("error"))["code"] == "attachments_not_allowed"
    await member.say("see https://example.org", attachments=[image])
    assert (await new.until("new_message"))["message"]["attachments"] == [image]
    assert Message.objects.filter(room=room).count() == 1


async def test_a_room_may_ask_for_trust(one):
    ada, boss = people.user(), people.user(is_staff=True)
    closed = people.room(min_trust_to_join=1)
    assert await (await knock(one, closed, ada)).close_code() == 4003
    await enter(one, closed, boss)
    quiet = people.room(min_trust_to_post=1)
    tab = await enter(one, quiet, ada)
    await tab.say("hello")
    assert (await tab.until("error"))["code"] == "trust_too_low"


async def test_slow_mode_holds_for_all_instances_and_spares_moderators(one, two):
    ada, boss = people.user(), people.user()
    room = people.room(ada, boss, slow_mode_seconds=30)
    Membership.objects.filter(room=room, user=boss).update(role="moderator")
    tabs = [await enter(one, room, ada), await enter(two, room, ada)]
    await tabs[0].say("first")
    await tabs[0].settled()
    for tab in tabs:
        await tab.say("second")
        error = await tab.until("error")
        assert error["code"] == "slow_mode" and 0 < error["retryAfter"] <= 60
    moderator = await enter(two, room, boss)
    for text in ("one", "two"):
        await moderator.say(text)
    await tabs[0].until("new_message", offset=3)
    assert Message.objects.filter(room=room).count() == 3


async def converse(gateway, thread, user):
    tab = await dial(gateway, dm_path(thread), connection_token=people.connection_token(user))
    await tab.until("dm_state")
    return tab


async def test_a_direct_conversation_over_two_instances(one, two):
    ada, grace = people.user(), people.user()
    thread = people.direct_thread(ada, grace)
    stored = people.message(thread.room, grace, "from Django", datetime.now(UTC) - timedelta(minutes=1))
    a, b = await converse(one, thread, ada), await converse(two, thread, grace)
    state = a.events[0]
    assert (state["event"], state["threadId"]) == ("dm_state", str(thread.pk))
    assert [message["id"] for message in state["messages"]] == [str(stored.pk)]
    assert (state["hasMore"], state["cursor"]) == (False, None)

    await a.say("hello, Grace")
    seen = await b.until("new_message")
    assert seen == await a.until("new_message")
    assert seen["message"]["roomId"] == str(thread.room_id)
    row = Message.objects.get(pk=seen["message"]["id"])
    assert (row.room_id, row.author_id, row.content) == (thread.room_id, ada.pk, "hello, Grace")
    thread_now, room_now = DirectThread.objects.get(pk=thread.pk), Room.objects.get(pk=thread.room_id)
    assert thread_now.last_message_at == room_now.last_message_at == row.created_at
    assert thread_now.updated_at > thread.updated_at and room_now.message_count == 1

    await b.send(type="typing", is_typing=True)
    assert (await a.until("typing"))["userId"] == str(grace.pk)
    await b.send(type="read_receipt", message_id=str(row.pk))
    await b.settled()
    assert Membership.objects.get(room=thread.room, user=grace).last_read_at == row.created_at
    await b.send(type="request_history", limit=1)
    page = await b.until("message_history")
    assert ([message["id"] for message in page["messages"]], page["hasMore"]) == ([str(row.pk)], True)


async def test_a_conversation_is_its_participants_alone(one):
    ada, grace, stranger = (people.user() for _ in range(3))
    thread = people.direct_thread(ada, grace)
    tab = await dial(one, dm_path(thread), connection_token=people.connection_token(stranger))
    assert await tab.close_code() == 4003
    assert await (await knock(one, thread.room, stranger)).close_code() == 4003
    nowhere = f"/ws/community/dm/{uuid.uuid4()}/"
    tab = await dial(one, nowhere, connection_token=people.connection_token(ada))
    assert await tab.close_code() == 4004


async def test_who_is_blocked_reads_and_does_not_write(one):
    ada, grace = people.user(), people.user()
    thread = people.direct_thread(ada, grace)
    Block.objects.create(blocker=grace, blocked=ada)
    tab = await converse(one, thread, ada)
    await tab.say("hello?")
    assert (await tab.until("error"))["code"] == "blocked"
    assert not Message.objects.filter(room=thread.room).exists()
