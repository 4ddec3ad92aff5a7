"""The tables in the admin. The moderation queue is the package's."""

from django.contrib import admin

from .models import DirectMessageThread, Message, ModerationAction, Room, RoomMembership, Thread, UserBlock


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    list_display = ("name", "room_type", "visibility", "member_count", "message_count", "is_archived", "is_active")
    list_filter = ("room_type", "visibility", "is_archived", "is_active")
    search_fields = ("name", "slug")
    raw_id_fields = ("creator", "circle")
    # The gateway raises these while the form is open: a form must not write old ones back.
    readonly_fields = ("member_count", "message_count", "online_count", "last_message_at")

    def save_model(self, request, obj, form, change):
        obj.save(update_fields=[*form.changed_data, "updated_at"] if change else None)


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ("created_at", "author", "room", "content", "is_pinned", "is_hidden", "is_flagged")
    list_filter = ("is_flagged", "is_hidden", "is_pinned", "message_type")
    list_select_related = ("author", "room")
    search_fields = ("content",)
    raw_id_fields = ("author", "room", "thread", "reply_to")
    readonly_fields = ("reaction_counts", "mentions")

    def save_model(self, request, obj, form, change):
        from community_gateway import acting

        with acting(request.user):
            obj.save(update_fields=[*form.changed_data, "updated_at"] if change else None)


@admin.register(RoomMembership)
class MembershipAdmin(admin.ModelAdmin):
    list_display = ("user", "room", "role", "is_active")
    list_filter = ("role", "is_active")
    raw_id_fields = ("user", "room")
    readonly_fields = ("messages_sent",)

    def save_model(self, request, obj, form, change):
        obj.save(update_fields=[*form.changed_data, "updated_at"] if change else None)


@admin.register(Thread, DirectMessageThread, UserBlock)
class PlainAdmin(admin.ModelAdmin):
    def get_readonly_fields(self, request, obj=None):
        return [field.name for field in self.model._meta.fields] if obj else ()


@admin.register(ModerationAction)
class ActionAdmin(admin.ModelAdmin):
    list_display = ("created_at", "action_type", "source", "target_user", "moderator", "expires_at", "is_active")
    list_filter = ("action_type", "source", "is_active")

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False
