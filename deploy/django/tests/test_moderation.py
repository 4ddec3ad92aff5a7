"""A moderator's decisions: the rows, the orders, and the clicks that make them."""

from datetime import timedelta

import people
import pytest
from core.community import gdpr
from core.community.models import ModerationAction, RoomMembership
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from community_gateway import conf, moderation, scores


@pytest.fixture
def case(heard):
    """A member's message in the queue, and a moderator."""

    class Case:
        author = people.user()
        boss = people.moderator()
        room = people.room(author)
        message = people.message(room, author, "rude words")
        item = people.queued(message, ai_flagged=True, ai_scores={"harassment": 0.45}, ai_reason="harassment 0.45")

        def refresh(self):
            for row in (self.author, self.room, self.message, self.item):
                row.refresh_from_db()
            self.membership = RoomMembership.objects.get(room=self.room, user=self.author)
            self.actions = list(ModerationAction.objects.filter(target_user=self.author).order_by("created_at"))

    heard.all()
    return Case()


def decision(case, what):
    return {"action": "moderation", "message": str(case.message.pk), "decision": what}


def told(case, action, reason=""):
    return (f"community:user:{case.author.pk}",
            {"event": "moderation", "roomId": str(case.room.pk), "messageId": str(case.message.pk), "action": action, "reason": reason})


def test_approving_shows_what_was_hidden(case, heard):
    case.message.__class__.objects.filter(pk=case.message.pk).update(is_hidden=True, is_flagged=True)
    ModerationAction.objects.create(action_type="hide", source="ai", target_user=case.author, target_message=case.message,
                                    target_room=case.room)
    moderation.approve(case.item, case.boss, "fine")
    case.refresh()
    assert (case.message.is_hidden, case.message.is_flagged) == (False, False)
    assert (case.item.status, case.item.reviewed_by, case.item.review_notes) == ("approved", case.boss, "fine")
    assert timezone.now() - case.item.reviewed_at < timedelta(minutes=1)
    assert [(a.action_type, a.source, a.moderator, a.target_message) for a in case.actions] == [
        ("hide", "ai", None, case.message), ("approve", "admin", case.boss, case.message)]
    assert heard.all() == [("community:control", decision(case, "approved"))]


def test_approving_what_everybody_saw_tells_nobody(case, heard):
    moderation.approve(case.item, case.boss)
    assert heard.all() == []


def test_hiding_takes_the_message_away_and_keeps_its_text(case, heard):
    moderation.hide(case.item, case.boss, "rude")
    case.refresh()
    assert (case.message.is_hidden, case.message.content, case.item.status) == (True, "rude words", "rejected")
    assert heard.all() == [("community:control", decision(case, "hidden"))]


def test_deleting_leaves_what_the_gateway_leaves(case, heard):
    moderation.delete(case.item, case.boss)
    case.refresh()
    message = case.message
    assert (message.message_type, message.content, message.attachments, message.mentions, message.is_pinned) == (
        "deleted", "[Message deleted]", [], [], False)
    assert heard.all() == [("community:control", decision(case, "deleted"))]


def test_warning_counts_and_tells_the_author(case, heard):
    moderation.warn(case.item, case.boss, "be kind")
    case.refresh()
    assert (case.membership.warnings_count, case.item.status) == (1, "pending")
    assert heard.all() == [told(case, "warned", "be kind")]


def test_muting_and_banning_change_the_role_and_say_until_when(case, heard):
    ends = timezone.now() + timedelta(hours=1)
    moderation.mute(case.item, case.boss, "quiet", ends)
    case.refresh()
    assert (case.membership.role, case.actions[0].action_type, case.actions[0].expires_at) == ("muted", "mute", ends)
    refresh = {"action": "refresh", "room": str(case.room.pk), "user": str(case.author.pk)}
    assert heard.orders() == [refresh]
    moderation.ban(case.item, case.boss, "out")
    case.refresh()
    assert (case.membership.role, case.actions[1].expires_at, case.actions[1].target_room) == ("banned", None, case.room)
    assert heard.orders() == [refresh, {"action": "kick", "room": str(case.room.pk), "user": str(case.author.pk)}]


def test_somebody_without_a_membership_is_banned_by_one_that_counts_for_nothing(case):
    RoomMembership.objects.all().delete()
    moderation.ban(case.item, case.boss)
    case.refresh()
    assert (case.membership.role, case.membership.is_active) == ("banned", False)


def test_a_ban_everywhere_closes_the_account(case, heard):
    moderation.ban(case.item, case.boss, everywhere=True)
    case.refresh()
    assert case.author.is_active is False
    assert case.actions[0].target_room is None
    assert cache.get(f"session:version:{case.author.pk}") == 2
    assert [order["action"] for order in heard.orders()] == ["logout", "disconnect"]


def test_escalating_changes_the_queue_alone(case, heard):
    moderation.escalate(case.item, case.boss, "for the lawyers")
    case.refresh()
    assert (case.item.status, case.item.review_notes, case.actions) == ("escalated", "for the lawyers", [])
    assert heard.all() == []


def test_time_ends_mutes_and_bans(case, heard):
    ModerationAction.objects.all().delete()  # what other tests left would end as well
    now = timezone.now()
    moderation.mute(case.item, case.boss, "", now + timedelta(hours=1))
    moderation.mute(case.item, case.boss, "", now + timedelta(hours=2))
    heard.all()
    assert moderation.end_expired(now) == 0
    assert moderation.end_expired(now + timedelta(hours=1)) == 1  # a longer one still stands
    case.refresh()
    assert case.membership.role == "muted"
    assert moderation.end_expired(now + timedelta(hours=3)) == 1
    case.refresh()
    assert case.membership.role == "member"
    assert [(a.action_type, a.source) for a in case.actions][-1] == ("unmute", "system")
    assert heard.orders() == [{"action": "refresh", "room": str(case.room.pk), "user": str(case.author.pk)}]
    assert moderation.end_expired(now + timedelta(hours=4)) == 0


def test_a_role_that_changed_meanwhile_is_left_alone(case):
    now = timezone.now()
    moderation.mute(case.item, case.boss, "", now)
    RoomMembership.objects.update(role="banned")
    moderation.end_expired(now)
    case.refresh()
    assert case.membership.role == "banned"


def test_an_account_comes_back_when_its_ban_ends(case):
    now = timezone.now()
    moderation.ban(case.item, case.boss, "", now, everywhere=True)
    moderation.end_expired(now)
    case.refresh()
    assert case.author.is_active is True


def over(case, now):
    moderation.end_expired(now + timedelta(hours=3))
    case.refresh()
    return case.author.is_active


@pytest.mark.parametrize("what", [moderation.mute, moderation.ban])
def test_the_end_of_a_punishment_in_a_room_that_is_gone_opens_no_account(case, what):
    now = timezone.now()
    what(case.item, case.boss, "", now + timedelta(hours=1))
    case.room.delete()
    assert ModerationAction.objects.get(target_user=case.author).target_room is None
    case.author.__class__.objects.filter(pk=case.author.pk).update(is_active=False)
    moderation.end_expired(now + timedelta(hours=3))
    case.author.refresh_from_db()
    assert case.author.is_active is False
    assert not ModerationAction.objects.filter(target_user=case.author, is_active=True).exists()


def test_the_end_of_a_ban_opens_no_account_that_staff_had_closed(case):
    now = timezone.now()
    case.author.__class__.objects.filter(pk=case.author.pk).update(is_active=False)
    moderation.ban(case.item, case.boss, "", now, everywhere=True)
    assert over(case, now) is False


def test_the_end_of_a_ban_opens_no_account_that_was_opened_and_closed_again(case):
    now = timezone.now()
    moderation.ban(case.item, case.boss, "", now + timedelta(hours=1), everywhere=True)
    for is_active in (True, False):
        case.author.is_active = is_active
        case.author.save()
    assert over(case, now) is False


def test_the_end_of_a_ban_opens_no_account_that_is_gone(case):
    now = timezone.now()
    moderation.ban(case.item, case.boss, "", now + timedelta(hours=1), everywhere=True)
    gdpr.anonymise(case.author)
    moderation.end_expired(now + timedelta(hours=3))
    case.author.refresh_from_db()
    assert case.author.is_active is False


def test_an_account_comes_back_when_the_last_of_its_bans_ends(case):
    now = timezone.now()
    moderation.ban(case.item, case.boss, "", now + timedelta(hours=1), everywhere=True)
    moderation.ban(case.item, case.boss, "", now + timedelta(hours=2), everywhere=True)
    case.room.delete()
    for hours, is_active in ((1, False), (2, True)):
        moderation.end_expired(now + timedelta(hours=hours))
        case.author.refresh_from_db()
        assert case.author.is_active is is_active


def test_staff_is_punished_by_superusers_only_and_nobody_by_themselves(case):
    case.author.__class__.objects.filter(pk=case.author.pk).update(is_staff=True)
    helper = people.user(is_staff=True)
    with pytest.raises(PermissionDenied):
        moderation.ban(case.item, helper)
    own = people.queued(people.message(case.room, case.boss))
    with pytest.raises(PermissionDenied):
        moderation.warn(own, case.boss)
    moderation.ban(case.item, case.boss)


def test_scores_are_put_into_words():
    found = scores.explained({"violence": 0.1, "self_harm_intent": 0.9, "harassment": 0.5, "odd": True, "words": 1})
    assert [(one.category, one.score) for one in found] == [
        ("words", 1.0), ("self-harm/intent", 0.9), ("harassment", 0.5), ("violence", 0.1)]
    assert [one.verdict.split(":")[1].split()[0] for one in found] == ["hidden", "hidden", "shown,", "no"]
    assert scores.summary({"hate": 0.31}) == "hate 0.31"
    assert scores.explained(None) == [] and scores.summary({}) == ""


def test_scores_are_judged_by_the_levels_that_the_gateway_has(settings_of):
    with settings_of(FLAG_FROM=0.2, BLOCK_FROM=0.9, CATEGORIES={"hate": (0.5, 0.6)}):
        found = scores.explained({"violence": 0.8, "harassment": 0.25, "hate": 0.65, "sexual": 0.1})
    assert [one.verdict for one in found] == [
        "from 0.20 on: shown, and waits for a human", "from 0.60 on: hidden until a human approves it",
        "from 0.20 on: shown, and waits for a human", "below 0.20: no concern"]
    assert conf._levels("hate=0.5:0.6, sexual/minors = 0:0.1,nonsense,a=b:c") == {
        "hate": (0.5, 0.6), "sexual/minors": (0.0, 0.1)}


# ---- the admin -----------------------------------------------------------------------------------------------------


def test_the_admin_shows_the_queue_with_its_scores_explained(case, client):
    client.force_login(case.boss)
    page = client.get("/admin/community/moderationqueue/").content.decode()
    assert "rude words" in page and "harassment 0.45" in page
    page = client.get(f"/admin/community/moderationqueue/{case.item.pk}/change/").content.decode()
    assert "insults or belittles somebody" in page and "from 0.30 on: shown" in page
    assert page.count('name="_decision"') == 8


@pytest.mark.parametrize(
    ("button", "status", "hidden", "role"),
    [
        ("approve", "approved", False, "member"),
        ("hide", "rejected", True, "member"),
        ("delete", "rejected", False, "member"),
        ("warn", "pending", False, "member"),
        ("mute", "pending", False, "muted"),
        ("ban", "pending", False, "banned"),
        ("escalate", "escalated", False, "member"),
    ],
)
def test_each_button_does_what_it_says(case, client, button, status, hidden, role):
    client.force_login(case.boss)
    form = {"review_notes": "seen", "_decision": button, "_duration": "24"}
    answer = client.post(f"/admin/community/moderationqueue/{case.item.pk}/change/", form)
    assert answer.status_code == 302
    case.refresh()
    assert (case.item.status, case.message.is_hidden, case.membership.role) == (status, hidden, role)
    if button in ("mute", "ban"):
        left = case.actions[0].expires_at - timezone.now()
        assert timedelta(hours=23) < left < timedelta(hours=25)


def test_the_list_decides_for_many(case, client):
    second = people.queued(people.message(case.room, case.author))
    client.force_login(case.boss)
    form = {"action": "decide_hide", "_selected_action": [case.item.pk, second.pk], "duration": ""}
    answer = client.post("/admin/community/moderationqueue/", form, follow=True)
    assert "Hide: 2 done." in answer.content.decode()
    case.refresh()
    second.refresh_from_db()
    assert {case.item.status, second.status} == {"rejected"}


def test_who_may_only_look_cannot_decide(case, client):
    from django.contrib.auth.models import Permission

    helper = people.user(is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="view_moderationqueue"))
    client.force_login(helper)
    page = client.get(f"/admin/community/moderationqueue/{case.item.pk}/change/")
    assert page.status_code == 200 and b'name="_decision"' not in page.content
    form = {"_decision": "hide", "_duration": "", "review_notes": ""}
    assert client.post(f"/admin/community/moderationqueue/{case.item.pk}/change/", form).status_code == 403
    case.refresh()
    assert case.item.status == "pending"


# ---- the token view and sessions -----------------------------------------------------------------------------------


def test_the_token_view_mints_what_the_gateway_reads(case, client):
    import pickle

    import redis
    from conftest import os

    assert client.post("/api/ws/token/").status_code == 401
    client.force_login(case.author)
    assert client.get("/api/ws/token/").status_code == 405
    answer = client.post("/api/ws/token/")
    assert answer["Cache-Control"].count("no-store") == 1
    token = answer.json()["connection_token"]
    assert len(token) == 43 and answer.json()["expires_in"] == 60
    store = redis.Redis.from_url(os.environ["GATEWAY_CACHE_URL"])
    value = pickle.loads(store.get(f"allthrive:1:ws_conn_token:{token}"))
    assert value | {"created_at": 0} == {"user_id": case.author.pk, "username": case.author.username,
                                         "connection_id": None, "created_at": 0, "used": False}
    assert isinstance(value["created_at"], float)
    assert 50 < store.ttl(f"allthrive:1:ws_conn_token:{token}") <= 60
    store.close()
