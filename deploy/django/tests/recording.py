"""The reference project's worker, which notes what it runs: `celery -A recording worker`."""

import json
import os

import redis
from celery.signals import task_prerun
from reference.celery import app

NOTES = "tasks that ran"
_notes = redis.Redis.from_url(os.environ["GATEWAY_BROKER_URL"])


@task_prerun.connect
def note(task, args, kwargs, **_):
    _notes.rpush(NOTES, json.dumps([task.name, args, kwargs]))


__all__ = ["app"]
