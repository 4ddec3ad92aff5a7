"""Celery's tasks. The first three are what the gateway hands over: ids only, by these names.

    CELERY_BEAT_SCHEDULE = {
        "digests": {"task": "community_gateway.tasks.send_digests", "schedule": 3600},
        "expired": {"task": "community_gateway.tasks.end_expired_actions", "schedule": 60},
    }
"""

from __future__ import annotations

from typing import Any

from celery import shared_task

from . import digests, moderation, notifications

_notifying: dict[str, Any] = {
    "autoretry_for": (notifications.TryLater, OSError),
    "max_retries": 5,
    "retry_backoff": 5,
    "retry_backoff_max": 300,
    "ignore_result": True,
}


@shared_task(name="community_gateway.tasks.notify_mention", **_notifying)
def notify_mention(message_id: str, user_id: int) -> str:
    """Somebody wrote the user's name."""
    return notifications.notify("mention", message_id, int(user_id))


@shared_task(name="community_gateway.tasks.notify_reply", **_notifying)
def notify_reply(message_id: str, user_id: int) -> str:
    """Somebody answered the user's message."""
    return notifications.notify("reply", message_id, int(user_id))


@shared_task(name="community_gateway.tasks.notify_dm", **_notifying)
def notify_dm(message_id: str, user_id: int) -> str:
    """Somebody wrote to the user, who is not online."""
    return notifications.notify("dm", message_id, int(user_id))


@shared_task(name="community_gateway.tasks.send_digests", ignore_result=True)
def send_digests() -> int:
    """Finds out whose digest is due; each is a task of its own, so that one bad address stops nobody else's."""
    count = 0
    for user_id in digests.users_due():
        send_digest.delay(user_id=user_id)
        count += 1
    return count


@shared_task(name="community_gateway.tasks.send_digest", autoretry_for=(OSError,), max_retries=3, retry_backoff=60,
             ignore_result=True)
def send_digest(user_id: int) -> int:
    """Writes to one user, if there is something to write about."""
    return digests.send(int(user_id))


@shared_task(name="community_gateway.tasks.end_expired_actions", ignore_result=True)
def end_expired_actions() -> int:
    """Ends mutes and bans whose time is over."""
    return moderation.end_expired()
