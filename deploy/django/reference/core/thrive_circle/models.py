"""Circles: small groups of people for a week, each with a chat room of its own."""

import uuid

from django.conf import settings
from django.db import models


class Circle(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    tier = models.CharField(max_length=20, default="seedling")
    week_start = models.DateField()
    week_end = models.DateField()
    member_count = models.PositiveIntegerField(default=0)
    active_member_count = models.PositiveIntegerField(default=0)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [
            models.Index(fields=["tier", "week_start", "is_active"]),
            models.Index(fields=["week_start", "week_end"]),
            models.Index(fields=["is_active", "-created_at"]),
        ]

    def __str__(self) -> str:
        return self.name


class CircleMembership(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="circle_memberships")
    circle = models.ForeignKey(Circle, models.CASCADE, related_name="memberships")
    is_active = models.BooleanField(default=True)
    joined_at = models.DateTimeField(auto_now_add=True)
    points_earned_in_circle = models.IntegerField(default=0)
    was_active = models.BooleanField(default=False)

    class Meta:
        unique_together = [("user", "circle")]
        indexes = [
            models.Index(fields=["user", "is_active"]),
            models.Index(fields=["circle", "is_active"]),
            models.Index(fields=["user", "-joined_at"]),
        ]
