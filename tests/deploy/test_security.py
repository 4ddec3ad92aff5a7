"""SECURITY.md's advice, followed: a gateway whose user in Redis may do what the ACL there says."""

import json
import re
import subprocess
from urllib.parse import urlencode

import pytest
from conftest import GUARD, LOUNGE, ORIGIN, ROOT, SECRET_KEY, Gateway, fetch, tool
from gateway import Stack, binary
from websockets.sync.client import connect

PASSWORD = "only-for-this-test"
(RULES,) = re.findall(r"^ACL SETUSER gateway (.+)$", (ROOT / "SECURITY.md").read_text(), re.M)
TOKEN = "0123456789abcdef0123456789"


@pytest.fixture(scope="module")
def fenced():
    """A stack of its own, whose addresses are those of the user; and how to ask Redis as its owner."""
    stack = Stack()
    owner = stack.urls["redis_url"]

    def ask(*command):
        return tool("redis-cli", "-u", owner, *command)

    assert ask("ACL", "SETUSER", "gateway", *RULES.replace("PASSWORD", PASSWORD).split()) == "OK\n"
    for name in ("redis_url", "cache_url", "broker_url"):
        stack.urls[name] = stack.urls[name].replace("redis://", f"redis://gateway:{PASSWORD}@")
    yield stack, ask
    stack.stop()


def until(tab, event, **fields):
    while True:
        got = json.loads(tab.recv(GUARD))
        if got["event"] == event and fields.items() <= got.items():
            return got


def test_a_gateway_does_its_work_with_it(fenced):
    stack, ask = fenced
    ask("ACL", "LOG", "RESET")
    environment = {"DATABASE_URL": stack.urls["database_url"], "GATEWAY_CACHE_URL": stack.urls["cache_url"]}
    gateway = Gateway(stack, SECRET_KEY, "fenced", GATEWAY_ADMIN_TOKEN=f"oncall:{TOKEN}", GATEWAY_TASK_MENTION="notify")
    try:
        live_with(gateway, environment)
    finally:
        code = gateway.stop()
    assert code == 0
    refused = " ".join(ask("ACL", "LOG").split())
    assert not refused, refused
    assert not [line for line in gateway.lines if "NOPERM" in line]


def live_with(gateway, environment):
    """Some of everything that needs Redis."""

    def come(**query):
        return connect(f"ws://{gateway.public}{LOUNGE}?{urlencode(query)}", origin=ORIGIN, legacy=True)

    def token(user):
        return tool(binary(), "token", "--user", user, env=environment).strip()

    with come(connection_token=token(1)) as ada, come(connection_token=token(2)) as grace:
        until(ada, "room_state")
        until(grace, "room_state")
        ticket = until(grace, "session")["resumeToken"]
        ada.send(json.dumps({"type": "send_message", "content": "hello @linus", "client_id": "1"}))
        sent = until(grace, "new_message")
        message = sent["message"]["id"]
        grace.send(json.dumps({"type": "typing", "is_typing": True}))
        until(ada, "typing")
        grace.send(json.dumps({"type": "add_reaction", "message_id": message, "emoji": "👍"}))
        until(ada, "reaction_updated")
        ada.send(json.dumps({"type": "edit_message", "message_id": message, "content": "hello again"}))
        until(grace, "message_edited")
        ada.send(json.dumps({"type": "request_history", "limit": 5}))
        until(ada, "message_history")
        grace.close()
        with come(resume_token=ticket, epoch=sent["epoch"], offset=sent["offset"]) as back:
            until(back, "resumed", recovered=True)
            for look in ("instances", "rooms", "users/1"):
                status, body = fetch(f"http://{gateway.ops}/admin/{look}", Authorization=f"Bearer {TOKEN}")
                assert status == 200 and json.loads(body).get("complete", True), body


def test_check_is_well_with_it(fenced):
    stack, _ = fenced
    names = {"DATABASE_URL": "database_url", "GATEWAY_REDIS_URL": "redis_url", "GATEWAY_CACHE_URL": "cache_url", "GATEWAY_BROKER_URL": "broker_url"}
    environment = {name: stack.urls[url] for name, url in names.items()} | {"SECRET_KEY": SECRET_KEY}
    assert "WRONG" not in tool(binary(), "check", env=environment)


def test_every_command_of_the_code_is_in_it(fenced):
    _, ask = fenced
    source = "\n".join(path.read_text() for kind in ("rs", "lua") for path in (ROOT / "src").rglob(f"*.{kind}"))
    used = {one.upper() for found in re.findall(r"redis\.call\('(\w+)'|cmd\(\"([A-Z]+)\"\)", source) for one in found if one}
    used -= {"CONFIG", "SENTINEL", "PUBSUB"}  # asked by `check` alone; of a Sentinel; PUBSUB has words of its own, below
    assert {"ZADD", "PUBLISH", "HSET", "TIME", "EXPIRE"} <= used
    for command in sorted(used):
        arity = int(ask("COMMAND", "INFO", command).splitlines()[1])
        arguments = ["community:x"] * (abs(arity) - 1)
        assert ask("ACL", "DRYRUN", "gateway", command, *arguments) == "OK\n", command
    for words in (["PUBSUB", "CHANNELS"], ["PUBSUB", "NUMSUB", "community:x"], ["SUBSCRIBE", "community:x"], ["EVALSHA", "x", "0"]):
        assert ask("ACL", "DRYRUN", "gateway", *words) == "OK\n", words


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "KEYS *", "CLIENT LIST", "CLIENT KILL TYPE pubsub",
                                     "SHUTDOWN NOSAVE", "REPLICAOF NO ONE", "MONITOR", "ACL LIST", "SAVE", "SWAPDB 0 1",
                                     "GET other:key", "DEL sessions", "PUBLISH other x"])
def test_a_stolen_one_cannot(fenced, command):
    stack, _ = fenced
    done = subprocess.run(["redis-cli", "-u", stack.urls["redis_url"], "--no-auth-warning", *command.split()], capture_output=True, text=True, timeout=GUARD)
    assert "NOPERM" in done.stdout + done.stderr, done.stdout
