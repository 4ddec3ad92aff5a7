"""The moderation queue in Django's admin: what was found and reported, and one click for each decision."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from . import moderation, scores
from .conf import config, model_or_none
from .models import Device, NotificationSettings

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

DURATIONS = [("", "no end"), ("1", "1 hour"), ("24", "1 day"), ("168", "1 week"), ("720", "30 days")]
DECISIONS: dict[str, tuple[str, str]] = {
    "approve": ("Approve", "Show the message; nothing waits any more"),
    "hide": ("Hide", "Nobody sees the message"),
    "delete": ("Delete", "The text is gone, [Message deleted] stays"),
    "warn": ("Warn the author", "The author is told"),
    "mute": ("Mute the author", "In this room; reads, does not write"),
    "ban": ("Ban the author", "From this room, at once"),
    "ban_everywhere": ("Ban everywhere", "The account is closed, at once"),
    "escalate": ("Escalate", "Somebody else decides"),
}


class DurationForm(ActionForm):
    """How long a mute or a ban lasts."""

    duration = forms.ChoiceField(choices=DURATIONS, required=False, label="Mute or ban for")


def _decide(name: str, item: Any, request: HttpRequest, notes: str, hours: str) -> None:
    ends = timezone.now() + timedelta(hours=int(hours)) if hours in dict(DURATIONS) and hours else None
    if name == "mute":
        moderation.mute(item, request.user, notes, ends)
    elif name in ("ban", "ban_everywhere"):
        moderation.ban(item, request.user, notes, ends, everywhere=name == "ban_everywhere")
    else:
        getattr(moderation, name)(item, request.user, notes)


def _list_action(name: str) -> Callable[..., None]:
    @admin.action(description=DECISIONS[name][0], permissions=["change"])
    def action(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        decided = 0
        for item in queryset:
            try:
                _decide(name, item, request, "", request.POST.get("duration", ""))
                decided += 1
            except PermissionDenied as error:
                self.message_user(request, f"{item.pk}: {error}", messages.ERROR)
        self.message_user(request, f"{DECISIONS[name][0]}: {decided} done.", messages.SUCCESS)

    action.__name__ = f"decide_{name}"
    return action


class ModerationQueueAdmin(ModelAdmin):
    """Reads the queue; changes it by decisions only."""

    change_form_template = "admin/community_gateway/queue.html"
    list_display = ("created_at", "status", "excerpt", "author", "room", "worst_score", "report_count")
    list_filter = ("status", "ai_flagged")
    list_select_related = ("message__author", "message__room")
    search_fields = ("message__content", "message__author__username")
    ordering = ("-created_at",)
    actions = [_list_action(name) for name in DECISIONS]
    action_form = DurationForm
    fieldsets = (
        (None, {"fields": ("status", "room", "author", "text", "hidden")}),
        ("What was found", {"fields": ("ai_flagged", "ai_reason", "scores_explained")}),
        ("Reports", {"fields": ("report_count", "reports")}),
        ("Review", {"fields": ("review_notes", "reviewed_by", "reviewed_at", "history")}),
    )
    readonly_fields = ("status", "room", "author", "text", "hidden", "ai_flagged", "ai_reason", "scores_explained",
                       "report_count", "reports", "reviewed_by", "reviewed_at", "history")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
                        extra_context: dict[str, Any] | None = None) -> Any:
        context = {"decisions": [(name, *words) for name, words in DECISIONS.items()], "durations": DURATIONS}
        return super().changeform_view(request, object_id, form_url, (extra_context or {}) | context)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        name = request.POST.get("_decision", "")
        if name not in DECISIONS:
            return super().response_change(request, obj)
        try:
            _decide(name, obj, request, obj.review_notes, request.POST.get("_duration", ""))
        except PermissionDenied as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.path)
        self.message_user(request, f"{DECISIONS[name][0]}: done.", messages.SUCCESS)
        return HttpResponseRedirect("../../")

    # ---- what is shown ---------------------------------------------------------------------------------------------

    @admin.display(description="message")
    def excerpt(self, item: Any) -> str:
        content: str = item.message.content
        return content if len(content) <= 80 else f"{content[:79]}…"

    @admin.display(description="author")
    def author(self, item: Any) -> str:
        return str(item.message.author or "Unknown")

    @admin.display(description="room")
    def room(self, item: Any) -> str:
        return str(item.message.room)

    @admin.display(description="worst score")
    def worst_score(self, item: Any) -> str:
        return scores.summary(item.ai_scores)

    @admin.display(description="message")
    def text(self, item: Any) -> str:
        return format_html('<div style="white-space: pre-wrap; max-width: 60em">{}</div>', item.message.content)

    @admin.display(description="hidden now", boolean=True)
    def hidden(self, item: Any) -> bool:
        return bool(item.message.is_hidden)

    @admin.display(description="scores")
    def scores_explained(self, item: Any) -> str:
        rows = [(one.category, f"{one.score:.2f}", one.meaning, one.verdict) for one in scores.explained(item.ai_scores)]
        if not rows:
            return "none"
        body = format_html_join("", "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", rows)
        return format_html("<table><tr><th>category</th><th>score</th><th>means</th><th>so</th></tr>{}</table>", body)

    @admin.display(description="what people wrote")
    def reports(self, item: Any) -> str:
        reasons = item.report_reasons if isinstance(item.report_reasons, list) else []
        lines = [(str(one.get("user_id")), str(one.get("reason"))) for one in reasons if isinstance(one, dict)]
        return format_html_join("", "<div>user {}: {}</div>", lines) or "none"

    @admin.display(description="earlier actions against the author")
    def history(self, item: Any) -> str:
        action = model_or_none("action")
        if action is None or item.message.author_id is None:
            return "none"
        earlier = action._default_manager.filter(target_user_id=item.message.author_id).order_by("-created_at")[:20]
        lines = [(f"{one.created_at:%Y-%m-%d %H:%M}", one.action_type, one.source, one.reason) for one in earlier]
        return format_html_join("", "<div>{} {} ({}) {}</div>", lines) or "none"


@admin.register(Device)
class DeviceAdmin(ModelAdmin):
    list_display = ("user", "platform", "created_at", "last_used_at")
    raw_id_fields = ("user",)
    exclude = ("token",)


@admin.register(NotificationSettings)
class NotificationSettingsAdmin(ModelAdmin):
    list_display = ("user", "push", "email_digest", "digest_sent_at")
    raw_id_fields = ("user",)


if config.ADMIN and (queue := model_or_none("queue")) is not None and not admin.site.is_registered(queue):
    admin.site.register(queue, ModerationQueueAdmin)
