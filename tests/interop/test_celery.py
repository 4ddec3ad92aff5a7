"""Work that the gateway hands over, run by a real worker."""

import json

import pytest

from client import becomes, dial, dm_path, enter
from djangoapp import people
from djangoapp.models import Message
from process import Worker

RAN = "interop:ran"


@pytest.fixture(scope="module")
def worker(stack):
    worker = Worker(stack)
    yield worker
    worker.stop()


@pytest.fixture
def ran(stack):
    """What the worker has run so far, sorted."""
    import redis

    client = redis.Redis.from_url(stack.urls["cache_url"], decode_responses=True)
    client.delete(RAN)
    yield lambda: sorted((json.loads(line) for line in client.lrange(RAN, 0, -1)), key=json.dumps)
    client.close()


async def test_a_worker_runs_what_is_handed_over_once(worker, ran, start, realtime):
    gateway = start(
        "celery",
        GATEWAY_TASK_MENTION="interop.mention",
        GATEWAY_TASK_DM="interop.dm",
    )
    ada, away, agent = people.user(), people.user(), people.user(tier="team")
    room = people.room(ada, away)
    thread = people.direct_thread(ada, away, agent)
    tab = await dial(gateway, dm_path(thread), connection_token=people.connection_token(ada))
    await tab.until("dm_state")
    await tab.say("Do you know?")
    asked = (await tab.until("new_message"))["message"]["id"]
    in_room = await enter(gateway, room, ada)
    await in_room.say(f"@{away.username} look")
    mentioned = (await in_room.until("new_message"))["message"]["id"]
    expected = sorted(
        [
            {"task": "agent", "message_id": asked, "thread_id": str(thread.pk), "agent_user_id": agent.pk},
            {"task": "dm", "message_id": asked, "user_id": away.pk},
            {"task": "mention", "message_id": mentioned, "user_id": away.pk},
        ],
        key=json.dumps,
    )
    await becomes(expected, ran)
    assert Message.objects.filter(pk__in=[asked, mentioned]).count() == 2, "committed before"
    await becomes(0, lambda: realtime.zcard("community:tasks"))
    assert not [line for line in worker.lines if "ERROR" in line or "CRITICAL" in line]
    assert ran() == expected
