"""Rooms and what is in them. The migrations of these models make the tables that the gateway reads and writes."""

import uuid

from django.conf import settings
from django.core.validators import MaxLengthValidator
from django.db import models

USER = settings.AUTH_USER_MODEL


class Entity(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True


class Room(Entity):
    class Type(models.TextChoices):
        FORUM = "forum"
        CIRCLE = "circle"
        DM = "dm"

    class Visibility(models.TextChoices):
        PUBLIC = "public"
        PRIVATE = "private"
        UNLISTED = "unlisted"

    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=100, unique=True)
    description = models.TextField(blank=True, default="")
    icon = models.CharField(max_length=50, blank=True, default="")
    room_type = models.CharField(max_length=20, choices=Type.choices, default=Type.FORUM)
    visibility = models.CharField(max_length=20, choices=Visibility.choices, default=Visibility.PUBLIC)
    creator = models.ForeignKey(USER, models.SET_NULL, null=True, blank=True, related_name="created_rooms")
    circle = models.OneToOneField("thrive_circle.Circle", models.CASCADE, null=True, blank=True, related_name="room")
    auto_thread = models.BooleanField(default=False)
    position = models.IntegerField(default=0)
    is_default = models.BooleanField(default=False)
    slow_mode_seconds = models.IntegerField(default=0)
    min_trust_to_join = models.IntegerField(default=0)
    min_trust_to_post = models.IntegerField(default=0)
    member_count = models.IntegerField(default=0)
    message_count = models.IntegerField(default=0)
    online_count = models.IntegerField(default=0)
    last_message_at = models.DateTimeField(null=True, blank=True)
    is_archived = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [
            models.Index(fields=["slug"]),
            models.Index(fields=["circle"]),
            models.Index(fields=["room_type", "visibility", "is_active"]),
            models.Index(fields=["is_default", "is_active"]),
            models.Index(fields=["creator", "-created_at"]),
            models.Index(fields=["-last_message_at"]),
        ]

    def __str__(self) -> str:
        return self.name


class Thread(Entity):
    room = models.ForeignKey(Room, models.CASCADE, related_name="threads")
    parent_message = models.ForeignKey("Message", models.SET_NULL, null=True, blank=True, related_name="begun_threads")
    creator = models.ForeignKey(USER, models.SET_NULL, null=True, blank=True, related_name="created_threads")
    title = models.CharField(max_length=200, blank=True, default="")
    is_locked = models.BooleanField(default=False)
    is_pinned = models.BooleanField(default=False)
    is_resolved = models.BooleanField(default=False)
    is_archived = models.BooleanField(default=False)
    auto_archive_after_hours = models.IntegerField(null=True, blank=True)
    message_count = models.IntegerField(default=0)
    last_message_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [
            models.Index(fields=["room", "-last_message_at"]),
            models.Index(fields=["room", "is_pinned", "-created_at"]),
            models.Index(fields=["creator", "-created_at"]),
            models.Index(fields=["parent_message"]),
        ]

    def __str__(self) -> str:
        return self.title or str(self.pk)


class Message(Entity):
    class Type(models.TextChoices):
        TEXT = "text"
        IMAGE = "image"
        FILE = "file"
        EMBED = "embed"
        SYSTEM = "system"
        DELETED = "deleted"

    room = models.ForeignKey(Room, models.CASCADE, related_name="messages")
    thread = models.ForeignKey(Thread, models.SET_NULL, null=True, blank=True, related_name="messages")
    author = models.ForeignKey(USER, models.SET_NULL, null=True, blank=True, related_name="messages")
    reply_to = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="answers")
    content = models.TextField(validators=[MaxLengthValidator(4000)])
    message_type = models.CharField(max_length=20, choices=Type.choices, default=Type.TEXT)
    attachments = models.JSONField(default=list, blank=True)
    embeds = models.JSONField(default=list, blank=True)
    mentions = models.JSONField(default=list, blank=True)
    reaction_counts = models.JSONField(default=dict, blank=True)
    is_edited = models.BooleanField(default=False)
    edited_at = models.DateTimeField(null=True, blank=True)
    is_flagged = models.BooleanField(default=False)
    is_hidden = models.BooleanField(default=False)
    is_pinned = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [
            models.Index(fields=["room", "-created_at", "id"]),
            models.Index(fields=["room", "created_at"]),
            models.Index(fields=["thread", "created_at"]),
            models.Index(fields=["author", "-created_at"]),
            models.Index(fields=["is_flagged", "-created_at"]),
            models.Index(fields=["is_pinned", "room"]),
        ]

    def __str__(self) -> str:
        return self.content[:50]


class MessageReaction(Entity):
    message = models.ForeignKey(Message, models.CASCADE, related_name="reactions")
    user = models.ForeignKey(USER, models.CASCADE, related_name="message_reactions")
    emoji = models.CharField(max_length=10)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        unique_together = [("message", "user", "emoji")]
        indexes = [models.Index(fields=["message", "emoji"]), models.Index(fields=["user", "-created_at"])]


class RoomMembership(Entity):
    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        MODERATOR = "moderator"
        TRUSTED = "trusted"
        MEMBER = "member"
        MUTED = "muted"
        BANNED = "banned"

    LEVELS = [("all", "all"), ("mentions", "mentions"), ("none", "none")]

    room = models.ForeignKey(Room, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(USER, models.CASCADE, related_name="room_memberships")
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.MEMBER)
    trust_score = models.IntegerField(default=0)
    messages_sent = models.IntegerField(default=0)
    warnings_count = models.IntegerField(default=0)
    notifications_enabled = models.BooleanField(default=True)
    notification_level = models.CharField(max_length=20, choices=LEVELS, default="all")
    is_active = models.BooleanField(default=True)
    last_read_at = models.DateTimeField(null=True, blank=True)
    joined_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        unique_together = [("room", "user")]
        indexes = [
            models.Index(fields=["room", "role", "is_active"]),
            models.Index(fields=["user", "is_active"]),
            models.Index(fields=["user", "role"]),
        ]


class DirectMessageThread(Entity):
    room = models.OneToOneField(Room, models.CASCADE, null=True, blank=True, related_name="dm_thread")
    participants = models.ManyToManyField(USER, related_name="dm_threads")
    created_by = models.ForeignKey(USER, models.SET_NULL, null=True, blank=True, related_name="created_dm_threads")
    is_group = models.BooleanField(default=False)
    name = models.CharField(max_length=100, blank=True, default="")
    last_message_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["-last_message_at"]), models.Index(fields=["created_by", "-created_at"])]


class UserBlock(Entity):
    blocker = models.ForeignKey(USER, models.CASCADE, related_name="blocks")
    blocked = models.ForeignKey(USER, models.CASCADE, related_name="blocked_by")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        unique_together = [("blocker", "blocked")]
        indexes = [models.Index(fields=["blocker"]), models.Index(fields=["blocked"])]


class ModerationQueue(Entity):
    class Status(models.TextChoices):
        PENDING = "pending"
        APPROVED = "approved"
        REJECTED = "rejected"
        ESCALATED = "escalated"

    message = models.ForeignKey(Message, models.CASCADE, related_name="queue_items")
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PENDING)
    ai_flagged = models.BooleanField(default=False)
    ai_scores = models.JSONField(default=dict, blank=True)
    ai_reason = models.TextField(blank=True, default="")
    report_count = models.IntegerField(default=0)
    report_reasons = models.JSONField(default=list, blank=True)
    reporters = models.ManyToManyField(USER, blank=True, related_name="reports")
    reviewed_by = models.ForeignKey(USER, models.SET_NULL, null=True, blank=True, related_name="reviews")
    reviewed_at = models.DateTimeField(null=True, blank=True)
    review_notes = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "moderation queue"
        indexes = [
            models.Index(fields=["status", "-created_at"]),
            models.Index(fields=["ai_flagged", "status"]),
            models.Index(fields=["reviewed_by", "-reviewed_at"]),
        ]


class ModerationAction(Entity):
    ACTIONS = [(word, word) for word in ("warn", "delete", "mute", "unmute", "ban", "unban", "hide", "unhide", "lock",
                                         "unlock", "approve")]
    SOURCES = [(word, word) for word in ("ai", "community", "admin", "system")]

    moderator = models.ForeignKey(USER, models.SET_NULL, null=True, blank=True, related_name="actions_taken")
    target_user = models.ForeignKey(USER, models.CASCADE, related_name="actions_received")
    target_message = models.ForeignKey(Message, models.SET_NULL, null=True, blank=True, related_name="actions")
    target_room = models.ForeignKey(Room, models.SET_NULL, null=True, blank=True, related_name="actions")
    action_type = models.CharField(max_length=20, choices=ACTIONS)
    source = models.CharField(max_length=20, choices=SOURCES)
    reason = models.TextField(blank=True, default="")
    expires_at = models.DateTimeField(null=True, blank=True)
    is_active = models.BooleanField(default=True)
    ai_scores = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["target_user", "-created_at"]),
            models.Index(fields=["moderator", "-created_at"]),
            models.Index(fields=["action_type", "-created_at"]),
            models.Index(fields=["source", "-created_at"]),
            models.Index(fields=["is_active", "expires_at"]),
        ]
