"""Faults for a run of the swarm, chosen by a seed: the same seed, the same faults at the same times.

    chaos.py SEED SECONDS

Reads the processes from the environment that `run` sets. What is broken is mended again: a stopped process goes on, a
killed one is started by `run`, a lock is let go. Prints each fault with its time.
"""

import os
import random
import signal
import subprocess
import sys
import time

seed, seconds = int(sys.argv[1]), float(sys.argv[2])
chance = random.Random(seed)
work = os.environ["WORK"]
redis_port = os.environ["REDIS_PORT"]
database = os.environ["DATABASE_URL"]
gateways = int(os.environ["GATEWAYS"])
began = time.monotonic()


def say(text: str) -> None:
    print(f"chaos: {time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)


def pid_of(name: str) -> int:
    with open(os.path.join(work, name + ".pid")) as file:
        return int(file.read())


def redis(*command: str) -> None:
    subprocess.run(["redis-cli", "-p", redis_port, *command], capture_output=True, timeout=10, check=False)


def pause(name: str, longest: float) -> None:
    length = chance.uniform(0.5, longest)
    say(f"{name} stands still for {length:.1f} s")
    os.kill(pid_of(name), signal.SIGSTOP)
    time.sleep(length)
    os.kill(pid_of(name), signal.SIGCONT)


def end(name: str, how: signal.Signals) -> None:
    say(f"{name} gets {how.name}")
    old = pid_of(name)
    os.kill(old, how)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and pid_of(name) == old:  # `run` starts it again
        time.sleep(0.1)
    say(f"{name} is back")


def lock_a_room() -> None:
    length = chance.uniform(0.5, 4.0)
    say(f"a room's row is locked for {length:.1f} s")
    sql = ("BEGIN; SELECT id FROM community_room WHERE slug LIKE 'swarm-%' ORDER BY random() LIMIT 1 FOR UPDATE; "
           f"SELECT pg_sleep({length:.1f}); COMMIT;")
    subprocess.run(["psql", "-q", database, "-c", sql], capture_output=True, timeout=30, check=False)


def cut_database() -> None:
    say("every connection to Postgres is ended")
    sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    subprocess.run(["psql", "-q", database, "-c", sql], capture_output=True, timeout=30, check=False)


def cut_redis() -> None:
    kind = chance.choice(["normal", "pubsub"])
    say(f"every {kind} connection to Redis is ended")
    redis("client", "kill", "type", kind)


def some_gateway() -> str:
    return f"gateway-{chance.randint(1, gateways)}"


FAULTS = [
    (lambda: end(some_gateway(), signal.SIGKILL), 2),
    (lambda: end(some_gateway(), signal.SIGTERM), 2),
    (lambda: pause(some_gateway(), 5.0), 2),
    (lambda: pause("redis", 4.0), 2),
    (lambda: end("redis", signal.SIGTERM), 1),
    (cut_redis, 3),
    (cut_database, 2),
    (lock_a_room, 3),
]

while time.monotonic() - began < seconds:
    time.sleep(chance.uniform(3.0, 10.0))
    chance.choices([fault for fault, _ in FAULTS], [weight for _, weight in FAULTS])[0]()
say("no more faults")
