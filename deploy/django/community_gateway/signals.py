"""What REST, the admin or a task changed, found out by Django's model signals and announced after the commit.

A row that the gateway writes fires no signal, so nothing is told twice. New messages also queue the notifications that the
gateway would hand over. `QuerySet.update()` and `bulk_create()` fire none
either: call `announce` yourself there. Which kinds are told is `SIGNALS` in the settings.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save

from . import announce, moderation
from .conf import config, model_or_none
from .handover import hand_over
from .publishing import control
from .quiet import is_quiet

logger = logging.getLogger("community_gateway")

# The fields whose change somebody must be told of, by what the model is to us.
WATCHED: dict[str, tuple[str, ...]] = {
    "message": ("content", "message_type", "is_hidden", "is_pinned"),
    "thread": ("title", "is_locked", "is_pinned", "is_resolved", "is_archived"),
    "membership": ("role", "is_active", "room_id", "user_id"),
    "room": ("name", "description", "icon", "visibility", "is_archived", "is_active", "slow_mode_seconds",
             "min_trust_to_join", "min_trust_to_post"),
    "circle_membership": ("is_active", "circle_id", "user_id"),
    "user": ("is_active", "is_staff"),
}
SETTING = {"circle_membership": "membership", "dm": "membership"}


def watched_model(name: str) -> type[Model] | None:
    return get_user_model() if name == "user" else model_or_none(name)


def connect() -> None:
    """Listens to the project's models. Called once, when the app is ready."""
    for name in ("message", "thread", "membership", "room", "circle_membership", "user"):
        if (sender := watched_model(name)) is None:
            continue
        pre_save.connect(_remember(name), sender, weak=False, dispatch_uid=f"community_gateway.before.{name}")
        post_save.connect(_told(name, SAVED[name]), sender, weak=False, dispatch_uid=f"community_gateway.saved.{name}")
        if name in DELETED:
            post_delete.connect(_told(name, DELETED[name]), sender, weak=False,
                                dispatch_uid=f"community_gateway.deleted.{name}")
    if (block := model_or_none("block")) is not None:
        for signal in (post_save, post_delete):
            signal.connect(_told("block", block_changed), block, weak=False,
                           dispatch_uid=f"community_gateway.block.{id(signal)}")
    if (dm := model_or_none("dm")) is not None:
        through = dm._meta.get_field("participants").remote_field.through
        m2m_changed.connect(_told("dm", participants_changed), through, weak=False, dispatch_uid="community_gateway.dm")
    user_logged_out.connect(_told("logout", logged_out), weak=False, dispatch_uid="community_gateway.logout")


def _told(name: str, tell: Callable[..., None]) -> Callable[..., None]:
    """A receiver that keeps quiet when it is to, and never breaks the save it hears of."""
    setting = SETTING.get(name, name)

    @wraps(tell)
    def receiver(**kwargs: Any) -> None:
        kinds = ("message_created", "message_changed", "notification") if name == "message" else (setting,)
        if kwargs.get("raw") or is_quiet() or not any(kind in config.SIGNALS for kind in kinds):
            return
        try:
            tell(**kwargs)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            logger.exception("A change of a %s was not announced", name)

    return receiver


# ---- before and after ----------------------------------------------------------------------------------------------


def _remember(name: str) -> Callable[..., None]:
    """Keeps what the row was before a save, of the fields that matter, on the instance."""
    fields = [field for field in WATCHED[name]]

    def receiver(sender: type[Model], instance: Any, raw: bool = False, using: str | None = None,
                 update_fields: frozenset[str] | None = None, **_: Any) -> None:
        instance._gateway_before = None
        if raw or is_quiet() or instance._state.adding:
            return
        known = [field for field in fields if _has(sender, field)]
        if update_fields is not None and not any(field.removesuffix("_id") in update_fields or field in update_fields
                                                 for field in known):
            instance._gateway_before = {}
            return
        instance._gateway_before = sender._default_manager.using(using).filter(pk=instance.pk).values(*known).first()

    return receiver


def _has(sender: type[Model], field: str) -> bool:
    return any(field in (one.name, getattr(one, "attname", None)) for one in sender._meta.get_fields())


def changed(instance: Any, update_fields: frozenset[str] | None = None) -> set[str]:
    """The watched fields that this save changed."""
    before = getattr(instance, "_gateway_before", None) or {}
    return {
        field for field, value in before.items()
        if value != getattr(instance, field)
        and (update_fields is None or field in update_fields or field.removesuffix("_id") in update_fields)
    }


# ---- what is told --------------------------------------------------------------------------------------------------


def message_saved(*, instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any) -> None:
    if created:
        if "message_created" in config.SIGNALS:
            announce.message_created(instance, using=using)
        if "notification" in config.SIGNALS:
            hand_over(instance, using=using)
        return
    if "message_changed" not in config.SIGNALS:
        return
    fields = changed(instance, update_fields)
    if "is_hidden" in fields:
        announce.message_decided(instance, "hidden" if instance.is_hidden else "approved", using=using)
    elif instance.is_hidden:
        return
    elif "message_type" in fields and instance.message_type == "deleted":
        announce.message_deleted(instance, using=using)
    else:
        if "content" in fields:
            announce.message_edited(instance, using=using)
        if "is_pinned" in fields:
            announce.message_pinned(instance, using=using)


def message_removed(*, instance: Any, using: str, origin: Any = None, **_: Any) -> None:
    # A message that goes with its room needs no word of its own: nobody is left to hear it.
    by_itself = isinstance(origin, type(instance)) or getattr(origin, "model", None) is type(instance)
    if by_itself and not instance.is_hidden and "message_changed" in config.SIGNALS:
        announce.message_deleted(instance, using=using)


def thread_saved(*, instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any) -> None:
    if created:
        announce.thread_created(instance, using=using)
    elif changed(instance, update_fields):
        announce.thread_updated(instance, using=using)


def membership_saved(*, instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any) -> None:
    fields = changed(instance, update_fields)
    if created or fields:
        membership_removed(instance=instance, using=using)
    if fields & {"room_id", "user_id"}:  # it was somebody else's, or in another room
        before = instance._gateway_before
        control("refresh", room=before["room_id"], user=before["user_id"], using=using)


def membership_removed(*, instance: Any, using: str, **_: Any) -> None:
    control("refresh", room=instance.room_id, user=instance.user_id, using=using)


def circle_saved(*, instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any) -> None:
    fields = changed(instance, update_fields)
    if created or fields:
        circle_left(instance=instance, using=using)
    if "user_id" in fields:
        control("refresh", user=instance._gateway_before["user_id"], using=using)


def circle_left(*, instance: Any, using: str, **_: Any) -> None:
    control("refresh", user=instance.user_id, using=using)


def participants_changed(*, instance: Any, action: str, reverse: bool, pk_set: Any, using: str, **_: Any) -> None:
    if not action.startswith("post_"):
        return
    if reverse:
        control("refresh", user=instance.pk, using=using)
    elif pk_set is None:  # cleared: who it was is not said
        if instance.room_id:
            control("refresh", room=instance.room_id, using=using)
    else:
        for user in sorted(pk_set):
            control("refresh", room=instance.room_id, user=user, using=using)


def room_saved(*, instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any) -> None:
    if not created and changed(instance, update_fields):
        control("room_changed", room=instance.pk, using=using)


def room_removed(*, instance: Any, using: str, **_: Any) -> None:
    control("room_changed", room=instance.pk, using=using)


def block_changed(*, instance: Any, using: str, **_: Any) -> None:
    control("block_changed", users=[instance.blocker_id, instance.blocked_id], using=using)


def user_saved(*, instance: Any, created: bool, using: str, update_fields: Any = None, **_: Any) -> None:
    fields = changed(instance, update_fields)
    if "is_active" in fields and not instance.is_active:
        control("disconnect", user=instance.pk, using=using)
    elif fields:
        control("refresh", user=instance.pk, using=using)
    if "is_active" in fields and instance.is_active:
        moderation.account_opened(instance)


def logged_out(*, user: Any, **_: Any) -> None:
    # One session of the user's is over, and which sockets were its own nobody knows: all end, and the other sessions'
    # come back with new tokens.
    if user is not None:
        control("disconnect", user=user)


def user_removed(*, instance: Any, using: str, **_: Any) -> None:
    control("disconnect", user=instance.pk, using=using)


SAVED: dict[str, Callable[..., None]] = {
    "message": message_saved,
    "thread": thread_saved,
    "membership": membership_saved,
    "room": room_saved,
    "circle_membership": circle_saved,
    "user": user_saved,
}
DELETED: dict[str, Callable[..., None]] = {
    "message": message_removed,
    "membership": membership_removed,
    "room": room_removed,
    "circle_membership": circle_left,
    "user": user_removed,
}
