"""A Celery app with the tasks that the gateway hands over. Each run is written down in Redis, arguments and all."""

import json
import os

import redis
from celery import Celery

RAN = "interop:ran"

_stack = json.loads(os.environ["STACK"])
_notes = redis.Redis.from_url(_stack["cache_url"])

app = Celery("interop", broker=_stack["broker_url"])
app.conf.update(task_serializer="json", accept_content=["json"], worker_prefetch_multiplier=1)


def _note(name: str, **arguments) -> None:
    _notes.rpush(RAN, json.dumps({"task": name} | arguments))


@app.task(bind=True, name="core.community.tasks.process_agent_dm_task", max_retries=2)
def process_agent_dm_task(self, message_id: str, thread_id: str, agent_user_id: int) -> None:
    _note("agent", message_id=message_id, thread_id=thread_id, agent_user_id=agent_user_id)


@app.task(name="interop.mention")
def mention(message_id: str, user_id: int) -> None:
    _note("mention", message_id=message_id, user_id=user_id)


@app.task(name="interop.dm")
def direct(message_id: str, user_id: int) -> None:
    _note("dm", message_id=message_id, user_id=user_id)
