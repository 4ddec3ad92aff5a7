"""A circle's chat room is made with the circle."""

from django.db.models.signals import post_save

from core.community.models import Room

from .models import Circle


def made(sender, instance, created, raw=False, **_):
    if created and not raw:
        Room.objects.create(name=instance.name, slug=f"circle-{instance.pk}", room_type="circle", visibility="private",
                            circle=instance, icon="users")


def connect() -> None:
    post_save.connect(made, Circle, dispatch_uid="circle room")
