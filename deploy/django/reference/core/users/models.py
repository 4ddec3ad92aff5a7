"""Accounts, and who follows whom."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import F, Q


class User(AbstractUser):
    """An account. Agents, which answer by themselves, are of tier `team`."""

    id = models.BigAutoField(primary_key=True)
    email = models.EmailField(unique=True)
    role = models.CharField(max_length=20, default="explorer")
    avatar_url = models.URLField(null=True, blank=True)
    tier = models.CharField(max_length=20, default="seedling")
    last_seen_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        indexes = [
            models.Index(fields=["tier"]),
            models.Index(fields=["tier", "-date_joined"]),
            models.Index(fields=["-last_seen_at"]),
        ]


class UserFollow(models.Model):
    follower = models.ForeignKey(User, models.CASCADE, related_name="following")
    following = models.ForeignKey(User, models.CASCADE, related_name="followers")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        unique_together = [("follower", "following")]
        indexes = [
            models.Index(fields=["follower", "-created_at"]),
            models.Index(fields=["following", "-created_at"]),
        ]
        constraints = [models.CheckConstraint(condition=~Q(follower=F("following")), name="nobody_follows_themselves")]
