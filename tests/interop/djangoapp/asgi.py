"""What Daphne serves: a consumer of rooms, as the app's own one is, without its database."""

import json
import os

import djangoapp.setup

djangoapp.setup.configure(json.loads(os.environ["STACK"]), os.environ["LAYER"])

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402


class RoomConsumer(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.group = f"community.room.{self.scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send_json({"event": "room_state"})

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content):
        if content["type"] == "ping":
            await self.send_json({"event": "pong"})
            return
        message = {"content": content["content"]}
        await self.channel_layer.group_send(
            self.group, {"type": "room_event", "event": "new_message", "message": message}
        )

    async def room_event(self, event):
        await self.send_json({name: value for name, value in event.items() if name != "type"})


application = ProtocolTypeRouter(
    {"websocket": URLRouter([path("ws/community/room/<uuid:room>/", RoomConsumer.as_asgi())])}
)
