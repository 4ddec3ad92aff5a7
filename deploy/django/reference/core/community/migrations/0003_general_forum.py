"""The General forum, where everybody is: made with the tables."""

import uuid

from django.db import migrations
from django.utils import timezone

GENERAL = uuid.UUID("10000000-0000-4000-8000-000000000001")


def make(apps, schema_editor):
    now = timezone.now()
    apps.get_model("community", "Room").objects.get_or_create(
        slug="general",
        defaults={"id": GENERAL, "name": "General", "description": "Say hello.", "icon": "coffee", "is_default": True,
                  "created_at": now, "updated_at": now},
    )


class Migration(migrations.Migration):
    dependencies = [("community", "0002_initial")]
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
