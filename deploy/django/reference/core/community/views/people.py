"""Direct conversations, blocks, circles, devices, one's own data."""

from django.contrib.auth import get_user_model
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from community_gateway import shapes
from community_gateway.models import Device, NotificationSettings
from core.thrive_circle.models import Circle
from core.users.login import take_cookies

from .. import gdpr, services
from ..access import hidden_from
from ..models import DirectMessageThread, UserBlock
from .base import limit, room_shape, text


def users(given, me) -> list:
    """The accounts that a list of ids names."""
    if not isinstance(given, list) or not 1 <= len(given) <= 20 or not all(str(one).isdigit() for one in given):
        raise ValidationError({"user_ids": "A list of 1 to 20 ids"})
    keys = {int(one) for one in given} - {me.pk}
    found = list(get_user_model().objects.filter(pk__in=keys, is_active=True))
    if not keys or len(found) != len(keys):
        raise ValidationError({"user_ids": "No such user"})
    return found


def thread_shape(thread, me) -> dict:
    others = [shapes.author(user) for user in thread.participants.all() if user.pk != me.pk]
    return {"id": str(thread.pk), "roomId": shapes.text(thread.room_id), "isGroup": thread.is_group, "name": thread.name,
            "participants": others, "lastMessageAt": shapes.time(thread.last_message_at)}


@api_view(["GET", "POST"])
def direct_threads(request):
    if request.method == "GET":
        mine = DirectMessageThread.objects.filter(participants=request.user).prefetch_related("participants")
        found = mine.order_by("-last_message_at", "-created_at")[: limit(request)]
        return Response({"threads": [thread_shape(one, request.user) for one in found]})
    others = users(request.data.get("user_ids"), request.user)
    if {one.pk for one in others} & hidden_from(request.user):
        raise ValidationError({"user_ids": "Cannot write to somebody of these"})
    thread = services.direct_thread(request.user, others, text(request, "name", 100, required=False))
    return Response(thread_shape(thread, request.user), status=201)


@api_view(["GET", "POST"])
def blocks(request):
    if request.method == "POST":
        for user in users([request.data.get("user_id")], request.user):
            UserBlock.objects.get_or_create(blocker=request.user, blocked=user)
        return Response(status=201)
    found = UserBlock.objects.filter(blocker=request.user).select_related("blocked")
    return Response({"blocked": [shapes.author(one.blocked) for one in found]})


@api_view(["DELETE"])
def block(request, user_id):
    for one in UserBlock.objects.filter(blocker=request.user, blocked_id=user_id):
        one.delete()
    return Response(status=204)


@api_view(["GET"])
def circles(request):
    mine = Circle.objects.filter(memberships__user=request.user, memberships__is_active=True, is_active=True)
    return Response({"circles": [
        {"id": str(one.pk), "name": one.name, "tier": one.tier, "weekStart": one.week_start, "weekEnd": one.week_end,
         "room": room_shape(one.room)}
        for one in mine.select_related("room").order_by("-week_start")
    ]})


@api_view(["POST", "DELETE"])
def devices(request):
    """A Firebase token of this browser or app; the one who sent it last has it."""
    token = text(request, "token", 512)
    if request.method == "DELETE":
        Device.objects.filter(user=request.user, token=token).delete()
        return Response(status=204)
    platform = text(request, "platform", 10, default="web")
    if platform not in dict(Device.PLATFORMS):
        raise ValidationError({"platform": "web, android or ios"})
    Device.objects.update_or_create(token=token, defaults={"user": request.user, "platform": platform})
    return Response(status=201)


@api_view(["GET", "PATCH"])
def notification_settings(request):
    found, _ = NotificationSettings.objects.get_or_create(user=request.user)
    if request.method == "PATCH":
        for name in ("push", "email_digest"):
            value = request.data.get(name, getattr(found, name))
            if not isinstance(value, bool):
                raise ValidationError({name: "true or false"})
            setattr(found, name, value)
        found.save(update_fields=["push", "email_digest"])
    return Response({"push": found.push, "email_digest": found.email_digest})


@api_view(["GET"])
def export(request):
    answer = Response(gdpr.export(request.user))
    answer["Content-Disposition"] = 'attachment; filename="community.json"'
    return answer


@api_view(["POST"])
def delete_account(request):
    """Ends the account for good; the password once more, so that nobody does it from a browser left open."""
    if not request.user.check_password(str(request.data.get("password", ""))):
        raise ValidationError({"password": "Wrong password"})
    gdpr.anonymise(request.user)
    answer = Response(status=204)
    take_cookies(answer)
    return answer
