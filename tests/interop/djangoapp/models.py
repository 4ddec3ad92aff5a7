"""Django's models of the tables that the gateway reads and writes. Unmanaged: deploy/schema.sql has made them."""

import uuid

from django.db import models


class Table(models.Model):
    class Meta:
        abstract = True
        managed = False


class User(Table):
    username = models.CharField(max_length=150, unique=True)
    email = models.CharField(max_length=254, unique=True)
    first_name = models.CharField(max_length=150, default="")
    last_name = models.CharField(max_length=150, default="")
    is_superuser = models.BooleanField(default=False)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(auto_now_add=True)
    role = models.CharField(max_length=20, default="explorer")
    avatar_url = models.CharField(max_length=200, null=True)
    tier = models.CharField(max_length=20, default="seedling")
    last_seen_at = models.DateTimeField(null=True)

    class Meta(Table.Meta):
        db_table = "users_user"


class Room(Table):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=100, unique=True)
    description = models.TextField(default="")
    icon = models.CharField(max_length=50, default="")
    room_type = models.CharField(max_length=20, default="forum")
    visibility = models.CharField(max_length=20, default="public")
    auto_thread = models.BooleanField(default=False)
    position = models.IntegerField(default=0)
    is_default = models.BooleanField(default=False)
    slow_mode_seconds = models.IntegerField(default=0)
    min_trust_to_join = models.IntegerField(default=0)
    min_trust_to_post = models.IntegerField(default=0)
    member_count = models.IntegerField(default=0)
    message_count = models.IntegerField(default=0)
    online_count = models.IntegerField(default=0)
    last_message_at = models.DateTimeField(null=True)
    is_archived = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    circle_id = models.UUIDField(null=True)
    creator = models.ForeignKey(User, models.DO_NOTHING, null=True)

    class Meta(Table.Meta):
        db_table = "community_room"


class Membership(Table):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    room = models.ForeignKey(Room, models.DO_NOTHING)
    user = models.ForeignKey(User, models.DO_NOTHING)
    role = models.CharField(max_length=20, default="member")
    trust_score = models.IntegerField(default=0)
    messages_sent = models.IntegerField(default=0)
    warnings_count = models.IntegerField(default=0)
    notifications_enabled = models.BooleanField(default=True)
    notification_level = models.CharField(max_length=20, default="all")
    is_active = models.BooleanField(default=True)
    last_read_at = models.DateTimeField(null=True)
    joined_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(Table.Meta):
        db_table = "community_roommembership"


class Message(Table):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    room = models.ForeignKey(Room, models.DO_NOTHING)
    thread_id = models.UUIDField(null=True)
    author = models.ForeignKey(User, models.DO_NOTHING, null=True)
    content = models.TextField()
    message_type = models.CharField(max_length=20, default="text")
    attachments = models.JSONField(default=list)
    embeds = models.JSONField(default=list)
    mentions = models.JSONField(default=list)
    reaction_counts = models.JSONField(default=dict)
    reply_to = models.ForeignKey("self", models.DO_NOTHING, null=True)
    is_edited = models.BooleanField(default=False)
    edited_at = models.DateTimeField(null=True)
    is_flagged = models.BooleanField(default=False)
    is_hidden = models.BooleanField(default=False)
    is_pinned = models.BooleanField(default=False)
    # Plain, not auto_now_add: tests set it.
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(Table.Meta):
        db_table = "community_message"


class DirectThread(Table):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    room = models.OneToOneField(Room, models.DO_NOTHING, null=True)
    created_by = models.ForeignKey(User, models.DO_NOTHING, null=True)
    is_group = models.BooleanField(default=False)
    name = models.CharField(max_length=100, default="")
    last_message_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    participants = models.ManyToManyField(User, through="Participant")

    class Meta(Table.Meta):
        db_table = "community_directmessagethread"


class Participant(Table):
    directmessagethread = models.ForeignKey(DirectThread, models.DO_NOTHING)
    user = models.ForeignKey(User, models.DO_NOTHING)

    class Meta(Table.Meta):
        db_table = "community_directmessagethread_participants"


class Block(Table):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    blocker = models.ForeignKey(User, models.DO_NOTHING, related_name="+")
    blocked = models.ForeignKey(User, models.DO_NOTHING, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(Table.Meta):
        db_table = "community_userblock"


class Circle(Table):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=100)
    tier = models.CharField(max_length=20, default="seedling")
    week_start = models.DateField()
    week_end = models.DateField()
    member_count = models.IntegerField(default=0)
    active_member_count = models.IntegerField(default=0)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(Table.Meta):
        db_table = "thrive_circle_circle"


class CircleMembership(Table):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    circle = models.ForeignKey(Circle, models.DO_NOTHING)
    user = models.ForeignKey(User, models.DO_NOTHING)
    is_active = models.BooleanField(default=True)
    joined_at = models.DateTimeField(auto_now_add=True)
    points_earned_in_circle = models.IntegerField(default=0)
    was_active = models.BooleanField(default=False)

    class Meta(Table.Meta):
        db_table = "thrive_circle_circlemembership"
