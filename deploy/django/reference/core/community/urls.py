from django.urls import path

from .views import messages, moderation, people, rooms

urlpatterns = [
    path("rooms/", rooms.rooms),
    path("rooms/<uuid:room_id>/", rooms.room),
    path("rooms/<uuid:room_id>/join/", rooms.join),
    path("rooms/<uuid:room_id>/leave/", rooms.leave),
    path("rooms/<uuid:room_id>/notifications/", rooms.notifications),
    path("rooms/<uuid:room_id>/messages/", messages.messages),
    path("rooms/<uuid:room_id>/search/", messages.search),
    path("rooms/<uuid:room_id>/threads/", messages.threads),
    path("messages/<uuid:message_id>/", messages.message),
    path("messages/<uuid:message_id>/pin/", messages.pin),
    path("messages/<uuid:message_id>/reactions/", messages.reactions),
    path("messages/<uuid:message_id>/report/", messages.report),
    path("attachments/", messages.attachment),
    path("dm/", people.direct_threads),
    path("blocks/", people.blocks),
    path("blocks/<int:user_id>/", people.block),
    path("circles/", people.circles),
    path("devices/", people.devices),
    path("notifications/", people.notification_settings),
    path("me/export/", people.export),
    path("me/delete/", people.delete_account),
    path("moderation/", moderation.queue),
    path("moderation/<uuid:item_id>/", moderation.decide),
]
