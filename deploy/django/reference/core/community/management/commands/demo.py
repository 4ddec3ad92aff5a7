"""`manage.py demo`: people and rooms to try everything with. Harmless when run again."""

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from community_gateway import quietly
from core.community.models import Room, RoomMembership
from core.community.services import join_room
from core.users.models import User

PASSWORD = "demo"
PEOPLE = {"ada": {}, "grace": {}, "linus": {}, "margaret": {"is_staff": True, "is_superuser": True}, "ken": {},
          "barbara": {"tier": "team"}}


class Command(BaseCommand):
    help = f"Makes {', '.join(PEOPLE)}, whose password is {PASSWORD!r}, and a private room. Only with DEBUG."

    def handle(self, *args, **options):
        if not settings.DEBUG:
            raise CommandError("These passwords are known to everybody: only with DEBUG=1.")
        with quietly():
            people = [self.person(name, fields) for name, fields in PEOPLE.items()]
            general = Room.objects.get(slug="general")
            for user in people:
                join_room(general, user)
            RoomMembership.objects.filter(room=general, user__username="margaret").update(role="owner")
            engine, _ = Room.objects.get_or_create(
                slug="the-engine-room", defaults={"name": "The Engine Room", "visibility": "private", "icon": "lock",
                                                  "description": "Private, for Ada and Grace."})
            for user in people[:2]:
                join_room(engine, user)

    @staticmethod
    def person(name, fields):
        user, made = User.objects.get_or_create(
            username=name, defaults={"email": f"{name}@example.org", "first_name": name.title(), **fields})
        if made:
            user.set_password(PASSWORD)
            user.save()
        return user
