"""Every query of every dashboard, asked of a real Prometheus that scrapes two real gateways while people talk.

    PICTURES=deploy/grafana/pictures TRAFFIC_SECONDS=90 target/venv/bin/python -m pytest tests/deploy/test_dashboards.py

draws the panels as well.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from conftest import DEPLOY, GUARD, LOUNGE, ORIGIN, ROOT, SECRET_KEY, Gateway, eventually, fetch, free_port, tool
from openai import OpenAi
from pictures import draw
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SECONDS = float(os.environ.get("TRAFFIC_SECONDS", "8"))
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana").glob("*.json"))}
QUERIES = [(name, panel["title"], target["expr"]) for name, one in DASHBOARDS.items()
           for panel in one["panels"] for target in panel.get("targets", [])]

ADMIN = "oncall:a-token-of-four-and-twenty"
BEARER = {"Authorization": f"Bearer {ADMIN.partition(':')[2]}"}
LONG = " ".join(f"more-of-{number}" for number in range(40))  # no word twice: that would be spam
ROOM = LOUNGE.split("/")[-2]


def names(query: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", one) for one in re.findall(r"community_gateway_([a-z_]+)", query)}


def prepared(query: str) -> str:
    return query.replace("$__rate_interval", "15s").replace("$instance", ".*")


class Collector(socketserver.ThreadingTCPServer):
    """Takes spans over OTLP/HTTP, and keeps none."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """The word lists that are shipped, in a folder where they may be changed."""
    return Path(shutil.copytree(DEPLOY / "moderation", tmp_path_factory.mktemp("lists") / "lists", ignore=lambda folder, names: [
        name for name in names if not name.endswith(".txt")]))


@pytest.fixture(scope="module")
def busy(stack, lists, tmp_path_factory):
    """Two gateways with a moderation API, traces and an operations API. The second speaks TLS, and its collector is away."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    tool("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 90, "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate)
    free = {f"GATEWAY_LIMIT_{name}": 0 for name in ("MESSAGES_PER_MINUTE", "MESSAGES_PER_HOUR", "CONNECTS_PER_MINUTE", "HISTORY_PER_MINUTE", "CHANGES_PER_MINUTE")}
    with OpenAi() as openai, Collector() as collector:
        settings = free | {
            "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": openai.url, "GATEWAY_SPAM_DUPLICATE": "off", "GATEWAY_MODERATION_LISTS": lists,
            "GATEWAY_ADMIN_TOKEN": ADMIN, "GATEWAY_WATCH_SECONDS": 0, "GATEWAY_CHANNELS_CAPACITY": 10, "GATEWAY_OUTBOX_BYTES": 1 << 20,
            "GATEWAY_PRESENCE_GRACE_SECONDS": 0.5, "GATEWAY_TASK_MENTION": "community_gateway.tasks.notify_mention", "OTEL_TRACES_SAMPLER_ARG": 1,
        }
        running = [
            Gateway(stack, SECRET_KEY, "gateway-1", **settings, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_address[1]}"),
            Gateway(stack, SECRET_KEY, "gateway-2", **settings, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
                    GATEWAY_TLS_CERT_FILE=certificate, GATEWAY_TLS_KEY_FILE=key),
        ]
        running[0].tls, running[1].tls = None, ssl.create_default_context(cafile=certificate)
        yield running
        assert [gateway.stop() for gateway in running] == [0, 0]
        openai.shutdown()
        collector.shutdown()


class Tab:
    """A person who talks. What comes is read by a thread; what it needs to come back is kept."""

    def __init__(self, gateway, query, path=LOUNGE, **options):
        scheme = "wss" if gateway.tls else "ws"
        self.socket = connect(f"{scheme}://{gateway.public}{path}?{urlencode(query)}", origin=ORIGIN, legacy=True, ssl=gateway.tls, **options)
        self.came: list[dict] = []
        self.place, self.ticket = {}, None
        self._reading = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        return self.reads()

    def __exit__(self, *_):
        self.close()

    def reads(self):
        self._reading.start()
        return self

    def _read(self):
        with contextlib.suppress(ConnectionClosed):  # as a refused token ends it
            for text in self.socket:
                event = json.loads(text)
                self.came.append(event)
                self.ticket = event.get("resumeToken", self.ticket)
                if "epoch" in event and "offset" in event:
                    self.place = {"epoch": event["epoch"], "offset": event["offset"]}

    def send(self, **frame):
        self.socket.send(json.dumps(frame))

    def saw(self, event, **fields):
        return next((one for one in reversed(self.came) if one["event"] == event and fields.items() <= one.items()), None)

    def heard(self, text):
        return any(text in json.dumps(one) for one in self.came[-60:])

    def errors(self, code):
        return sum(one.get("code") == code for one in self.came)

    def answered(self, code, **frame):
        """Sends a frame, and waits until it is answered by one more error of this code."""
        before = self.errors(code)
        self.send(**frame)
        eventually(f"{frame['type']} is answered with {code}", lambda: self.errors(code) > before)

    def close(self):
        self.socket.close()
        self._reading.join(GUARD)


@pytest.fixture(scope="module")
def prometheus(busy, stack, token, lists, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    targets = ", ".join(f'{{targets: ["{gateway.ops}"], labels: {{instance: {gateway.name}}}}}' for gateway in busy)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, evaluation_interval: 1s}\n"
        f"rule_files: [{DEPLOY / 'prometheus' / 'alerts.yml'}]\n"
        f"scrape_configs: [{{job_name: community-gateway, static_configs: [{targets}]}}]\n"
    )
    program = shutil.which("prometheus") or "/usr/bin/prometheus"
    process = subprocess.Popen(
        [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"], cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually("Prometheus is ready", lambda: fetch(f"{url}/-/ready")[0] == 200)
        began = time.time()
        with Town(busy, stack, token, lists) as town:
            town.talk()
            seen = time.time() + 1  # two scrapes after what happened last
            eventually("two more scrapes", lambda: all(float(one["value"][1]) > seen for one in ask(url, 'timestamp(up{job="community-gateway"})')))
            yield url, began, seen
    finally:
        process.terminate()
        process.wait(GUARD)


class Town:
    """People who talk on two gateways for SECONDS, and what goes wrong around them: each time a small thing, soon over."""

    def __init__(self, gateways, stack, token, lists):
        self.gateways, self.urls, self.token, self.lists = gateways, stack.urls, token, lists
        self.ada, self.grace, self.linus = (Tab(gateways[user % 2], {"connection_token": token(user)}).reads() for user in (1, 2, 3))
        self.number = 0

    def __enter__(self):
        # One process of Django's, which never reads its inbox.
        self.redis("zadd", f"asgi:group:community.room.{ROOM}", f"{time.time():.0f}", "specific.00c0ffee!django")
        self.psql("ALTER TABLE community_message ADD CONSTRAINT unstorable CHECK (content NOT LIKE '%unstorable%') NOT VALID")
        return self

    def __exit__(self, *_):
        self.psql("ALTER TABLE community_message DROP CONSTRAINT unstorable")
        self.redis("zrem", f"asgi:group:community.room.{ROOM}", "specific.00c0ffee!django")
        for tab in (self.ada, self.grace, self.linus):
            tab.close()

    def redis(self, *words):
        return tool("redis-cli", "-u", self.urls["redis_url"], *words)

    def psql(self, statement):
        return tool("psql", self.urls["database_url"], "-q", "-v", "ON_ERROR_STOP=1", "-c", statement)

    def metric(self, name, at=0):
        """The sum of a metric's series at one gateway, as it says itself."""
        text = fetch(f"http://{self.gateways[at].ops}/metrics")[1]
        return sum(float(value) for value in re.findall(rf"^community_gateway_{name}(?:{{.*}})? (\S+)$", text, re.M))

    def talk(self):
        began = time.monotonic()
        self.talk_until(lambda: time.monotonic() >= began + SECONDS / 2)
        version = self.metric("config_version") + 1
        self.reload("gallimaufry")
        ends = {
            "the time is over": lambda: time.monotonic() >= began + SECONDS,
            "both have read the new word": lambda: self.metric("config_version") == self.metric("config_version", 1) == version,
            "spans are taken": lambda: self.metric("trace_spans_total"),
            "spans are lost": lambda: self.metric("trace_spans_total", 1),
            "tasks are handed over": lambda: self.metric("handover_total") + self.metric("handover_total", 1),
        }

        def is_over():
            missing = [what for what, has_happened in ends.items() if not has_happened()]
            assert time.monotonic() < began + SECONDS + 2 * GUARD, f"never: {missing}"
            return not missing

        self.talk_until(is_over)

    def talk_until(self, is_over):
        """Until then, and until everything has happened that happens at times."""
        happenings = [self.come_and_go, self.garbage, self.refused_by_redis, self.strangers, self.mention, self.refused_by_postgres,
                      self.away_and_back, self.operator, self.slow_reader, self.gap, self.thread, self.flood]
        while True:
            for happening in happenings:
                self.number += 1
                person, other = (self.ada, self.grace) if self.number % 2 else (self.grace, self.ada)
                self.say(person, other, f"{'worrying ' * (self.number % 3 == 0)}words, and {LONG}")
                other.send(type="typing", is_typing=True)
                self.linus.send(type="request_history", limit=10)
                time.sleep(0.2)  # people type; who sends all the time is closed as a nuisance
                person.send(type="send_message", content="SHOUTING IS NOT NICE AT ALL MY FRIEND")
                happening()
            if is_over():
                return

    def say(self, person, other, words, **more):
        """Sends a message until it comes to the other: who is told that something is down tries again."""
        frame = {"type": "send_message", "content": f"number {self.number}, {words}", "client_id": str(uuid4()), **more}
        refused = person.errors("unavailable")
        person.send(**frame)

        def came():
            nonlocal refused
            if person.errors("unavailable") > refused:
                refused += 1
                person.send(**frame)
            return other.heard(frame["content"][:40].strip())

        with self.shown(person):
            eventually("it comes to the other", came)

    @contextlib.contextmanager
    def shown(self, person):
        """Says what came to somebody last when something does not come."""
        try:
            yield
        except AssertionError as error:
            raise AssertionError(f"{error}; number {self.number}; last came {json.dumps(person.came[-4:])[:3000]}") from None

    def garbage(self):
        """Payloads that nobody can read, in Redis and in the channel layer's inboxes; an order of Django's that everybody can."""
        self.redis("publish", f"community:room:{ROOM}", "{")
        for client in self.redis("zrange", "community:channels:asgi:clients", 0, -1).split():
            if client.startswith("gw-gateway-"):
                self.redis("zadd", f"asgispecific.{client}!", f"{time.time():.0f}", "nobody can read this")
        self.redis("publish", "community:control", '{"action": "refresh"}')

    def gap(self):
        """Subscriptions are cut again and again while somebody speaks, until an instance has missed something."""
        def missed():
            return self.metric("bus_gap_events_total") + self.metric("bus_gap_events_total", 1)

        def cut():
            cutting = threading.Thread(target=self.redis, args=("-r", 3, "-i", "0.02", "client", "kill", "type", "pubsub"))
            cutting.start()
            self.say(self.ada, self.grace, f"said into a gap at {time.monotonic()}")
            cutting.join()
            return missed() > before

        before = missed()
        eventually("a gap", cut)
        eventually("both deliver again", lambda: all(fetch(f"http://{gateway.ops}/readyz")[0] == 200 for gateway in self.gateways))

    def come_and_go(self):
        """Ken comes, is seen, and goes; Margaret looks from her list of rooms."""
        with Tab(self.gateways[1], {"connection_token": self.token(4)}, "/ws/community/presence/") as margaret, \
                Tab(self.gateways[0], {"connection_token": self.token(5)}) as ken:
            margaret.send(type="watch", room_ids=[ROOM])
            eventually("she sees the room", lambda: margaret.saw("presence_state"))
            eventually("he is in", lambda: ken.saw("room_state"))

    def refused_by_redis(self):
        """A key of Redis is of another type than the gateway knows: a call fails."""
        key = "rate_limit:community:reactions:1"
        self.redis("set", key, "no set")
        self.ada.answered("unavailable", type="add_reaction", message_id=self.ada.saw("new_message")["message"]["id"], emoji="👍")
        self.redis("del", key)

    def refused_by_postgres(self):
        """Postgres takes neither a message nor its new text."""
        ours = next(one["message"]["id"] for one in reversed(self.ada.came) if one["event"] == "new_message"
                    and str(one["message"]["author"]["id"]) == "1")
        self.ada.answered("unavailable", type="edit_message", message_id=ours, content=f"unstorable {self.number}")
        before = self.metric("write_failures_total", 1)
        self.ada.send(type="send_message", content=f"unstorable {self.number}")
        eventually("it is not written", lambda: self.metric("write_failures_total", 1) > before)

    def strangers(self):
        """Who has no token, who asks for no upgrade, and who does not know that TLS is spoken here."""
        with Tab(self.gateways[1], {"connection_token": "found in the street"}) as stranger:
            eventually("the stranger is out", lambda: stranger.socket.close_code)
        assert fetch(f"http://{self.gateways[0].public}/ws/community/presence/")[0] == 426
        assert fetch(f"http://{self.gateways[1].public}/ws/community/presence/")[0] in (0, 400)

    def away_and_back(self):
        self.linus.send(type="nonsense")
        back = {"resume_token": self.linus.ticket, **self.linus.place}
        self.linus.close()
        self.say(self.grace, self.ada, f"while linus is away, for the time {self.number}")
        self.linus = Tab(self.gateways[0], back).reads()
        eventually("linus is back", lambda: self.linus.saw("resumed"))

    def operator(self):
        """Looks around, with a token and without."""
        for path, headers in ("instances", BEARER), ("rooms", BEARER), ("config", {}):
            assert fetch(f"http://{self.gateways[0].ops}/admin/{path}", **headers)[0] == (200 if headers else 401)

    def reload(self, word):
        """A word is added to the lists, and both instances are told to read them."""
        with (self.lists / "words.txt").open("a") as words:
            words.write(f"flag {word}\n")
        assert fetch(f"http://{self.gateways[0].ops}/admin/reload", b"{}", **BEARER)[0] == 200

    def slow_reader(self):
        """Barbara's line takes no more for a while."""
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(self.gateways[0].public.rpartition(":")[2])))
        before = self.metric("outbox_wait_seconds_count")
        barbara = Tab(self.gateways[0], {"connection_token": self.token(6)}, sock=narrow, max_queue=1)

        def is_stuck():
            barbara.send(type="request_history", limit=100)
            return self.metric("outbox_bytes")

        eventually("something waits for her", is_stuck)
        with barbara:
            eventually("she gets it", lambda: self.metric("outbox_wait_seconds_count") > before)

    def thread(self):
        self.ada.send(type="create_thread", title=f"thread {self.number}")
        found = eventually("the thread", lambda: next((one["thread"]["id"] for one in self.grace.came if one["event"] == "thread_created"
                                                       and f"thread {self.number}" in json.dumps(one)), None))
        for person in self.ada, self.grace:
            person.send(type="open_thread", thread_id=found)
            eventually("it is open", lambda: any(one["event"] == "thread_state" and found in json.dumps(one) for one in person.came))
        self.say(self.ada, self.grace, "in a thread", thread_id=found)
        for person in self.ada, self.grace:
            person.send(type="close_thread", thread_id=found)

    def flood(self):
        """A client sends without end, and is closed for it."""
        before = self.metric("limited_total", 1)
        with Tab(self.gateways[1], {"connection_token": self.token(5)}) as ken:
            with contextlib.suppress(ConnectionClosed):
                while not ken.socket.close_code:
                    ken.send(type="ping")
        assert self.metric("limited_total", 1) > before

    def mention(self):
        """Somebody who is not here is written to, with words that the moderation API does not take."""
        before = self.metric("openai_unavailable_total", 1)
        self.say(self.ada, self.grace, f"@ken gibberish {self.number}")
        assert self.metric("openai_unavailable_total", 1) > before


def ask(url, query, **at):
    status, body = fetch(f"{url}/api/v1/query?{urlencode({'query': prepared(query), **at})}")
    answer = json.loads(body)
    assert status == 200 and answer["status"] == "success", f"{query}: {answer.get('error')}"
    return answer["data"]["result"]


def test_the_dashboards_are_what_is_generated():
    assert tool(DEPLOY / "grafana" / "generate", "--check") == ""
    assert set(DASHBOARDS) == {"overview", "delivery", "moderation", "dependencies"} and len(QUERIES) > 60
    for one in DASHBOARDS.values():
        identifiers = [panel["id"] for panel in one["panels"]]
        assert len(identifiers) == len(set(identifiers))


def test_every_metric_is_on_a_dashboard_and_no_other():
    known = set(re.findall(r"^\| `community_gateway_([a-z_]+)` \|", (ROOT / "README.md").read_text(), re.M))
    used = set().union(*(names(query) for _, _, query in QUERIES))
    assert used == known, f"not a metric: {used - known}; on no dashboard: {known - used}"


@pytest.mark.parametrize(("dashboard", "panel", "query"), QUERIES, ids=[f"{one[0]}: {one[1]}" for one in QUERIES])
def test_a_query_has_an_answer(prometheus, dashboard, panel, query):
    url, _, seen = prometheus
    found = ask(url, query, time=seen)  # however long the other queries took
    assert found, query
    assert any(one["value"][1] != "NaN" for one in found), f"{query}: not a number"


def test_no_alert_fires_while_all_is_well(prometheus):
    url, _, _ = prometheus
    alerts = json.loads(fetch(f"{url}/api/v1/alerts")[1])["data"]["alerts"]
    assert [one["labels"]["alertname"] for one in alerts if one["state"] == "firing"] == []
    groups = json.loads(fetch(f"{url}/api/v1/rules")[1])["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []


def test_the_panels_can_be_drawn(prometheus, tmp_path):
    url, began, end = prometheus
    folder = Path(os.environ.get("PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    begin = began + min(16.0, (end - began) / 3)  # a rate's window is full then
    step = max(1.0, (end - begin) / 100)

    def series(query):
        asked = urlencode({"query": prepared(query), "start": begin, "end": end, "step": step})
        status, body = fetch(f"{url}/api/v1/query_range?{asked}")
        assert status == 200, body
        return json.loads(body)["data"]["result"]

    for name, one in DASHBOARDS.items():
        picture = draw(one, series, begin, end)
        (folder / f"{name}.svg").write_text(picture)
        assert picture.count("<polyline") >= 5 and len(picture) < 200_000, name
