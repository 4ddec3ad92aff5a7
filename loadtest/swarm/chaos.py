"""Faults for a run of the swarm, chosen by a seed: the same seed, the same faults in the same order and with the same pauses.

    chaos.py SEED SECONDS

Reads the processes from the environment that `run` sets. What is broken is mended again: a stopped process goes on, a
killed one is started by `run`, a lock is let go, memory is given back. These are outages that deploy/RUNBOOK.md says are
survived without losing an acknowledged message, and instances that stand still. Prints each fault with its time, and writes it
to `told` in the folder of the run. Ends with 0 only when it has done all that it had to.
"""

import json
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
rooms = int(os.environ["ROOMS"])
began = time.monotonic()
BACK = 120  # seconds that a process may take to be there again


def say(text: str) -> None:
    print(f"chaos: {time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)
    with open(os.path.join(work, "told"), "a") as file:
        file.write(json.dumps({"at": time.time(), "what": text}) + "\n")


def wait_for(what: str, there) -> None:
    deadline = time.monotonic() + BACK
    while not there():
        if time.monotonic() > deadline:
            sys.exit(f"chaos: {what} did not come in {BACK} s")
        time.sleep(0.1)


def pid_of(name: str) -> int:
    with open(os.path.join(work, name + ".pid")) as file:
        return int(file.read())


def signal_to(name: str, how: signal.Signals) -> int:
    """Signals a process of this name. Between its end and its next start there is none: it is waited for."""
    sent = []

    def there() -> bool:
        pid = pid_of(name)
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return False
        sent.append(pid)
        return True

    wait_for(name, there)
    return sent[0]


def tool(*command: str) -> bool:
    """Whether a command did what it should. What is paused or gone may keep it waiting."""
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        say(f"{command[0]} was given up after 30 s")
        return False


def redis(*command: str) -> bool:
    return tool("redis-cli", "-p", redis_port, *command)


def pause(name: str, longest: float) -> None:
    length = chance.uniform(0.5, longest)
    say(f"{name} stands still for {length:.1f} s")
    pid = signal_to(name, signal.SIGSTOP)
    time.sleep(length)
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass  # somebody else ended it


def end(name: str, how: signal.Signals) -> None:
    say(f"{name} gets {how.name}")
    old = signal_to(name, how)
    wait_for(name, lambda: pid_of(name) != old)  # `run` starts it again
    say(f"{name} is back")


def lose_redis() -> None:
    # Without the file of an earlier end: an old one is not to be started with (deploy/RUNBOOK.md).
    try:
        os.remove(os.path.join(work, "dump.rdb"))
    except FileNotFoundError:
        pass
    say("Redis loses all that it has")
    end("redis", signal.SIGKILL)


def empty_redis() -> None:
    say("Redis is emptied (FLUSHALL)")
    redis("flushall")


def fill_redis() -> None:
    length = chance.uniform(1.0, 4.0)
    say(f"Redis has no room (maxmemory) for {length:.1f} s")
    redis("config", "set", "maxmemory", "1")
    time.sleep(length)
    wait_for("room in Redis", lambda: redis("config", "set", "maxmemory", "0"))


def lock_a_room() -> None:
    length, room = chance.uniform(0.5, 4.0), chance.randrange(rooms)
    say(f"the row of room {room} is locked for {length:.1f} s")
    tool("psql", "-q", database, "-c",
         f"BEGIN; SELECT id FROM community_room WHERE slug = 'swarm-{room}' FOR UPDATE; SELECT pg_sleep({length:.1f}); COMMIT;")


def cut_database() -> None:
    say("every connection to Postgres is ended")
    tool("psql", "-q", database, "-c",
         "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")


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
    (lose_redis, 1),
    (empty_redis, 1),
    (fill_redis, 1),
    (cut_redis, 3),
    (cut_database, 2),
    (lock_a_room, 3),
]

done = 0
while True:
    rest = chance.uniform(3.0, 10.0)
    if time.monotonic() - began + rest > seconds:
        break
    time.sleep(rest)
    chance.choices([fault for fault, _ in FAULTS], [weight for _, weight in FAULTS])[0]()
    done += 1
say(f"no more faults, of {done}")
