"""The sockets as they were before the gateway: one consumer for rooms, one for direct conversations, on Daphne.

They stay as the other side of rooms that have members on both, as the way back, and as the baseline to measure against.
What they never did (edits, threads, resuming, limits across processes, presence that can be trusted) they do not do here.
"""

import asyncio
import json
import uuid
from datetime import UTC, datetime

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.core.cache import cache

from community_gateway import for_user

from . import conversation
from .conversation import Refusal

MOST = 4000
PRESENCE_SECONDS = 120
RATE_SECONDS = 60


class Consumer(AsyncWebsocketConsumer):
    """What both kinds of sockets do."""

    kind = ""
    room = None

    @property
    def group(self) -> str:
        return f"community.{self.kind}.{self.scope['url_route']['kwargs']['key']}"

    def open(self, user, key):
        raise NotImplementedError

    async def connect(self):
        user, key = self.scope["user"], self.scope["url_route"]["kwargs"]["key"]
        room = await database_sync_to_async(self.open)(user, key) if user is not None else None
        if room is None:
            await self.close()  # before the upgrade: an HTTP 403, of which a browser sees nothing but 1006
            return
        self.user = user
        await self.channel_layer.group_add(self.group, self.channel_name)
        self.room = room
        await self.accept()
        await self.entered()

    async def entered(self):
        raise NotImplementedError

    async def disconnect(self, code):
        if self.room is not None:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        try:
            frame = json.loads(text_data)
        except (TypeError, ValueError):
            await self.refuse("Invalid JSON format")
            return
        try:
            kind = frame.get("type")
            handler = self.frames.get(kind)
            if handler is None:
                await self.refuse(f"Unknown message type: {kind}")
            else:
                await handler(self, frame)
        except Refusal as refusal:
            await self.refuse(str(refusal))
        except Exception:  # whatever a frame holds, the connection lives
            await self.refuse("Failed to process message")

    async def tell(self, **event):
        await self.send(json.dumps(event, ensure_ascii=False))

    async def tell_all(self, **event):
        await self.channel_layer.group_send(self.group, {"type": f"{self.kind}_event"} | event)

    async def refuse(self, message: str):
        await self.tell(event="error", message=message)

    async def forward(self, message):
        """What was sent to the group, by a consumer, by Django's code or by a gateway."""
        event = for_user(message, self.user)
        if event is not None:
            await self.tell(**event)

    room_event = dm_event = forward

    # ---- frames ----------------------------------------------------------------------------------------------------

    async def ping(self, frame):
        await self.tell(event="pong", timestamp=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"))

    async def send_message(self, frame):
        content = frame.get("content", "").strip()
        if not content:
            raise Refusal("Message content is required")
        if len(content) > MOST:
            raise Refusal(f"Message too long (max {MOST} characters)")
        await self.count()
        reply_to = uuid.UUID(frame["reply_to_id"]) if frame.get("reply_to_id") else None
        message = await database_sync_to_async(conversation.send)(
            self.user, self.room, content, reply_to, frame.get("attachments") or []
        )
        await self.tell_all(event="new_message", message=message)

    async def count(self):
        """Ten messages a minute, counted as the old consumers did: each message begins the minute anew."""
        if not settings.MESSAGES_PER_MINUTE:
            return
        key = f"rate_limit:community:{self.user.pk}"
        sent = await cache.aget(key, 0)
        if sent >= settings.MESSAGES_PER_MINUTE:
            raise Refusal("Rate limit exceeded. Please slow down.")
        await cache.aset(key, sent + 1, RATE_SECONDS)

    async def typing(self, frame):
        await self.tell_all(event="typing", userId=str(self.user.pk), username=self.user.username,
                            isTyping=bool(frame.get("is_typing", False)))

    async def read_receipt(self, frame):
        await database_sync_to_async(conversation.read)(self.user, self.room, uuid.UUID(frame["message_id"]))

    async def request_history(self, frame):
        many = min(max(int(frame.get("limit", 50)), 1), 100)
        cursor = uuid.UUID(frame["cursor"]) if frame.get("cursor") else None
        messages, more, cursor = await database_sync_to_async(conversation.page)(self.user, self.room, cursor, many)
        await self.tell(event="message_history", messages=messages, hasMore=more, cursor=cursor)

    frames = {"ping": ping, "send_message": send_message, "typing": typing, "read_receipt": read_receipt,
              "request_history": request_history}


class RoomConsumer(Consumer):
    """A room, with who is in it. Presence is one value in the cache for each room, read, changed and written back: two who
    come at once may lose one of them, which is why the gateway keeps it otherwise, under a key of its own."""

    kind = "room"
    open = staticmethod(conversation.open_room)

    @property
    def presence_key(self) -> str:
        return f"community:presence:{self.room.pk}"

    async def entered(self):
        here = await self.presence(present=True)
        messages, _, _ = await database_sync_to_async(conversation.page)(self.user, self.room)
        room = self.room
        await self.tell(
            event="room_state",
            room={"id": str(room.pk), "name": room.name, "description": room.description, "icon": room.icon,
                  "roomType": room.room_type, "memberCount": room.member_count},
            messages=messages,
            onlineUsers=[{"userId": key, "username": value["username"]} for key, value in here.items()],
        )
        await self.tell_all(event="user_joined", userId=str(self.user.pk), username=self.user.username,
                            avatarUrl=self.user.avatar_url)

    async def disconnect(self, code):
        await super().disconnect(code)
        if self.room is not None:
            await self.presence(present=False)
            await self.tell_all(event="user_left", userId=str(self.user.pk))

    async def presence(self, *, present: bool) -> dict:
        here = await cache.aget(self.presence_key, {})
        if present:
            here[str(self.user.pk)] = {"username": self.user.username, "timestamp": datetime.now().isoformat()}
        else:
            here.pop(str(self.user.pk), None)
        await asyncio.shield(cache.aset(self.presence_key, here, PRESENCE_SECONDS))
        return here


class DirectConsumer(Consumer):
    """A direct conversation; the path carries the thread's id."""

    kind = "dm"
    open = staticmethod(conversation.open_direct)

    async def entered(self):
        messages, _, _ = await database_sync_to_async(conversation.page)(self.user, self.room)
        await self.tell(event="dm_state", threadId=str(self.scope["url_route"]["kwargs"]["key"]), messages=messages)
