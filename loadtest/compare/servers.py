"""The servers that are compared: how each is started, entered and spoken to."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SECRET = "only-for-comparisons-and-known-to-everybody"
FIRST_USER = 1_000_001


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def jwt(user: int) -> str:
    """As Django's login makes it."""
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")
    now = int(time.time())
    body = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(
        {"token_type": "access", "exp": now + 3600, "iat": now - 1, "jti": secrets.token_hex(16), "user_id": str(user)})
    sign = hmac.new(SECRET.encode(), body, hashlib.sha256).digest()
    return (body + b"." + base64.urlsafe_b64encode(sign).rstrip(b"=")).decode()


class Server:
    """One of them. `missing` says why it cannot run here; nothing when it can."""

    name = version = ""
    needs_stack = False
    hears_itself = True  # a sender gets its own message
    process = log = None

    def missing(self) -> str:
        return ""

    def command(self) -> list:
        raise NotImplementedError

    def environment(self, stack: dict) -> dict:
        return {}

    cwd = ROOT

    def start(self, stack: dict) -> None:
        self.port = free_port()
        self.log = open(os.path.join(stack["work"], f"{self.name}.log"), "w+")
        self.process = subprocess.Popen(
            self.command(), env={**os.environ, **self.environment(stack)}, cwd=self.cwd, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(600):
            if self.process.poll() is not None:
                break
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0 and self.is_up():
                    return
            time.sleep(0.1)
        raise RuntimeError("it did not start")

    def is_up(self) -> bool:
        return True

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def path(self, number: int, room: str) -> str:
        return f"/room/{room}"

    def entered(self, client, text: str) -> bool:
        return '"room_state"' in text

    def message(self, client, text: str) -> str:
        return json.dumps({"event": "said", "text": text})


class Django(Server):
    """What both who speak the app's protocol have in common."""

    needs_stack = True

    def path(self, number: int, room: str) -> str:
        return f"/ws/community/room/{room}/?token={jwt(FIRST_USER + number)}"

    def message(self, client, text: str) -> str:
        return json.dumps({"type": "send_message", "content": text})

    def environment(self, stack: dict) -> dict:
        return {
            "DATABASE_URL": stack["database_url"], "GATEWAY_REDIS_URL": stack["redis_url"], "GATEWAY_CACHE_URL": stack["cache_url"],
            "CELERY_BROKER_URL": stack["broker_url"], "SECRET_KEY": SECRET, "PYTHONDONTWRITEBYTECODE": "1",
        }


class Gateway(Django):
    name = "gateway"

    def command(self) -> list:
        folder = os.environ.get("BIN") or os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release")
        return [os.path.join(folder, "community-gateway"), "serve"]

    def missing(self) -> str:
        return "" if os.path.exists(self.command()[0]) else "build it first: cargo build --release"

    def environment(self, stack: dict) -> dict:
        self.ops = free_port()
        limits = ["MESSAGES_PER_MINUTE", "MESSAGES_PER_HOUR", "CONNECTS_PER_MINUTE", "CONNECTIONS_PER_ADDRESS"]
        return {
            **super().environment(stack), **{f"GATEWAY_LIMIT_{limit}": "0" for limit in limits}, "GATEWAY_HANDSHAKE_RATE": "0",
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}", "GATEWAY_OPS_LISTEN": f"127.0.0.1:{self.ops}", "GATEWAY_LOG": "warn",
            "GATEWAY_CHANNELS": "off",
        }

    def is_up(self) -> bool:
        from urllib.error import URLError
        from urllib.request import urlopen
        try:
            return urlopen(f"http://127.0.0.1:{self.ops}/readyz", timeout=2).status == 200
        except (URLError, OSError):
            return False


class Daphne(Django):
    """The old consumers, from the reference project. They let nobody send more than ten messages a minute."""

    name = "daphne"
    cwd = ROOT / "deploy" / "django" / "reference"
    python = os.environ.get("DJANGO_PYTHON") or str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "venv/bin/python")

    def missing(self) -> str:
        found = subprocess.run([self.python, "-c", "import daphne, channels_redis, django"], capture_output=True) \
            if os.path.exists(self.python) else None
        return "" if found and found.returncode == 0 else "no Python with Django and Daphne: deploy/test makes target/venv, or set DJANGO_PYTHON"

    def start(self, stack: dict) -> None:
        # Django's own tables, on a database of its own: the other one has only the columns that the gateway uses.
        if "reference" not in stack:
            subprocess.run(["psql", "-qX", stack["database_url"], "-c", "CREATE DATABASE reference"], check=True)
            stack["reference"] = stack["database_url"].rpartition("/")[0] + "/reference"
            seed = f"""
from core.community.models import Room
from core.users.models import User
from community_gateway import quietly
with quietly():
    User.objects.bulk_create(User(id={FIRST_USER} + n, username=f"compare{{n}}", email=f"compare{{n}}@example.test") for n in range({stack["people"]} + 1))
    Room.objects.bulk_create(Room(id=f"00000000-0000-4000-8000-{{n:012}}", name=f"Compare {{n}}", slug=f"compare-{{n}}") for n in range(10_000))
"""
            for arguments in (["migrate", "-v", "0"], ["shell", "-c", seed]):
                subprocess.run([self.python, "manage.py", *arguments], cwd=self.cwd, env={**os.environ, **self.environment(stack)},
                               check=True, stdout=subprocess.DEVNULL)
        super().start(stack)

    def is_up(self) -> bool:
        """When Django is loaded: whom it keeps waiting for longer than five seconds, Daphne closes."""
        from urllib.error import HTTPError, URLError
        from urllib.request import urlopen
        try:
            return bool(urlopen(f"http://127.0.0.1:{self.port}/", timeout=30))
        except HTTPError:
            return True  # whatever it says, it answers
        except (URLError, OSError):
            return False

    def command(self) -> list:
        return [self.python, "-m", "daphne", "-v", "0", "-e", f"tcp:{self.port}:interface=127.0.0.1:backlog=1000", "reference.asgi:application"]

    def environment(self, stack: dict) -> dict:
        return {**super().environment(stack), "DATABASE_URL": stack["reference"], "ALLOWED_HOSTS": "*", "EMAIL_BACKEND":
                "django.core.mail.backends.dummy.EmailBackend", "PYTHONPATH": str(ROOT / "deploy" / "django")}


class Ws(Server):
    name = "ws"

    def missing(self) -> str:
        if not shutil.which("node"):
            return "there is no node"
        return "" if (HERE / "node_modules" / "ws").exists() else "npm install --prefix loadtest/compare ws"

    def command(self) -> list:
        return ["node", HERE / "ws-server.js", str(self.port)]


class Socketify(Server):
    name = "socketify"
    python = os.environ.get("SOCKETIFY_PYTHON", sys.executable)

    def missing(self) -> str:
        found = subprocess.run([self.python, "-c", "import socketify"], capture_output=True)
        return "" if found.returncode == 0 else "pip install socketify (it needs libuv1), and SOCKETIFY_PYTHON=that python"

    def command(self) -> list:
        return [self.python, HERE / "socketify-server.py", str(self.port)]


class Sockudo(Server):
    """A Pusher server in Rust. A client's event goes to the others of a private channel."""

    name = "sockudo"
    hears_itself = False
    program = os.environ.get("SOCKUDO", "sockudo")

    def missing(self) -> str:
        return "" if shutil.which(self.program) else \
            "cargo install sockudo --locked --no-default-features --features local (needs protoc), and SOCKUDO=its path"

    def command(self) -> list:
        return [self.program]

    def environment(self, stack: dict) -> dict:
        settings = {"ID": "demo-app", "KEY": "demo-key", "SECRET": "demo-secret", "ENABLED": "true", "ENABLE_CLIENT_MESSAGES": "true",
                    "MAX_CONNECTIONS": "1000000", "MAX_CLIENT_EVENTS_PER_SECOND": "100000"}
        return {"HOST": "127.0.0.1", "PORT": str(self.port), "METRICS_ENABLED": "false", "RATE_LIMITER_ENABLED": "false",
                **{f"SOCKUDO_DEFAULT_APP_{name}": value for name, value in settings.items()}}

    def path(self, number: int, room: str) -> str:
        return "/app/demo-key?protocol=7&client=compare&version=1.0"

    def entered(self, client, text: str) -> bool:
        event = json.loads(text)
        if event["event"] == "pusher:connection_established":
            known = event["data"] if isinstance(event["data"], dict) else json.loads(event["data"])
            channel = f"private-{client.room}"
            sign = hmac.new(b"demo-secret", f"{known['socket_id']}:{channel}".encode(), hashlib.sha256).hexdigest()
            client.send(json.dumps({"event": "pusher:subscribe", "data": {"channel": channel, "auth": f"demo-key:{sign}"}}))
        return event["event"] == "pusher_internal:subscription_succeeded"

    def message(self, client, text: str) -> str:
        return json.dumps({"event": "client-said", "channel": f"private-{client.room}", "data": {"text": text}})


ALL = {one.name: one for one in (Gateway, Daphne, Ws, Socketify, Sockudo)}
