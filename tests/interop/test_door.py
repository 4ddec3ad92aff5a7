"""The upgrade and the goodbyes: origins, paths, and every close code that a client can bring about."""

import asyncio
import json
import urllib.error
import urllib.request
import uuid

import pytest
from django.core.cache import cache

from client import Refused, dial, enter, knock, room_path
from djangoapp import people
from djangoapp.models import Membership
from gateway import ORIGIN


async def test_the_app_s_origin_and_none_at_all_are_allowed(one):
    ada = people.user()
    room = people.room(ada)
    await enter(one, room, ada, origin=ORIGIN)
    await enter(one, room, ada)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.org", "null", ORIGIN + "/", ORIGIN.upper(), ORIGIN.replace("https", "http"), ORIGIN + ":444"],
)
async def test_another_origin_is_refused_before_its_token_is_touched(one, origin):
    ada = people.user()
    room = people.room(ada)
    token = people.connection_token(ada)
    with pytest.raises(Refused) as refused:
        await dial(one, room_path(room), origin=origin, connection_token=token)
    assert refused.value.status == 403
    assert cache.get(f"ws_conn_token:{token}")["user_id"] == ada.pk
    tab = await dial(one, room_path(room), origin=ORIGIN, connection_token=token)
    await tab.until("room_state")


async def test_paths_with_and_without_the_last_slash_and_in_upper_case_are_one_room(one):
    ada = people.user()
    room = people.room(ada)
    for path in (room_path(room), room_path(room).rstrip("/"), f"/ws/community/room/{str(room.pk).upper()}/"):
        tab = await dial(one, path, connection_token=people.connection_token(ada))
        assert (await tab.until("room_state"))["room"]["id"] == str(room.pk)


@pytest.mark.parametrize("path", ["/", "/ws/community/room/", "/ws/community/room/7/", "/ws/community/lobby/x/"])
async def test_any_other_path_is_404_before_its_token_is_touched(one, path):
    token = people.connection_token(people.user())
    with pytest.raises(Refused) as refused:
        await dial(one, path, connection_token=token)
    assert refused.value.status == 404
    assert isinstance(json.loads(refused.value.body), dict)
    assert cache.get(f"ws_conn_token:{token}") is not None


async def test_a_plain_get_is_asked_to_upgrade(one):
    address = f"http://{one.public}{room_path(people.room())}"

    def get():
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address)
        with answer.value as response:
            return response.code, response.headers["Upgrade"]

    assert await asyncio.to_thread(get) == (426, "websocket")


async def closed_with(gateway, room, user) -> int:
    return await (await knock(gateway, room, user)).close_code()


async def test_4003_for_who_may_not_enter(one):
    ada, banned, former = (people.user() for _ in range(3))
    for visibility in ("private", "unlisted"):
        room = people.room(former, visibility=visibility)
        Membership.objects.filter(room=room).update(is_active=False)
        assert await closed_with(one, room, ada) == 4003
        assert await closed_with(one, room, former) == 4003
    for visibility in ("public", "private"):
        room = people.room(banned, visibility=visibility)
        Membership.objects.filter(room=room).update(role="banned")
        assert await closed_with(one, room, banned) == 4003


async def test_members_enter_private_rooms(one):
    ada = people.user()
    for visibility in ("private", "unlisted"):
        await enter(one, people.room(ada, visibility=visibility), ada)


async def test_4003_announces_nothing_to_those_inside(one, two):
    member, stranger = people.user(), people.user()
    room = people.room(member, visibility="private")
    inside = await enter(two, room, member)
    assert await closed_with(one, room, stranger) == 4003
    await inside.say("marker")
    names = []
    while (event := await inside.next())["event"] != "new_message":
        names.append((event["event"], event.get("userId")))
    assert names == [("user_joined", str(member.pk))]


async def test_4004_for_a_room_that_is_not_there(one):
    ada = people.user()
    room = people.room(ada, is_active=False)
    assert await closed_with(one, room, ada) == 4004
    nowhere = await dial(one, f"/ws/community/room/{uuid.uuid4()}/", connection_token=people.connection_token(ada))
    assert await nowhere.close_code() == 4004


async def test_4029_for_the_sixth_socket_of_a_user_on_any_instance(one, two):
    ada = people.user()
    room = people.room(ada)
    tabs = [await enter(gateway, room, ada) for gateway in (one, two, one, two, one)]
    sixth = await knock(two, room, ada)
    assert await sixth.close_code() == 4029
    (error,) = sixth.events
    assert (error["event"], error["code"]) == ("error", "too_many_connections") and error["retryAfter"] > 0

    await tabs[0].close()
    one.wait_for_log("session ended", user=ada.pk, code=1000)
    await enter(two, room, ada)


async def test_4029_for_the_eleventh_new_socket_in_a_minute(one, two):
    ada = people.user()
    room = people.room(ada)
    for number in range(10):
        gateway = (one, two)[number % 2]
        tab = await enter(gateway, room, ada)
        await tab.close()
    for gateway in (one, two):
        eleventh = await knock(gateway, room, ada)
        assert await eleventh.close_code() == 4029
        (error,) = eleventh.events
        assert error["code"] == "too_many_connects" and 0 < error["retryAfter"] <= 60


async def test_1003_for_a_binary_frame(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    await tab.socket.send(b'{"type":"ping"}')
    assert await tab.close_code() == 1003


async def test_1007_for_what_is_not_utf_8(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    await tab.socket.send(b'{"type":"\xff"}', text=True)
    assert await tab.close_code() == 1007


async def test_1008_for_nonsense_without_end(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    for _ in range(20):
        await tab.socket.send("nonsense")
    assert await tab.close_code() == 1008


async def test_1009_for_a_message_over_the_limit_whole_or_in_fragments(one):
    ada = people.user()
    room = people.room(ada)
    frame = json.dumps({"type": "typing", "is_typing": False, "padding": ""})
    fitting = frame.replace('""', f'"{"x" * (32_768 - len(frame))}"')
    assert len(fitting) == 32_768

    tab = await enter(one, room, ada)
    await tab.socket.send(fitting)
    await tab.socket.send(fitting[at : at + 5000] for at in range(0, len(fitting), 5000))
    await tab.settled()
    await tab.socket.send(fitting + " ")
    assert await tab.close_code() == 1009

    tab = await enter(one, room, ada)
    await tab.socket.send((fitting + " ")[at : at + 5000] for at in range(0, len(fitting) + 1, 5000))
    assert await tab.close_code() == 1009


async def test_frames_come_too_fast_and_are_refused(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    for _ in range(60):
        await tab.send(type="typing", is_typing=False)
    error = await tab.until("error")
    assert (error["code"], error["message"]) == ("rate_limited", "Rate limit exceeded. Please slow down.")
    assert error["retryAfter"] > 0


async def test_extensions_are_declined_and_nothing_breaks(one):
    ada = people.user()
    tab = await enter(one, people.room(ada), ada)
    assert "permessage-deflate" in tab.socket.request.headers["Sec-WebSocket-Extensions"]
    assert "Sec-WebSocket-Extensions" not in tab.socket.response.headers
    await tab.settled()
