"""Messages: pages by cursor, search, writing, changing; threads; attachments."""

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.response import Response

from community_gateway import acting, shapes
from community_gateway.moderation import blank

from .. import attachments, services
from ..access import hidden_from
from ..models import Message, ModerationAction, Room, Thread
from ..search import search as search_messages
from .base import key, limit, message_of, room_of, text


@api_view(["GET", "POST"])
def messages(request, room_id):
    """Newest first; `?cursor=` is the id of the last message of the page before, `?thread=` a thread's messages."""
    rights = room_of(request, room_id)
    if request.method == "POST":
        return write(request, rights)
    found = Message.objects.filter(room=rights.room, is_hidden=False).select_related("author", "reply_to__author")
    if thread := request.query_params.get("thread"):
        found = found.filter(thread_id=key(thread, "thread"))
    if rights.room.room_type != "dm" and (hidden := hidden_from(request.user)):
        found = found.exclude(author_id__in=hidden)
    if cursor := request.query_params.get("cursor"):
        last = Message.objects.filter(pk=key(cursor, "cursor"), room=rights.room).values("created_at", "pk").first()
        if last is None:
            raise ValidationError({"cursor": "No message of this room"})
        found = found.filter(Q(created_at__lt=last["created_at"]) | Q(created_at=last["created_at"], pk__lt=last["pk"]))
    many = limit(request)
    page = list(found.order_by("-created_at", "-pk")[: many + 1])
    more, page = len(page) > many, page[:many]
    return Response({"messages": [shapes.message(one) for one in page], "hasMore": more,
                     "cursor": str(page[-1].pk) if page and more else None})


@transaction.atomic
def write(request, rights):
    Room.objects.select_for_update(no_key=True).get(pk=rights.room.pk)  # before the last message is looked for
    rights.must_send()
    thread = None
    if request.data.get("thread_id"):
        thread = Thread.objects.filter(pk=key(request.data["thread_id"], "thread_id"), room=rights.room).first()
        if thread is None or thread.is_archived or (thread.is_locked and not rights.moderates):
            raise ValidationError({"thread_id": "No thread to write in"})
    given = attachments.checked(request.data.get("attachments", []))
    reply_to = key(request.data["reply_to_id"], "reply_to_id") if request.data.get("reply_to_id") else None
    message = services.send_message(rights.room, request.user, text(request, "content", 4000), reply_to=reply_to,
                                    thread=thread, attachments=given)
    return Response(shapes.message(message), status=201)


@api_view(["GET"])
def search(request, room_id):
    rights = room_of(request, room_id)
    words = request.query_params.get("q", "").strip()
    if not words:
        raise ValidationError({"q": "What to look for"})
    hidden = set() if rights.room.room_type == "dm" else hidden_from(request.user)
    found = search_messages(rights.room, words[:200], hidden)[: limit(request)]
    return Response({"messages": [shapes.message(one) for one in found]})


@api_view(["PATCH", "DELETE"])
def message(request, message_id):
    found, rights = message_of(request, message_id)
    own = found.author_id == request.user.pk
    if found.message_type == "deleted":
        raise NotFound("Message not found")
    if request.method == "PATCH":
        if not own:
            raise PermissionDenied("Somebody else's message")
        rights.must_write()
        found.content = text(request, "content", 4000)
        found.mentions = services.mentioned(rights.room, request.user, found.content)
        found.is_edited, found.edited_at = True, timezone.now()
        found.save(update_fields=["content", "mentions", "is_edited", "edited_at", "updated_at"])
        return Response(shapes.message(found))
    if not own:
        rights.must_moderate()
    with acting(request.user):
        blank(found)
    if not own and found.author_id is not None:
        ModerationAction.objects.create(
            action_type="delete", source="admin" if request.user.is_staff else "community", moderator=request.user,
            target_user_id=found.author_id, target_message=found, target_room=found.room,
        )
    return Response(status=204)


@api_view(["POST", "DELETE"])
def pin(request, message_id):
    found, rights = message_of(request, message_id)
    rights.must_moderate()
    found.is_pinned = request.method == "POST"
    with acting(request.user):
        found.save(update_fields=["is_pinned", "updated_at"])
    return Response({"isPinned": found.is_pinned})


@api_view(["POST", "DELETE"])
def reactions(request, message_id):
    found, rights = message_of(request, message_id)
    rights.must_write()
    if found.message_type == "deleted":
        raise NotFound("Message not found")
    emoji = text(request, "emoji", 10)
    return Response({"reactionCounts": services.react(found, request.user, emoji, add=request.method == "POST")})


@api_view(["POST"])
def report(request, message_id):
    found, _ = message_of(request, message_id)
    if found.author_id == request.user.pk:
        raise ValidationError({"message": "One's own message"})
    is_new = services.report(found, request.user, text(request, "reason", 500))
    return Response({"reported": is_new}, status=201 if is_new else 200)


@api_view(["GET", "POST"])
def threads(request, room_id):
    rights = room_of(request, room_id)
    if request.method == "GET":
        found = Thread.objects.filter(room=rights.room).order_by("-is_pinned", "-last_message_at", "-created_at")
        return Response({"threads": [shapes.thread(one) for one in found[: limit(request)]]})
    rights.must_write()
    if rights.room.room_type == "dm":
        raise ValidationError({"room": "Conversations have no threads"})
    parent = None
    if request.data.get("parent_message_id"):
        wanted = key(request.data["parent_message_id"], "parent_message_id")
        parent = Message.objects.filter(pk=wanted, room=rights.room, is_hidden=False).first()
        if parent is None:
            raise ValidationError({"parent_message_id": "No message of this room"})
    title = text(request, "title", 200, required=parent is None) or parent.content[:80]
    thread = Thread.objects.create(room=rights.room, creator=request.user, title=title, parent_message=parent)
    return Response(shapes.thread(thread), status=201)


@api_view(["POST"])
def attachment(request):
    return Response(attachments.presign(request.user, text(request, "name", 200), request.data.get("size"),
                                        text(request, "type", 100)), status=201)
