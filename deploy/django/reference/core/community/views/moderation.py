"""The moderation queue, for moderators' own pages; the admin has the same."""

from datetime import timedelta

from django.core.exceptions import PermissionDenied as Forbidden
from django.utils import timezone
from rest_framework.decorators import api_view, permission_classes
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response

from community_gateway import moderation, scores, shapes

from ..models import ModerationQueue
from .base import limit, text

PLAIN = ("approve", "hide", "delete", "warn", "escalate")
TIMED = ("mute", "ban", "ban_everywhere")


def item_shape(item) -> dict:
    return {
        "id": str(item.pk), "status": item.status, "message": shapes.message(item.message), "isHidden": item.message.is_hidden,
        "scores": [one._asdict() for one in scores.explained(item.ai_scores)], "reason": item.ai_reason,
        "reportCount": item.report_count, "reports": item.report_reasons, "createdAt": shapes.time(item.created_at),
    }


@api_view(["GET"])
@permission_classes([IsAdminUser])
def queue(request):
    status = request.query_params.get("status", "pending")
    found = ModerationQueue.objects.filter(status=status).select_related("message__author", "message__room", "message__reply_to")
    return Response({"items": [item_shape(one) for one in found.order_by("-created_at")[: limit(request)]]})


@api_view(["POST"])
@permission_classes([IsAdminUser])
def decide(request, item_id):
    """`{"decision": …, "notes"?: …, "hours"?: n}`; hours end a mute or a ban."""
    item = ModerationQueue.objects.filter(pk=item_id).first()
    if item is None:
        raise NotFound("No such item")
    decision, notes = text(request, "decision", 20), text(request, "notes", 2000, required=False)
    hours = request.data.get("hours")
    if hours is not None and (isinstance(hours, bool) or not isinstance(hours, int) or not 0 < hours <= 24 * 3650):
        raise ValidationError({"hours": "A number above 0"})
    ends = timezone.now() + timedelta(hours=hours) if hours else None
    try:
        if decision in PLAIN:
            getattr(moderation, decision)(item, request.user, notes)
        elif decision == "mute":
            moderation.mute(item, request.user, notes, ends)
        elif decision in TIMED:
            moderation.ban(item, request.user, notes, ends, everywhere=decision == "ban_everywhere")
        else:
            raise ValidationError({"decision": f"One of {', '.join(PLAIN + TIMED)}"})
    except Forbidden as error:
        raise PermissionDenied(str(error)) from None
    item.refresh_from_db()
    return Response({"status": item.status})
