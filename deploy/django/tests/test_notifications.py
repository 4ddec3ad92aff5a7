"""Notifications: the real firebase-admin against a server of ours, digests by e-mail, tasks by a real worker."""

import http.server
import json
import subprocess
import sys
import threading
from datetime import timedelta

import people
import pytest
from conftest import PACKAGE
from core.community.models import Message, RoomMembership, UserBlock
from django.core import mail
from django.core.cache import cache
from django.utils import timezone

from community_gateway import digests, notifications
from community_gateway.models import Device, NotificationSettings
from community_gateway.notifications import TryLater, notify


class Firebase:
    """Answers as fcm.googleapis.com does; keeps what was sent."""

    def __init__(self):
        self.sent: list[dict] = []
        self.errors: dict[str, tuple[int, str]] = {}  # token → HTTP status, error code
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"]
                status, code = outer.errors.get(message["token"], (200, ""))
                if status == 200:
                    outer.sent.append(message)
                    body = {"name": "projects/p/messages/1"}
                else:
                    detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
                    body = {"error": {"status": code if status != 404 else "NOT_FOUND", "message": code, "details": [detail]}}
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/projects/{{0}}/messages:send"

    def tokens(self) -> list[str]:
        return [message["token"] for message in self.sent]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def firebase(monkeypatch, settings_of):
    import firebase_admin
    from firebase_admin import messaging
    from google.auth.credentials import AnonymousCredentials

    class Nobody(firebase_admin.credentials.Base):
        def get_credential(self):
            return AnonymousCredentials()

    server = Firebase()
    monkeypatch.setattr(messaging._MessagingService, "FCM_URL", server.url)
    app = firebase_admin.initialize_app(Nobody(), {"projectId": "p", "httpTimeout": 5}, name="community_gateway")
    with settings_of(FIREBASE_CREDENTIALS="set", PAGE_URL="https://app.example/c/{room}?m={message}"):
        yield server
    firebase_admin.delete_app(app)
    server.close()


@pytest.fixture
def case(firebase):
    """Ada writes, Grace is to be told, on one device."""

    class Case:
        ada, grace = people.user(), people.user()
        room = people.room(ada, grace, name="Tea")
        message = people.message(room, ada, "hello @grace")
        device = Device.objects.create(user=grace, token=f"token-{grace.pk}")
        membership = RoomMembership.objects.get(room=room, user=grace)

    return Case()


def test_a_mention_reaches_the_device(case, firebase):
    assert notify("mention", str(case.message.pk), case.grace.pk) == "1 sent"
    (sent,) = firebase.sent
    assert sent["token"] == case.device.token
    assert sent["notification"] == {"title": f"{case.ada.username} mentioned you in Tea", "body": "hello @grace"}
    assert sent["data"] == {
        "kind": "mention", "roomId": str(case.room.pk), "messageId": str(case.message.pk),
        "url": f"https://app.example/c/{case.room.pk}?m={case.message.pk}",
    }


def test_the_same_task_twice_notifies_once(case, firebase):
    notify("reply", str(case.message.pk), case.grace.pk)
    assert notify("reply", str(case.message.pk), case.grace.pk) == "sent before"
    assert len(firebase.sent) == 1


def test_dead_tokens_are_removed_and_the_others_get_theirs(case, firebase):
    for name in ("gone", "foreign", "fine"):
        Device.objects.create(user=case.grace, token=f"{name}-{case.grace.pk}")
    firebase.errors = {f"gone-{case.grace.pk}": (404, "UNREGISTERED"), f"foreign-{case.grace.pk}": (403, "SENDER_ID_MISMATCH")}
    assert notify("dm", str(case.message.pk), case.grace.pk) == "2 sent"
    assert set(Device.objects.filter(user=case.grace).values_list("token", flat=True)) == {
        case.device.token, f"fine-{case.grace.pk}"}


def test_what_cannot_be_sent_now_is_sent_later_and_only_that(case, firebase):
    late = Device.objects.create(user=case.grace, token=f"late-{case.grace.pk}")
    firebase.errors = {late.token: (503, "UNAVAILABLE")}
    with pytest.raises(TryLater):
        notify("mention", str(case.message.pk), case.grace.pk)
    firebase.errors = {}
    assert notify("mention", str(case.message.pk), case.grace.pk) == "1 sent"
    assert sorted(firebase.tokens()) == sorted([case.device.token, late.token])
    assert Device.objects.filter(user=case.grace).count() == 2


@pytest.mark.parametrize("error", ["RefreshError", "TransportError"])
def test_google_that_gives_no_token_is_asked_again_later(case, firebase, monkeypatch, error):
    import firebase_admin
    import google.auth.exceptions

    from community_gateway import fcm

    class Refused(firebase_admin.credentials.Base):
        def get_credential(self):
            from google.auth.credentials import AnonymousCredentials

            class Credential(AnonymousCredentials):
                def before_request(self, *_):
                    raise getattr(google.auth.exceptions, error)("no")

            return Credential()

    app = firebase_admin.initialize_app(Refused(), {"projectId": "p"}, name="refused")
    with monkeypatch.context() as patch:
        patch.setattr(fcm, "_APP", "refused")
        with pytest.raises(TryLater):
            notify("mention", str(case.message.pk), case.grace.pk)
    firebase_admin.delete_app(app)
    assert notify("mention", str(case.message.pk), case.grace.pk) == "1 sent"


def test_a_failure_makes_nothing_due_that_was_sent(case, firebase, monkeypatch):
    from community_gateway import fcm

    def broken(*_):
        raise OSError

    notify("mention", str(case.message.pk), case.grace.pk)
    late = Device.objects.create(user=case.grace, token=f"late-{case.grace.pk}")
    with monkeypatch.context() as patch:
        patch.setattr(fcm, "send", broken)
        with pytest.raises(OSError):
            notify("mention", str(case.message.pk), case.grace.pk)
    assert notify("mention", str(case.message.pk), case.grace.pk) == "1 sent"
    assert firebase.tokens() == [case.device.token, late.token]


def test_text_stays_at_home_when_the_settings_say_so(case, firebase, settings_of):
    from django.conf import settings

    with settings_of(**settings.COMMUNITY_GATEWAY | {"NOTIFICATION_TEXT": 0}):
        notify("mention", str(case.message.pk), case.grace.pk)
    assert "body" not in firebase.sent[0]["notification"] or firebase.sent[0]["notification"]["body"] == ""


def changed(row, **values):
    type(row).objects.filter(pk=row.pk).update(**values)


@pytest.mark.parametrize(
    ("why", "change", "kinds"),
    [
        ("not to be seen", lambda c: changed(c.message, is_hidden=True), "mention reply dm"),
        ("not to be seen", lambda c: changed(c.message, message_type="deleted"), "mention"),
        ("their own", lambda c: changed(c.message, author=c.grace), "mention"),
        ("blocked", lambda c: UserBlock.objects.create(blocker=c.grace, blocked=c.ada), "mention reply dm"),
        ("blocked", lambda c: UserBlock.objects.create(blocker=c.ada, blocked=c.grace), "mention"),
        ("muted", lambda c: changed(c.membership, notifications_enabled=False), "mention reply dm"),
        ("muted", lambda c: changed(c.membership, notification_level="none"), "mention reply dm"),
        ("muted", lambda c: changed(c.membership, notification_level="mentions"), "dm"),
        ("no member", lambda c: changed(c.membership, role="banned"), "mention reply"),
        ("read", lambda c: changed(c.membership, last_read_at=timezone.now()), "mention reply dm"),
        ("push is off", lambda c: NotificationSettings.objects.create(user=c.grace, push=False), "mention"),
        ("no such user", lambda c: changed(c.grace, is_active=False), "mention"),
        ("no device", lambda c: c.device.delete(), "mention"),
    ],
)
def test_who_is_not_to_be_told_is_not(case, firebase, why, change, kinds):
    change(case)
    for kind in kinds.split():
        assert notify(kind, str(case.message.pk), case.grace.pk) == why
    assert firebase.sent == []


def test_a_level_of_mentions_lets_mentions_and_replies_through(case, firebase):
    changed(case.membership, notification_level="mentions")
    assert [notify(kind, str(case.message.pk), case.grace.pk) for kind in ("mention", "reply")] == ["1 sent", "1 sent"]


def test_nonsense_is_no_error(case, firebase):
    assert notify("mention", "no id", 1) == notify("mention", "3f2504e0-4f89-41d3-9a0c-0305e82c3301", 1) == "no such message"
    assert notify("room", str(case.message.pk), case.grace.pk) == "unknown kind"


# ---- digests -------------------------------------------------------------------------------------------------------


@pytest.fixture
def unread():
    """Something of each kind for Grace, and something that is nothing for a mail."""

    class Case:
        ada, grace = people.user(), people.user()
        room, thread = people.room(ada, grace, name="Tea"), people.direct(ada, grace)
        own = people.message(room, grace, "what is for tea?")
        mention = people.message(room, ada, "cake, @grace", mentions=[grace.pk])
        answer = people.message(room, ada, "scones", reply_to=own)
        direct = people.message(thread.room, ada, "see you at five")
        ordinary = people.message(room, ada, "ordinary talk")

    for one in (Case.room, Case.thread.room):
        changed(one, last_message_at=timezone.now())
    return Case()


def test_a_digest_has_what_was_written_to_somebody_and_nothing_else(unread, settings_of):
    with settings_of(PAGE_URL="https://app.example/c/{room}"):
        assert unread.grace.pk in set(digests.users_due())
        assert digests.send(unread.grace.pk) == 3
    (message,) = mail.outbox
    assert (message.to, message.subject) == ([unread.grace.email], "3 unread messages for you")
    for text in ("cake, @grace", "scones", "see you at five", f"{unread.ada.username} wrote to you", "answered you in Tea",
                 "mentioned you in Tea", f"https://app.example/c/{unread.room.pk}"):
        assert text in message.body
    assert "ordinary talk" not in message.body


def test_a_digest_is_not_sent_again_before_its_time(unread):
    now = timezone.now()
    assert digests.send(unread.grace.pk, now) == 3
    assert unread.grace.pk not in set(digests.users_due(now))
    assert digests.send(unread.grace.pk, now) == 0
    later = now + timedelta(hours=25)
    changed(unread.room, last_message_at=later)
    assert unread.grace.pk in set(digests.users_due(later))
    assert digests.send(unread.grace.pk, later) == 0  # nothing new
    assert len(mail.outbox) == 1


def test_what_is_read_or_muted_or_unwanted_is_in_no_digest(unread):
    memberships = RoomMembership.objects.filter(user=unread.grace)
    memberships.filter(room=unread.room).update(notification_level="none")
    memberships.filter(room=unread.thread.room).update(last_read_at=timezone.now())
    assert digests.send(unread.grace.pk) == 0
    memberships.update(notification_level="all", last_read_at=None)
    NotificationSettings.objects.update_or_create(user=unread.grace, defaults={"email_digest": False})
    assert digests.send(unread.grace.pk) == 0
    assert unread.grace.pk not in set(digests.users_due())
    assert mail.outbox == []


def test_a_mail_that_fails_is_tried_again(unread, monkeypatch):
    def broken(*_, **__):
        raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        patch.setattr(digests, "send_mail", broken)
        with pytest.raises(ConnectionRefusedError):
            digests.send(unread.grace.pk)
    assert digests.send(unread.grace.pk) == 3


# ---- a real worker -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker(stack):
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "reference", "worker", "--pool", "solo", "--loglevel", "INFO",
         "--without-gossip", "--without-mingle", "--without-heartbeat"],
        cwd=PACKAGE / "reference", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if " ready." in line:
            break
    else:
        raise AssertionError("".join(lines))
    rest = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    rest.start()
    yield "".join(lines)
    process.terminate()
    process.wait(30)


def becomes(look, wanted):
    import time

    until = time.monotonic() + 20
    while (seen := look()) != wanted:
        assert time.monotonic() < until, f"waited for {wanted}, saw {seen}"
        time.sleep(0.02)


def test_a_worker_knows_the_tasks_by_the_names_that_the_gateway_hands_over(worker):
    for name in ("notify_mention", "notify_reply", "notify_dm", "send_digests", "send_digest", "end_expired_actions"):
        assert f". community_gateway.tasks.{name}\n" in worker
    assert ". core.community.tasks.process_agent_dm_task\n" in worker


def test_a_worker_runs_what_is_handed_over_with_ids_only(worker, stack):
    """A task as any producer puts it onto the list: no code of the worker's is needed for it."""
    import base64
    import uuid

    import redis

    user = people.user()
    cache.set(f"gateway:selftest:{user.pk}", "waiting", timeout=60)
    task = str(uuid.uuid4())
    body = [[], {"message_id": str(uuid.uuid4()), "user_id": user.pk},
            {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    element = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(), "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "community_gateway.tasks.notify_mention", "id": task, "root_id": task, "parent_id": None,
                    "group": None, "retries": 0, "timelimit": [None, None], "eta": None, "expires": None, "ignore_result": True},
        "properties": {"correlation_id": task, "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "celery"},
                       "priority": 0, "body_encoding": "base64", "delivery_tag": str(uuid.uuid4())},
    }
    broker = redis.Redis.from_url(stack.urls["broker_url"])
    broker.lpush("celery", json.dumps(element))
    broker.close()
    becomes(lambda: cache.get(f"gateway:selftest:{user.pk}"), "done")


def test_an_agent_answers_over_the_queue(worker):
    from core.community import services

    ada, agent = people.user(), people.user(tier="team")
    thread = services.direct_thread(ada, [agent])
    services.send_message(thread.room, ada, "are you there?")
    becomes(lambda: list(Message.objects.filter(room=thread.room).order_by("created_at").values_list("author_id", flat=True)),
            [ada.pk, agent.pk])


def test_time_is_up_for_a_mute_by_a_task(worker):
    from community_gateway import moderation
    from community_gateway.tasks import end_expired_actions

    ada, boss = people.user(), people.moderator()
    room = people.room(ada)
    moderation.mute(people.queued(people.message(room, ada)), boss, "", timezone.now())
    end_expired_actions.delay()
    becomes(lambda: RoomMembership.objects.get(room=room, user=ada).role, "member")


def test_the_levels_are_those_of_the_table():
    assert set(notifications.LEVELS) == set(dict(RoomMembership.LEVELS))
