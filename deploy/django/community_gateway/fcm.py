"""Firebase Cloud Messaging: one notification to the devices of one user. Nothing else names firebase-admin."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from enum import Enum
from typing import Any

from .conf import config

logger = logging.getLogger("community_gateway")

_APP = "community_gateway"
_lock = threading.Lock()


class Outcome(Enum):
    """What became of one device's notification."""

    SENT = "sent"
    GONE = "gone"  # the token is dead and will never live again
    LATER = "later"  # Firebase could not now
    FAILED = "failed"  # trying again would not help


def is_configured() -> bool:
    return bool(config.FIREBASE_CREDENTIALS)


def _app() -> Any:
    import firebase_admin

    with _lock:
        try:
            return firebase_admin.get_app(_APP)
        except ValueError:
            credential = firebase_admin.credentials.Certificate(config.FIREBASE_CREDENTIALS)
            return firebase_admin.initialize_app(credential, {"httpTimeout": 10}, name=_APP)


def send(tokens: Sequence[str], title: str, body: str, data: dict[str, str]) -> list[Outcome]:
    """Sends to each token; the outcomes in the same order."""
    from firebase_admin import exceptions, messaging

    notification = messaging.Notification(title=title, body=body)
    batch = [messaging.Message(token=token, notification=notification, data=data) for token in tokens]
    try:
        answers = messaging.send_each(batch, app=_app()).responses
    except exceptions.UnknownError as error:  # no token of ours for Google, or no way to it: nobody's device is to blame
        logger.warning("Firebase was not reached: %s", type(error.cause or error).__name__)
        return [Outcome.LATER] * len(tokens)
    return [_outcome(answer) for answer in answers]


def _outcome(answer: Any) -> Outcome:
    from firebase_admin import exceptions, messaging

    error = answer.exception
    if answer.success:
        return Outcome.SENT
    if isinstance(error, messaging.UnregisteredError | messaging.SenderIdMismatchError):
        return Outcome.GONE
    passing = (exceptions.UnavailableError, exceptions.InternalError, exceptions.ResourceExhaustedError,
               exceptions.DeadlineExceededError, exceptions.UnknownError)
    return Outcome.LATER if isinstance(error, passing) else Outcome.FAILED
