"""Devices and notification settings."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]
    operations = [
        migrations.CreateModel(
            name="Device",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token", models.CharField(max_length=512, unique=True)),
                ("platform", models.CharField(choices=[("web", "Web"), ("android", "Android"), ("ios", "iOS")],
                                              default="web", max_length=10)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("last_used_at", models.DateTimeField(auto_now=True)),
                ("user", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="gateway_devices",
                                           to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name="NotificationSettings",
            fields=[
                ("user", models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True,
                                              related_name="gateway_notifications", serialize=False,
                                              to=settings.AUTH_USER_MODEL)),
                ("push", models.BooleanField(default=True)),
                ("email_digest", models.BooleanField(default=True)),
                ("digest_sent_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={"verbose_name_plural": "notification settings"},
        ),
    ]
