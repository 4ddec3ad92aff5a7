"""What changes rows, each in one transaction: used by REST, by the old consumers and by tasks alike."""

import re

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.text import slugify

from community_gateway import announce

from .models import DirectMessageThread, Message, MessageReaction, ModerationQueue, Room, RoomMembership, Thread

MENTION = re.compile(r"(?<![\w@.])@([\w.+-]{1,150})")
MENTIONS_AT_MOST = 20
FLAGGED_FROM_REPORTS = 3


@transaction.atomic
def send_message(room: Room, author, content: str, *, reply_to=None, thread: Thread | None = None, attachments=()) -> Message:
    """Writes a message with all that goes with it: the room's, the member's and the conversation's counters."""
    Room.objects.select_for_update(no_key=True).get(pk=room.pk)  # so that one room has one order
    now = timezone.now()
    attachments = list(attachments)
    images = attachments and all(str(one.get("type", "")).startswith("image/") for one in attachments)
    message = Message.objects.create(
        room=room, author=author, content=content, thread=thread, attachments=attachments,
        reply_to=Message.objects.filter(pk=reply_to, room=room, is_hidden=False).first() if reply_to else None,
        mentions=mentioned(room, author, content),
        message_type="image" if images else "file" if attachments else "text",
    )
    Room.objects.filter(pk=room.pk).update(message_count=F("message_count") + 1, last_message_at=message.created_at,
                                           updated_at=now)
    RoomMembership.objects.filter(room=room, user=author).update(messages_sent=F("messages_sent") + 1, updated_at=now)
    if thread is not None:
        Thread.objects.filter(pk=thread.pk).update(message_count=F("message_count") + 1,
                                                   last_message_at=message.created_at, updated_at=now)
    if room.room_type == "dm":
        DirectMessageThread.objects.filter(room=room).update(last_message_at=message.created_at, updated_at=now)
        _ask_agents(room, message)
    return message


def mentioned(room: Room, author, content: str) -> list[int]:
    """Keys of the members whose names stand in a text."""
    names = list(dict.fromkeys(name.rstrip(".") for name in MENTION.findall(content)))[:MENTIONS_AT_MOST]
    if not names:
        return []
    users = get_user_model().objects.filter(username__in=names, is_active=True).exclude(pk=author.pk)
    if room.visibility != "public":
        users = users.filter(room_memberships__room=room, room_memberships__is_active=True)
    return sorted(users.values_list("pk", flat=True))


def _ask_agents(room: Room, message: Message) -> None:
    """An agent (tier `team`) answers from a task of its own."""
    from .tasks import process_agent_dm_task

    if message.author.tier == "team":
        return
    thread = room.dm_thread
    for agent in thread.participants.filter(tier="team").exclude(pk=message.author_id):
        arguments = {"message_id": str(message.pk), "thread_id": str(thread.pk), "agent_user_id": agent.pk}
        transaction.on_commit(
            lambda arguments=arguments: process_agent_dm_task.apply_async(kwargs=arguments, expires=600), robust=True
        )


@transaction.atomic
def react(message: Message, user, emoji: str, *, add: bool) -> dict[str, int]:
    """Adds or takes away a reaction. Returns the message's counts, which change only if the reaction does."""
    message = Message.objects.select_for_update(of=("self",)).select_related("room").get(pk=message.pk)
    if add:
        _, changed = MessageReaction.objects.get_or_create(message=message, user=user, emoji=emoji)
    else:
        changed, _ = MessageReaction.objects.filter(message=message, user=user, emoji=emoji).delete()
    if changed:
        left = message.reaction_counts.get(emoji, 0) + (1 if add else -1)
        message.reaction_counts = {name: count for name, count in (message.reaction_counts | {emoji: left}).items() if count > 0}
        Message.objects.filter(pk=message.pk).update(reaction_counts=message.reaction_counts, updated_at=timezone.now())
        announce.reaction_counts(message, emoji, user, add)
    return message.reaction_counts


@transaction.atomic
def create_room(creator, name: str, *, visibility: str = "public", description: str = "", icon: str = "") -> Room:
    slug = slugify(name)[:80] or "room"
    if Room.objects.filter(slug=slug).exists():
        slug = f"{slug}-{timezone.now():%y%m%d%H%M%S%f}"
    room = Room.objects.create(name=name, slug=slug, description=description, icon=icon, visibility=visibility,
                               creator=creator, member_count=1)
    RoomMembership.objects.create(room=room, user=creator, role="owner")
    return room


@transaction.atomic
def join_room(room: Room, user) -> RoomMembership:
    membership, created = RoomMembership.objects.get_or_create(room=room, user=user)
    if created or not membership.is_active:
        membership.is_active = True
        membership.save(update_fields=["is_active", "updated_at"])
        Room.objects.filter(pk=room.pk).update(member_count=F("member_count") + 1)
    return membership


@transaction.atomic
def leave_room(room: Room, user) -> None:
    membership = RoomMembership.objects.select_for_update().filter(room=room, user=user, is_active=True).first()
    if membership is not None:
        membership.is_active = False
        membership.save(update_fields=["is_active", "updated_at"])
        Room.objects.filter(pk=room.pk).update(member_count=F("member_count") - 1)


@transaction.atomic
def direct_thread(creator, others, name: str = "") -> DirectMessageThread:
    """The conversation of these people; for two there is only one."""
    people = sorted({creator, *others}, key=lambda user: user.pk)
    if len(people) == 2:
        get_user_model().objects.select_for_update(no_key=True).get(pk=people[0].pk)  # two who begin at once
        found = DirectMessageThread.objects.filter(is_group=False, participants=people[0]).filter(participants=people[1])
        if (existing := found.first()) is not None:
            return existing
    thread = DirectMessageThread(created_by=creator, is_group=len(people) > 2, name=name)
    room = Room.objects.create(name=name or "Direct messages", slug=f"dm-{thread.pk}", room_type="dm",
                               visibility="unlisted", creator=creator, member_count=len(people))
    thread.room = room
    thread.save()
    for user in people:
        RoomMembership.objects.create(room=room, user=user)
    thread.participants.set(people)
    return thread


@transaction.atomic
def report(message: Message, reporter, reason: str) -> bool:
    """Puts a message into the queue, or raises its count there. False when this user has reported it before."""
    Message.objects.select_for_update(no_key=True).get(pk=message.pk)
    item = ModerationQueue.objects.filter(message=message, status__in=("pending", "escalated")).first()
    if item is None:
        item = ModerationQueue.objects.create(message=message)
    if item.reporters.filter(pk=reporter.pk).exists():
        return False
    item.reporters.add(reporter)
    item.report_count += 1
    item.report_reasons = [*item.report_reasons, {"user_id": reporter.pk, "reason": reason}]
    item.save(update_fields=["report_count", "report_reasons", "updated_at"])
    if item.report_count >= FLAGGED_FROM_REPORTS and not message.is_flagged:
        Message.objects.filter(pk=message.pk).update(is_flagged=True)
    return True
