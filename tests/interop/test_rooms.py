"""The life of a room: who may write, how far one has read, who is there, who types, what Django publishes."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.cache import cache

from client import becomes, enter, knock
from djangoapp import people
from djangoapp.models import Membership, Message, Room

CANNOT_SEND = "You cannot send messages in this room"


async def test_a_muted_member_reads_and_does_not_write(one, two):
    ada, muted = people.user(), people.user()
    room = people.room(ada, muted)
    Membership.objects.filter(room=room, user=muted).update(role="muted")
    a, quiet = await enter(one, room, ada), await enter(two, room, muted)
    await quiet.send(type="typing", is_typing=True)
    await quiet.say("hello")
    assert (await quiet.until("error"))["message"] == CANNOT_SEND
    await a.say("can you read this?")
    assert (await quiet.until("new_message"))["message"]["content"] == "can you read this?"
    assert Message.objects.filter(room=room).count() == 1
    assert "typing" not in {event["event"] for event in a.events}, "nor is it seen typing"


async def test_an_archived_room_is_read_only(one):
    ada = people.user()
    room = people.room(ada, is_archived=True)
    people.message(room, ada, "from better days", datetime.now(UTC))
    tab = await enter(one, room, ada)
    assert len(tab.events[0]["messages"]) == 1
    await tab.say("hello")
    assert (await tab.until("error"))["message"] == CANNOT_SEND
    assert Room.objects.get(pk=room.pk).message_count == 0


async def test_a_room_archived_meanwhile_takes_no_more(one, realtime):
    ada = people.user()
    room = people.room(ada)
    tab = await enter(one, room, ada)
    await tab.say("before")
    await tab.until("new_message")
    Room.objects.filter(pk=room.pk).update(is_archived=True, name="The Archive")
    realtime.publish("community:control", json.dumps({"action": "room_changed", "room": str(room.pk)}))
    updated = (await tab.until("room_updated"))["room"]
    assert (updated["id"], updated["name"], updated["isArchived"]) == (str(room.pk), "The Archive", True)
    await tab.say("after")
    assert (await tab.until("error"))["message"] == CANNOT_SEND


async def test_a_room_deleted_meanwhile_is_not_found(one):
    ada = people.user()
    room = people.room()
    tab = await enter(one, room, ada)
    room.delete()
    await tab.say("is anybody there?")
    error = await tab.until("error")
    assert error["message"] == "Room not found"


async def test_a_read_receipt_moves_forward_only(one):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    start = datetime.now(UTC) - timedelta(minutes=3)
    first, second, third = (
        people.message(room, grace, str(number), start + timedelta(minutes=number)) for number in range(3)
    )
    elsewhere = people.message(people.room(), grace, "elsewhere", datetime.now(UTC))
    tab = await enter(one, room, ada)
    await tab.until("user_joined")
    for message, read in ((first, first), (third, third), (second, third), (elsewhere, third)):
        await tab.send(type="read_receipt", message_id=str(message.pk))
        assert await tab.rest() == [], "it is answered by nothing"
        assert Membership.objects.get(room=room, user=ada).last_read_at == read.created_at
    assert Membership.objects.get(room=room, user=grace).last_read_at is None


async def test_ten_messages_a_minute_across_instances(one, two, realtime):
    ada = people.user()
    room = people.room(ada)
    a, b = await enter(one, room, ada), await enter(two, room, ada)
    for number in range(10):
        tab = (a, b)[number % 2]
        await tab.say(str(number))
        await tab.settled()
    for tab in (a, b):
        await tab.say("one too many")
        error = await tab.until("error")
        assert (error["message"], error["code"]) == ("Rate limit exceeded. Please slow down.", "rate_limited")
        assert 0 < error["retryAfter"] <= 60
    assert Message.objects.filter(room=room).count() == 10
    assert realtime.zcard(f"rate_limit:community:{ada.pk}") == 10


async def test_who_types_stands_in_redis_and_expires(one, realtime):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    a, b = await enter(one, room, ada), await enter(one, room, grace)
    key = f"community:typing:{room.pk}"
    for tab in (a, b):
        await tab.send(type="typing", is_typing=True)
        await tab.settled()
    assert realtime.type(key) == "hash"
    times = realtime.hgetall(key)
    assert set(times) == {str(ada.pk), str(grace.pk)}
    assert all(abs(int(at) / 1000 - datetime.now(UTC).timestamp()) < 30 for at in times.values())
    assert 0 < realtime.pttl(key) <= 10_000

    await a.send(type="typing", is_typing=False)
    await a.settled()
    assert realtime.hkeys(key) == [str(grace.pk)]
    await b.close()
    await a.until("typing", userId=str(grace.pk), isTyping=False)
    assert not realtime.exists(key), "who goes types no more"


async def test_who_is_online_stands_in_redis_with_a_lease(one, two, realtime):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    a, b = await enter(one, room, ada), await enter(two, room, grace)
    key = f"community:presence:{room.pk}"
    assert b.events[0]["onlineCount"] == 2
    assert {user["userId"] for user in b.events[0]["onlineUsers"]} == {str(ada.pk), str(grace.pk)}
    assert realtime.type(key) == "zset"
    leases = dict(realtime.zrange(key, 0, -1, withscores=True))
    assert set(leases) == {str(ada.pk), str(grace.pk)}
    now = datetime.now(UTC).timestamp()
    assert all(now < lease <= now + 60 for lease in leases.values())
    assert 0 < realtime.ttl(key) <= 60

    await b.close()
    await a.until("user_left", userId=str(grace.pk))
    assert realtime.zrange(key, 0, -1) == [str(ada.pk)]


async def test_two_tabs_on_two_instances_are_one_join_and_one_leave(one, two, realtime):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    watcher = await enter(one, room, grace)
    seats = f"community:seats:{room.pk}"
    first = await enter(one, room, ada)
    second = await enter(two, room, ada)
    assert realtime.zcount(seats, "-inf", "+inf") == 3
    await first.close()
    # The instance gives the first tab's seat back after the grace: when it has, a leave would have been told.
    await becomes({f"{grace.pk}|one", f"{ada.pk}|two"}, lambda: set(realtime.zrange(seats, 0, -1)))
    await second.say("marker")
    await watcher.until("new_message")
    await second.close()
    await watcher.until("user_left", userId=str(ada.pk))
    await watcher.say("end")
    await watcher.until("new_message")

    about_ada = [event["event"] for event in watcher.events if event.get("userId") == str(ada.pk)]
    assert [name for name in about_ada if name != "typing"] == ["user_joined", "user_left"]


async def test_a_reload_within_the_grace_does_not_show(start):
    patient = start("patient", GATEWAY_PRESENCE_GRACE_SECONDS=30)
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    watcher, tab = await enter(patient, room, grace), await enter(patient, room, ada)
    await tab.close()
    patient.wait_for_log("session ended", user=ada.pk)
    again = await enter(patient, room, ada)
    await again.say("back")
    await watcher.until("new_message")
    about_ada = [event["event"] for event in watcher.events if event.get("userId") == str(ada.pk)]
    assert about_ada == ["user_joined"]


async def test_an_instance_that_dies_takes_its_users_with_it(start, realtime):
    settings = {"GATEWAY_PRESENCE_SECONDS": 1, "GATEWAY_PRESENCE_GRACE_SECONDS": 0.2}
    survivor, victim = start("survivor", **settings), start("victim", **settings)
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    watcher, _ = await enter(survivor, room, grace), await enter(victim, room, ada)
    await watcher.until("user_joined", userId=str(ada.pk))
    victim.kill()
    await watcher.until("user_left", userId=str(ada.pk))
    assert realtime.zrange(f"community:presence:{room.pk}", 0, -1) == [str(grace.pk)]


async def test_a_drain_tells_clients_to_come_back(start):
    leaving = start("leaving", GATEWAY_DRAIN_SECONDS=1)
    ada = people.user()
    tab = await enter(leaving, people.room(ada), ada)
    leaving.begin_stop()
    reconnect = await tab.until("reconnect")
    assert reconnect["delayMs"] >= 0 and reconnect["reason"]
    assert await tab.close_code() == 1001
    assert leaving.ended() == 0
    assert leaving.wait_for_log("ended")["tasks_left"] == 0


@pytest.mark.parametrize("where", ["one", "two"])
async def test_what_django_publishes_reaches_those_it_is_for(pair, realtime, where):
    gateway = dict(zip(("one", "two"), pair))[where]
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    a, b = await enter(gateway, room, ada), await enter(gateway, room, grace)

    def publish(**event):
        assert realtime.publish(f"community:room:{room.pk}", json.dumps(event)) >= 1

    for tab in (a, b):
        await tab.until("user_joined", userId=str(grace.pk))
    publish(event="lesson_started", lesson={"id": 7, "title": "Ünïcode"})
    publish(event="for_ada", to=[str(ada.pk)])
    publish(event="not_for_ada", **{"except": [str(ada.pk)]})
    publish(nothing="of the kind")
    publish(event="end")
    lesson = {"event": "lesson_started", "lesson": {"id": 7, "title": "Ünïcode"}, "offset": 1}
    of_ada = [lesson, {"event": "for_ada", "offset": 2}, {"event": "end", "offset": 4}]
    of_grace = [lesson, {"event": "not_for_ada", "offset": 3}, {"event": "end", "offset": 4}]
    for tab, meant in ((a, of_ada), (b, of_grace)):
        came = [await tab.next() for _ in meant]
        assert len({event.pop("epoch") for event in came}) == 1
        assert came == meant


async def test_what_django_orders_is_done_on_every_instance(one, two, realtime):
    ada, grace, ken, linus, boss = (people.user() for _ in range(5))
    room = people.room(ada, grace, ken, linus, boss)

    def order(action, **fields):
        realtime.publish("community:control", json.dumps({"action": action, **fields}))

    tabs = {user.pk: [await enter(gateway, room, user) for gateway in (one, two)] for user in (ada, grace, ken, linus)}
    stays = await enter(one, room, boss)
    order("disconnect", user=str(ada.pk))
    assert [await tab.close_code() for tab in tabs[ada.pk]] == [4001, 4001]
    order("kick", room=str(room.pk), user=str(grace.pk))
    assert [await tab.close_code() for tab in tabs[grace.pk]] == [4003, 4003]
    Membership.objects.filter(user=ken).update(role="banned")
    order("refresh", user=str(ken.pk), room=str(room.pk))
    assert [await tab.close_code() for tab in tabs[ken.pk]] == [4003, 4003]

    people.session_version(linus)
    people.log_out_everywhere(linus)
    order("logout", user=str(linus.pk), session_version=cache.get(f"session:version:{linus.pk}"))
    assert [await tab.close_code() for tab in tabs[linus.pk]] == [4001, 4001], "older than any version"
    relogged = await knock(two, room, linus)
    await relogged.until("room_state")
    order("logout", user=str(linus.pk), session_version=cache.incr(f"session:version:{linus.pk}"))
    assert await relogged.close_code() == 4001
    await stays.settled()
