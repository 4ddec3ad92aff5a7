"""The reference project over HTTP: rooms, messages, conversations, blocks, reports, moderation."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import people
import pytest
from core.community import gdpr, services
from core.community.models import Message, ModerationAction, ModerationQueue, Room, RoomMembership, Thread
from core.thrive_circle.models import Circle, CircleMembership
from django.core.cache import cache
from django.db import connections
from django.test import Client
from django.utils import timezone


class As:
    """A browser of somebody who has logged in."""

    def __init__(self, user, **options):
        cache.delete("throttle_login_127.0.0.1")  # which counts the tests' own logins
        self.user, self.http = user, Client(**options)
        answer = self.http.post("/api/auth/login/", {"username": user.username, "password": "secret"}, "application/json")
        assert answer.status_code == 200, answer.content
        self.csrf = answer.json()["csrfToken"]

    def get(self, path, status=200, **query):
        return self._checked(self.http.get(f"/api/community/{path}", query), status)

    def post(self, path, status=201, **data):
        return self._checked(self.http.post(f"/api/community/{path}", data, "application/json"), status)

    def patch(self, path, status=200, **data):
        return self._checked(self.http.patch(f"/api/community/{path}", data, "application/json"), status)

    def delete(self, path, status=204, **data):
        return self._checked(self.http.delete(f"/api/community/{path}", data, "application/json"), status)

    @staticmethod
    def _checked(answer, status):
        assert answer.status_code == status, (answer.status_code, answer.content)
        return answer.json() if answer.content else None


# ---- logging in ----------------------------------------------------------------------------------------------------


def test_a_login_is_a_cookie_that_scripts_cannot_read():
    ada = people.user()
    browser = As(ada)
    cookie = browser.http.cookies["access_token"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"
    assert browser.http.get("/api/auth/me/").json()["user"]["username"] == ada.username
    assert Client().get("/api/auth/me/").status_code == 401
    wrong = Client().post("/api/auth/login/", {"username": ada.username, "password": "no"}, "application/json")
    assert wrong.status_code == 401 and "access_token" not in wrong.cookies


def test_a_cookie_alone_changes_nothing():
    browser = As(people.user(), enforce_csrf_checks=True)
    assert browser.http.post("/api/auth/logout/", {}, "application/json").status_code == 403
    answer = browser.http.post("/api/auth/logout/", {}, "application/json", headers={"X-CSRFToken": browser.csrf})
    assert answer.status_code == 204
    assert browser.http.get("/api/auth/me/").status_code == 401


def test_logging_out_everywhere_ends_every_browser_and_its_refreshing():
    ada = people.user()
    one, other = As(ada), As(ada)
    assert other.http.post("/api/auth/refresh/").status_code == 200
    assert one.http.post("/api/auth/logout/", {"everywhere": True}, "application/json").status_code == 204
    assert other.http.get("/api/auth/me/").status_code == 401
    assert other.http.post("/api/auth/refresh/").status_code == 401
    assert As(ada).http.get("/api/auth/me/").status_code == 200


# ---- rooms ---------------------------------------------------------------------------------------------------------


def test_browsing_shows_what_one_may_see_and_search_finds_in_it():
    ada, grace = people.user(), people.user()
    word = f"quokka{ada.pk}"
    public, private = people.room(name=f"A {word}"), people.room(grace, name=f"B {word}", visibility="private")
    people.room(name=f"C {word}", is_active=False)
    banned = people.room(ada, description=word)
    RoomMembership.objects.filter(room=banned, user=ada).update(role="banned")
    found = As(ada).get("rooms/", search=word)["rooms"]
    assert [room["id"] for room in found] == [str(public.pk)]
    assert {room["id"] for room in As(grace).get("rooms/", search=word)["rooms"]} == {
        str(public.pk), str(private.pk), str(banned.pk)}
    assert As(ada).get("rooms/")["rooms"][0]["slug"] == "general"


def test_rooms_are_created_by_who_has_been_here_a_while_and_three_a_day():
    ada = people.user()
    browser = As(ada)
    browser.post("rooms/", 403, name="Too soon")
    membership = RoomMembership.objects.create(room=people.room(), user=ada, messages_sent=10)
    browser.post("rooms/", 403, name="Too young")
    ada.date_joined = timezone.now() - timedelta(days=7, minutes=1)
    ada.save()
    RoomMembership.objects.filter(pk=membership.pk).update(messages_sent=9)
    browser.post("rooms/", 403, name="Too few")
    RoomMembership.objects.filter(pk=membership.pk).update(messages_sent=10)
    made = browser.post("rooms/", name="Mine", visibility="private", description="d")
    assert (made["role"], made["memberCount"], made["visibility"]) == ("owner", 1, "private")
    assert browser.post("rooms/", name="Mine")["slug"] != made["slug"]
    browser.post("rooms/", name="Third")
    browser.post("rooms/", 403, name="Fourth")
    Room.objects.filter(pk=made["id"]).update(created_at=timezone.now() - timedelta(days=1, minutes=1))
    browser.post("rooms/", name="Fourth")


def test_rooms_that_are_created_at_once_are_three_all_the_same():
    ada = people.user(date_joined=timezone.now() - timedelta(days=8))
    RoomMembership.objects.create(room=people.room(), user=ada, messages_sent=10)
    browsers = [As(ada) for _ in range(8)]
    together = threading.Barrier(len(browsers))

    def create(browser):
        together.wait(20)
        try:
            return browser.http.post("/api/community/rooms/", {"name": "Many"}, "application/json").status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(browsers)) as pool:
        assert sorted(pool.map(create, browsers)) == [201] * 3 + [403] * 5


def test_slow_mode_is_for_new_messages_as_at_the_gateway():
    ada, grace, boss = people.user(), people.user(), people.moderator()
    room = people.room(ada, grace, boss, slow_mode_seconds=60)
    browser = As(ada)
    sent = browser.post(f"rooms/{room.pk}/messages/", content="one")
    browser.post(f"rooms/{room.pk}/messages/", 429, content="two")
    browser.patch(f"messages/{sent['id']}/", content="one, and more")
    As(grace).post(f"rooms/{room.pk}/messages/", content="somebody else's")
    for _ in range(2):
        As(boss).post(f"rooms/{room.pk}/messages/", content="trusted")
    at = timezone.now() - timedelta(seconds=61)
    Message.objects.filter(pk=sent["id"]).update(created_at=at)
    browser.post(f"rooms/{room.pk}/messages/", 429, content="twice as long for the new")
    Message.objects.filter(pk=sent["id"]).update(created_at=at - timedelta(seconds=60))
    browser.post(f"rooms/{room.pk}/messages/", content="three")


def test_joining_and_leaving_are_counted_once():
    ada = people.user()
    room = people.room()
    browser = As(ada)
    for _ in range(2):
        assert browser.post(f"rooms/{room.pk}/join/", 200)["role"] == "member"
    room.refresh_from_db()
    assert room.member_count == 1
    for _ in range(2):
        browser.post(f"rooms/{room.pk}/leave/", 204)
    room.refresh_from_db()
    assert room.member_count == 0


def test_rights_are_the_gateways_rights():
    ada, grace, boss = people.user(), people.user(), people.moderator()
    private, public = people.room(grace, visibility="private"), people.room(grace)
    browser = As(ada)
    browser.get(f"rooms/{private.pk}/", 403)
    browser.post(f"rooms/{private.pk}/join/", 403)
    browser.get(f"rooms/{public.pk}/messages/")
    browser.patch(f"rooms/{public.pk}/", 403, name="x")
    assert As(boss).patch(f"rooms/{public.pk}/", name="Better", slow_mode_seconds=5)["name"] == "Better"
    As(boss).patch(f"rooms/{public.pk}/", 400, member_count=9)
    Room.objects.filter(pk=public.pk).update(min_trust_to_post=2)
    browser.post(f"rooms/{public.pk}/messages/", 403, content="x")
    Room.objects.filter(pk=public.pk).update(min_trust_to_post=0, is_archived=True)
    browser.post(f"rooms/{public.pk}/messages/", 403, content="x")
    Room.objects.filter(pk=public.pk).update(is_archived=False, is_active=False)
    browser.get(f"rooms/{public.pk}/", 404)


def test_a_circle_has_a_chat_room_for_its_members():
    ada, grace = people.user(), people.user()
    today = timezone.now().date()
    circle = Circle.objects.create(name="Seedlings", week_start=today, week_end=today)
    CircleMembership.objects.create(circle=circle, user=ada)
    (found,) = As(ada).get("circles/")["circles"]
    room = found["room"]["id"]
    assert (found["room"]["roomType"], found["room"]["visibility"]) == ("circle", "private")
    As(ada).post(f"rooms/{room}/messages/", content="hello circle")
    As(grace).get(f"rooms/{room}/messages/", 403)


# ---- messages ------------------------------------------------------------------------------------------------------


def test_sending_writes_all_that_goes_with_a_message(heard):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    sent = As(ada).post(f"rooms/{room.pk}/messages/", content=f" hello @{grace.username} and @nobody ")
    assert (sent["content"], sent["mentions"]) == (f"hello @{grace.username} and @nobody", [grace.pk])
    room.refresh_from_db()
    message = Message.objects.get(pk=sent["id"])
    assert (room.message_count, room.last_message_at) == (1, message.created_at)
    assert RoomMembership.objects.get(room=room, user=ada).messages_sent == 1
    assert [event["message"] for _, event in heard.all() if event.get("event") == "new_message"] == [sent]


def test_pages_follow_each_other_without_a_gap_or_a_repeat():
    ada = people.user()
    room = people.room(ada)
    at = timezone.now()
    with people.quietly():
        rows = Message.objects.bulk_create(Message(room=room, author=ada, content=str(n)) for n in range(25))
    Message.objects.filter(room=room).update(created_at=at)  # all of one instant: only the id tells them apart
    Message.objects.filter(pk=rows[0].pk).update(is_hidden=True)
    browser, seen, query = As(ada), [], {}
    while True:
        page = browser.get(f"rooms/{room.pk}/messages/", limit=10, **query)
        seen += [message["id"] for message in page["messages"]]
        if not page["hasMore"]:
            break
        query = {"cursor": page["cursor"]}
    assert len(seen) == len(set(seen)) == 24
    browser.get(f"rooms/{room.pk}/messages/", 400, cursor="x")


def test_search_finds_words_in_what_one_may_read():
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    people.message(room, grace, "the quick brown fox")
    people.message(room, grace, "a slow brown dog")
    people.message(room, ada, "brown secrets", is_hidden=True)
    found = As(ada).get(f"rooms/{room.pk}/search/", q='"brown fox" or dog -slow')["messages"]
    assert [message["content"] for message in found] == ["the quick brown fox"]
    As(grace).post("blocks/", user_id=str(ada.pk))
    assert As(ada).get(f"rooms/{room.pk}/search/", q="brown")["messages"] == []


def test_changing_is_the_authors_and_removing_the_moderators_too(heard):
    ada, grace, boss = people.user(), people.user(), people.moderator()
    room = people.room(ada, grace, boss)
    message = people.message(room, ada, "frist")
    As(grace).patch(f"messages/{message.pk}/", 403, content="x")
    edited = As(ada).patch(f"messages/{message.pk}/", content="first")
    assert edited["isEdited"] is True and edited["editedAt"]
    As(grace).post(f"messages/{message.pk}/pin/", 403)
    assert As(boss).post(f"messages/{message.pk}/pin/", 200) == {"isPinned": True}
    As(grace).delete(f"messages/{message.pk}/", 403)
    heard.all()
    As(boss).delete(f"messages/{message.pk}/")
    assert [event for _, event in heard.all()] == [
        {"event": "message_deleted", "messageId": str(message.pk), "deletedBy": str(boss.pk)}]
    assert ModerationAction.objects.get(target_message=message).action_type == "delete"
    As(ada).patch(f"messages/{message.pk}/", 404, content="again")


def test_threads_are_begun_from_a_message_or_alone():
    ada = people.user()
    room = people.room(ada)
    parent = people.message(room, ada, "let us talk")
    browser = As(ada)
    thread = browser.post(f"rooms/{room.pk}/threads/", parent_message_id=str(parent.pk))
    assert thread["title"] == "let us talk"
    browser.post(f"rooms/{room.pk}/threads/", 400, title="")
    sent = browser.post(f"rooms/{room.pk}/messages/", content="inside", thread_id=thread["id"])
    assert sent["threadId"] == thread["id"]
    assert Thread.objects.get(pk=thread["id"]).message_count == 1
    page = browser.get(f"rooms/{room.pk}/messages/", thread=thread["id"])
    assert [message["content"] for message in page["messages"]] == ["inside"]


# ---- conversations and blocks --------------------------------------------------------------------------------------


def test_two_people_have_one_conversation():
    ada, grace = people.user(), people.user()
    first = As(ada).post("dm/", user_ids=[str(grace.pk)])
    again = As(grace).post("dm/", user_ids=[str(ada.pk)])
    assert first["id"] == again["id"]
    assert [one["username"] for one in first["participants"]] == [grace.username]
    As(ada).post(f"rooms/{first['roomId']}/messages/", content="hello")
    assert As(grace).get("dm/")["threads"][0]["lastMessageAt"]
    As(people.user()).get(f"rooms/{first['roomId']}/messages/", 403)


def test_a_block_ends_writing_both_ways():
    ada, grace = people.user(), people.user()
    thread = As(ada).post("dm/", user_ids=[str(grace.pk)])
    As(grace).post("blocks/", user_id=str(ada.pk))
    for one in (ada, grace):
        As(one).post(f"rooms/{thread['roomId']}/messages/", 403, content="x")
    As(ada).post("dm/", 400, user_ids=[str(grace.pk), str(people.user().pk)])
    assert [one["id"] for one in As(grace).get("blocks/")["blocked"]] == [str(ada.pk)]
    As(grace).delete(f"blocks/{ada.pk}/")
    As(ada).post(f"rooms/{thread['roomId']}/messages/", content="x")


def test_an_agent_is_asked_once_and_answers(monkeypatch):
    from core.community.tasks import process_agent_dm_task

    asked = []
    monkeypatch.setattr(process_agent_dm_task, "apply_async", lambda **options: asked.append(options))
    ada, agent = people.user(), people.user(tier="team")
    thread = As(ada).post("dm/", user_ids=[str(agent.pk)])
    sent = As(ada).post(f"rooms/{thread['roomId']}/messages/", content="are you there?")
    arguments = {"message_id": sent["id"], "thread_id": thread["id"], "agent_user_id": agent.pk}
    assert asked == [{"kwargs": arguments, "expires": 600}]
    process_agent_dm_task(**arguments)
    newest = As(ada).get(f"rooms/{thread['roomId']}/messages/")["messages"][0]
    assert (newest["author"]["id"], newest["replyToId"]) == (str(agent.pk), sent["id"])
    assert len(asked) == 1  # agents do not answer agents


# ---- reports and moderation ----------------------------------------------------------------------------------------


def test_three_reports_flag_a_message_and_one_person_counts_once():
    ada = people.user()
    message = people.message(people.room(), ada, "rude")
    for number in range(3):
        browser = As(people.user())
        assert browser.post(f"messages/{message.pk}/report/", reason=f"r{number}") == {"reported": True}
        assert browser.post(f"messages/{message.pk}/report/", 200, reason="again") == {"reported": False}
    item = ModerationQueue.objects.get(message=message)
    message.refresh_from_db()
    assert (item.report_count, [one["reason"] for one in item.report_reasons], message.is_flagged) == (
        3, ["r0", "r1", "r2"], True)
    As(ada).post(f"messages/{message.pk}/report/", 400, reason="me")


@pytest.mark.parametrize("decision", ["approve", "hide", "delete", "warn", "mute", "ban", "ban_everywhere", "escalate"])
def test_every_decision_can_be_taken_over_rest(decision):
    ada, boss = people.user(), people.moderator()
    item = people.queued(people.message(people.room(ada), ada), ai_scores={"hate": 0.5})
    As(people.user()).get("moderation/", 403)
    browser = As(boss)
    shown = next(one for one in browser.get("moderation/")["items"] if one["id"] == str(item.pk))
    assert shown["scores"][0]["meaning"] == "hatred against a group of people"
    done = browser.post(f"moderation/{item.pk}/", 200, decision=decision, hours=24)
    wanted = {"approve": "approved", "hide": "rejected", "delete": "rejected", "escalate": "escalated"}
    assert done == {"status": wanted.get(decision, "pending")}
    browser.post(f"moderation/{item.pk}/", 400, decision="dance")


# ---- one's own data ------------------------------------------------------------------------------------------------


def test_the_export_has_what_is_ones_own_and_nobody_elses():
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    people.message(room, ada, "mine")
    people.message(room, grace, "not mine")
    services.report(people.message(room, grace), ada, "r")
    data = As(ada).get("me/export/")
    assert [one["content"] for one in data["messages"]] == ["mine"]
    assert data["account"]["email"] == ada.email
    assert [one["roomId"] for one in data["rooms"]] == [str(room.pk)]


def test_the_export_leaves_nothing_out_that_is_kept():
    from core.users.models import UserFollow

    from community_gateway.models import Device, NotificationSettings

    ada, grace = people.user(), people.user()
    room = services.create_room(ada, "Mine")
    with people.quietly():
        thread = Thread.objects.create(room=room, creator=ada, title="My thread")
    today = timezone.now().date()
    circle = Circle.objects.create(name="Seedlings", week_start=today, week_end=today)
    CircleMembership.objects.create(circle=circle, user=ada)
    UserFollow.objects.create(follower=ada, following=grace)
    UserFollow.objects.create(follower=grace, following=ada)
    reported = people.message(room, grace)
    services.report(reported, ada, "rude")
    services.report(reported, people.moderator(), "not hers")
    Device.objects.create(user=ada, token="t-export")
    NotificationSettings.objects.create(user=ada, push=False)
    data = As(ada).get("me/export/")
    assert [one["room"] for one in data["roomsMade"]] == ["Mine"]
    assert [(one["id"], one["title"]) for one in data["threads"]] == [(str(thread.pk), "My thread")]
    assert [one["circle"] for one in data["circles"]] == ["Seedlings"]
    assert [[one["userId"] for one in data[name]] for name in ("follows", "followedBy")] == [[str(grace.pk)]] * 2
    assert data["reports"] == [{"messageId": str(reported.pk), "reasons": ["rude"]}]
    assert [one["token"] for one in data["devices"]] == ["t-export"]
    assert data["notifications"] == {"push": False, "emailDigest": True, "digestSentAt": None}
    empty = As(people.user()).get("me/export/")
    assert empty["notifications"] == {"push": True, "emailDigest": True, "digestSentAt": None}
    assert not any(empty[name] for name in ("roomsMade", "threads", "circles", "follows", "followedBy", "reports", "devices"))


def test_an_account_that_goes_takes_its_words_out_of_titles(heard):
    ada, grace = people.user(), people.user()
    room = people.room(ada, grace)
    asked = people.message(room, ada, "I live in\n5 Elm Street  and wonder")
    edited = people.message(room, ada, "nothing", is_edited=True)
    with people.quietly():
        copied = Thread.objects.create(room=room, creator=grace, parent_message=asked, title="I live in 5 Elm Street")
        before = Thread.objects.create(room=room, creator=grace, parent_message=edited, title="5 Elm Street")
        typed = Thread.objects.create(room=room, creator=ada, title="Who knows Elm Street?")
        own = Thread.objects.create(room=room, creator=grace, parent_message=asked, title="Moving house")
    heard.all()
    gdpr.anonymise(ada)
    titles = dict(Thread.objects.filter(room=room).values_list("pk", "title"))
    assert titles == {copied.pk: "[Message deleted]", before.pk: "[Message deleted]", typed.pk: "[Message deleted]",
                      own.pk: "Moving house"}
    told = {event["thread"]["id"] for _, event in heard.all() if event.get("event") == "thread_updated"}
    assert told == {str(one.pk) for one in (copied, before, typed)}


def test_an_account_that_goes_leaves_the_thread_of_a_conversation(heard):
    ada, grace = people.user(first_name="Ada"), people.user()
    room, thread = people.room(ada, grace), people.direct(ada, grace)
    question = people.message(room, ada, "my address is 5 Elm Street", mentions=[grace.pk])
    answer = people.message(room, grace, "thanks", reply_to=question, mentions=[ada.pk])
    inside = Thread.objects.create(room=room, creator=ada, parent_message=question, title="t")
    browser = As(ada)
    browser.post("me/delete/", 400, password="wrong")
    browser.post("me/delete/", 204, password="secret")
    for row in (ada, question, answer, inside):
        row.refresh_from_db()
    assert (question.author, question.content, question.message_type, question.mentions) == (
        None, "[Message deleted]", "deleted", [])
    assert (answer.reply_to, answer.mentions, inside.parent_message) == (question, [], question)
    assert (ada.is_active, ada.first_name, ada.has_usable_password()) == (False, "", False)
    assert "Elm" not in str(list(Message.objects.filter(room=room).values()))
    assert not thread.participants.filter(pk=ada.pk).exists()
    assert {"action": "disconnect", "user": str(ada.pk)} in heard.orders()
    assert Client().post("/api/auth/login/", {"username": ada.username, "password": "secret"},
                         "application/json").status_code in (401, 429)


def test_devices_belong_to_who_sent_them_last():
    from community_gateway.models import Device

    ada, grace = people.user(), people.user()
    for one in (ada, grace):
        As(one).post("devices/", token="t-1", platform="web")
    assert Device.objects.get(token="t-1").user == grace
    As(ada).delete("devices/", token="t-1")
    assert Device.objects.filter(token="t-1").exists()
    As(grace).delete("devices/", token="t-1")
    assert not Device.objects.filter(token="t-1").exists()
    assert As(ada).patch("notifications/", push=False) == {"push": False, "email_digest": True}
