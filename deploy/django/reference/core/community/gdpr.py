"""What the law asks for: one's own data as a file, and an account that goes without tearing holes into conversations."""

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from community_gateway import acting, announce, shapes
from community_gateway.models import Device, NotificationSettings
from community_gateway.moderation import DELETED_TEXT
from community_gateway.sessions import log_out_everywhere

from .models import (
    DirectMessageThread,
    Message,
    MessageReaction,
    ModerationAction,
    ModerationQueue,
    Room,
    RoomMembership,
    Thread,
    UserBlock,
)

# So many of the newest messages and reactions are taken out of open pages one by one; older ones are on hardly any, and
# are gone when they are loaded again.
TOLD_AT_MOST = 1_000


def export(user) -> dict:
    """Everything that the community keeps about a user and by them. Other people's words are not in it."""
    messages = Message.objects.filter(author=user).select_related("room", "author").order_by("created_at")
    return {
        "exportedAt": shapes.time(timezone.now()),
        "account": {"id": str(user.pk), "username": user.username, "email": user.email, "firstName": user.first_name,
                    "lastName": user.last_name, "avatarUrl": user.avatar_url, "joinedAt": shapes.time(user.date_joined),
                    "lastSeenAt": shapes.time(user.last_seen_at)},
        "messages": [
            {"id": str(one.pk), "roomId": str(one.room_id), "room": one.room.name, "content": one.content,
             "attachments": one.attachments, "createdAt": shapes.time(one.created_at), "editedAt": shapes.time(one.edited_at)}
            for one in messages.iterator(chunk_size=1000)
        ],
        "rooms": [
            {"roomId": str(one.room_id), "room": one.room.name, "role": one.role, "joinedAt": shapes.time(one.joined_at),
             "messagesSent": one.messages_sent, "lastReadAt": shapes.time(one.last_read_at),
             "notificationLevel": one.notification_level, "notificationsEnabled": one.notifications_enabled}
            for one in RoomMembership.objects.filter(user=user).select_related("room")
        ],
        "roomsMade": [
            {"roomId": str(one.pk), "room": one.name, "createdAt": shapes.time(one.created_at)}
            for one in Room.objects.filter(creator=user).exclude(room_type="dm").order_by("created_at")
        ],
        "threads": [
            {"id": str(one.pk), "roomId": str(one.room_id), "title": one.title, "createdAt": shapes.time(one.created_at)}
            for one in Thread.objects.filter(creator=user).order_by("created_at")
        ],
        "circles": [
            {"circleId": str(one.circle_id), "circle": one.circle.name, "isActive": one.is_active,
             "joinedAt": shapes.time(one.joined_at), "points": one.points_earned_in_circle}
            for one in user.circle_memberships.select_related("circle").order_by("joined_at")
        ],
        "follows": [{"userId": str(one.following_id), "since": shapes.time(one.created_at)}
                    for one in user.following.order_by("created_at")],
        "followedBy": [{"userId": str(one.follower_id), "since": shapes.time(one.created_at)}
                       for one in user.followers.order_by("created_at")],
        "reports": [
            {"messageId": str(one.message_id), "reasons": [given.get("reason") for given in one.report_reasons
                                                           if given.get("user_id") == user.pk]}
            for one in ModerationQueue.objects.filter(reporters=user).order_by("created_at")
        ],
        "devices": [{"platform": one.platform, "token": one.token, "since": shapes.time(one.created_at)}
                    for one in Device.objects.filter(user=user).order_by("created_at")],
        "notifications": _notifications(user),
        "conversations": [str(key) for key in DirectMessageThread.objects.filter(participants=user).values_list("pk", flat=True)],
        "reactions": [
            {"messageId": str(one.message_id), "emoji": one.emoji, "createdAt": shapes.time(one.created_at)}
            for one in MessageReaction.objects.filter(user=user)
        ],
        "blocked": [str(key) for key in UserBlock.objects.filter(blocker=user).values_list("blocked_id", flat=True)],
        "moderation": [
            {"action": one.action_type, "reason": one.reason, "createdAt": shapes.time(one.created_at),
             "expiresAt": shapes.time(one.expires_at)}
            for one in ModerationAction.objects.filter(target_user=user)
        ],
    }


def _notifications(user) -> dict:
    found = NotificationSettings.objects.filter(user=user).first() or NotificationSettings(user=user)
    return {"push": found.push, "emailDigest": found.email_digest, "digestSentAt": shapes.time(found.digest_sent_at)}


def _written_by(user) -> list[Thread]:
    """Threads whose titles are the user's words: typed when they began the thread, or copied from a message of theirs, as
    REST and the gateway do for a thread without a title. Of what a changed message said before nothing is known: there a
    title counts as copied."""
    def words(text: str) -> str:
        return " ".join(text.split())

    found = Thread.objects.filter(Q(creator=user) | Q(parent_message__author=user)).exclude(title="")
    def is_copied(title: str, message: Message) -> bool:
        return message.is_edited or message.message_type == "deleted" or words(message.content).startswith(words(title))

    return [one for one in found.select_related("parent_message").select_for_update(of=("self",)).order_by("pk")
            if one.creator_id == user.pk or is_copied(one.title, one.parent_message)]


@transaction.atomic
def anonymise(user) -> None:
    """Ends an account. Its messages lose author and text and stay where they stood, so that answers to them and threads
    under them remain; everything that says who it was goes. Open pages lose it at once, and its own sockets end."""
    now = timezone.now()
    shown = Message.objects.filter(author=user, is_hidden=False).exclude(message_type="deleted").select_related("room")
    with acting(user):
        for message in shown.order_by("-created_at")[:TOLD_AT_MOST]:
            announce.message_deleted(message)
    threads = _written_by(user)
    Thread.objects.filter(pk__in=[one.pk for one in threads]).update(title=DELETED_TEXT, updated_at=now)
    for thread in threads[:TOLD_AT_MOST]:
        thread.title = DELETED_TEXT
        announce.thread_updated(thread)
    Message.objects.filter(author=user).update(
        author=None, message_type="deleted", content=DELETED_TEXT, attachments=[], embeds=[], mentions=[],
        is_pinned=False, updated_at=now,
    )
    own = MessageReaction.objects.filter(user=user)
    taken = list(own.order_by("-created_at").values_list("message_id", "emoji"))
    reacted = {one.pk: one for one in Message.objects.filter(pk__in=own.values("message_id")).select_related("room")
               .order_by("pk").select_for_update(of=("self",))}
    own.delete()
    for message in reacted.values():
        message.reaction_counts = {}
        for emoji in message.reactions.order_by("created_at").values_list("emoji", flat=True):
            message.reaction_counts[emoji] = message.reaction_counts.get(emoji, 0) + 1
        Message.objects.filter(pk=message.pk).update(reaction_counts=message.reaction_counts, updated_at=now)
    for key, emoji in taken[:TOLD_AT_MOST]:
        if not reacted[key].is_hidden:
            announce.reaction_counts(reacted[key], emoji, user, False)
    for message in Message.objects.filter(mentions__contains=[user.pk]).select_for_update(of=("self",)):
        Message.objects.filter(pk=message.pk).update(mentions=[one for one in message.mentions if one != user.pk])
    for item in ModerationQueue.objects.filter(reporters=user).select_for_update(of=("self",)):
        item.report_reasons = [one for one in item.report_reasons if one.get("user_id") != user.pk]
        item.reporters.remove(user)
        item.save(update_fields=["report_reasons", "updated_at"])
    # One delete a table; rights and blocks are told to the gateways by the signals, the account's sockets end below.
    joined = RoomMembership.objects.filter(user=user)
    Room.objects.filter(pk__in=joined.filter(is_active=True).values("room_id")).update(member_count=F("member_count") - 1)
    joined.delete()
    UserBlock.objects.filter(blocker=user).delete()
    UserBlock.objects.filter(blocked=user).delete()
    user.dm_threads.clear()
    user.circle_memberships.all().delete()
    user.following.all().delete()
    user.followers.all().delete()
    user.gateway_devices.all().delete()
    NotificationSettings.objects.filter(user=user).delete()
    # A ban whose time ends later must not open the account again.
    ModerationAction.objects.filter(target_user=user, is_active=True).update(is_active=False)
    name = f"deleted-{user.pk}"
    user.username, user.email = name, f"{name}@invalid.example"
    user.first_name = user.last_name = ""
    user.avatar_url, user.last_seen_at, user.is_active = None, None, False
    user.is_staff = user.is_superuser = False
    user.set_unusable_password()
    user.save()
    log_out_everywhere(user)
