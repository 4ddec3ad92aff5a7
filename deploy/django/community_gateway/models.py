"""Tables of our own: the devices that notifications go to, and who wants which. Nothing else reads or needs them."""

from django.conf import settings
from django.db import models


class Device(models.Model):
    """One app or browser of a user, as Firebase knows it."""

    PLATFORMS = [("web", "Web"), ("android", "Android"), ("ios", "iOS")]

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="gateway_devices")
    token = models.CharField(max_length=512, unique=True)
    platform = models.CharField(max_length=10, choices=PLATFORMS, default="web")
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.platform} of {self.user_id}"


class NotificationSettings(models.Model):
    """What a user wants to be told when not looking. No row means the defaults."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="gateway_notifications",
                                primary_key=True)
    push = models.BooleanField(default=True)
    email_digest = models.BooleanField(default=True)
    digest_sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "notification settings"

    def __str__(self) -> str:
        return f"notifications of {self.user_id}"
