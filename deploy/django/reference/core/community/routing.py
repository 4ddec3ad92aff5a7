"""The sockets' paths; the gateway serves the same."""

from django.urls import path

from .consumers import DirectConsumer, RoomConsumer

websocket_urlpatterns = [
    path("ws/community/room/<uuid:key>/", RoomConsumer.as_asgi()),
    path("ws/community/dm/<uuid:key>/", DirectConsumer.as_asgi()),
]
