"""Every query of every dashboard, asked of a real Prometheus that scrapes two real gateways while people talk.

    PICTURES=deploy/grafana/pictures TRAFFIC_SECONDS=90 target/venv/bin/python -m pytest tests/deploy/test_dashboards.py

draws the panels as well.
"""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest
from conftest import DEPLOY, GUARD, LOUNGE, ORIGIN, ROOT, SECRET_KEY, Gateway, eventually, fetch, free_port, tool
from openai import OpenAi
from pictures import draw
from websockets.sync.client import connect

SECONDS = float(os.environ.get("TRAFFIC_SECONDS", "8"))
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana").glob("*.json"))}
QUERIES = [(name, panel["title"], target["expr"]) for name, one in DASHBOARDS.items()
           for panel in one["panels"] for target in panel.get("targets", [])]

# Metrics that have no series until something happens which does not happen here: a query of these may be empty.
QUIET = {
    "admin_requests_total": "the operations API is asked, which is off here",
    "bus_gap_events_total": "a gap: an instance that missed events",
    "bus_malformed_total": "a payload in Redis that nobody can read",
    "channels_dropped_total": "Django's consumers do not keep up",
    "channels_malformed_total": "a payload in the channel layer that nobody can read",
    "handover_total": "somebody who is not online is written to, with a task that is set",
    "moderation_reloads_total": "lists that are read again",
    "moderation_unjudged_total": "the moderation API does not answer",
    "openai_unavailable_total": "the moderation API does not answer",
    "outbox_wait_seconds": "a socket takes no more",
    "redis_failures_total": "Redis does not answer",
    "store_failures_total": "Postgres does not answer",
    "write_failures_total": "Postgres does not answer",
}


def names(query: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", one) for one in re.findall(r"community_gateway_([a-z_]+)", query)}


def prepared(query: str) -> str:
    return query.replace("$__rate_interval", "15s").replace("$instance", ".*")


@pytest.fixture(scope="module")
def busy(stack):
    """Two gateways with a moderation API."""
    free = {f"GATEWAY_LIMIT_{name}": 0 for name in ("MESSAGES_PER_MINUTE", "MESSAGES_PER_HOUR", "CONNECTS_PER_MINUTE")}
    with OpenAi() as openai:
        settings = free | {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": openai.url, "GATEWAY_SPAM_DUPLICATE": "off"}
        running = [Gateway(stack, SECRET_KEY, name, **settings) for name in ("gateway-1", "gateway-2")]
        yield running
        assert [gateway.stop() for gateway in running] == [0, 0]
        openai.shutdown()


class Tab:
    """A person who talks. What comes is read by a thread; what it needs to come back is kept."""

    def __init__(self, gateway, query):
        self.socket = connect(f"ws://{gateway.public}{LOUNGE}?{urlencode(query)}", origin=ORIGIN, legacy=True)
        self.came: list[dict] = []
        self.place, self.ticket = {}, None
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self):
        for text in self.socket:
            event = json.loads(text)
            self.came.append(event)
            self.ticket = event.get("resumeToken", self.ticket)
            if "epoch" in event and "offset" in event:
                self.place = {"epoch": event["epoch"], "offset": event["offset"]}

    def send(self, **frame):
        self.socket.send(json.dumps(frame))

    def saw(self, event, **fields):
        return any(one["event"] == event and fields.items() <= one.items() for one in self.came)

    def close(self):
        self.socket.close()
        self._reading.join(GUARD)


@pytest.fixture(scope="module")
def prometheus(busy, stack, token, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    targets = ", ".join(f'"{gateway.ops}"' for gateway in busy)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, evaluation_interval: 1s}\n"
        f"rule_files: [{DEPLOY / 'prometheus' / 'alerts.yml'}]\n"
        f"scrape_configs: [{{job_name: community-gateway, static_configs: [{{targets: [{targets}]}}]}}]\n"
    )
    program = shutil.which("prometheus") or "/usr/bin/prometheus"
    process = subprocess.Popen(
        [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"], cwd=folder)
    url = f"http://127.0.0.1:{port}"
    eventually("Prometheus is ready", lambda: fetch(f"{url}/-/ready")[0] == 200)
    began = time.time()
    order = '{"action": "refresh"}'
    tool("redis-cli", "-u", stack.urls["redis_url"], "publish", "community:control", order)
    people = talk(busy, token)
    yield url, began
    for tab in people:
        tab.close()
    process.terminate()
    process.wait(GUARD)


def talk(gateways, token):
    """Some of everything that people do, for SECONDS. Who is still there then."""
    ada, grace, linus = (Tab(gateways[user % 2], {"connection_token": token(user)}) for user in (1, 2, 3))
    until, number = time.monotonic() + SECONDS, 0
    while time.monotonic() < until or number < 10:
        number += 1
        person, other = (ada, grace) if number % 2 else (grace, ada)
        person.send(type="send_message", content=f"number {number}, and some {'worrying ' * (number % 3 == 0)}words")
        eventually("it comes to the other", lambda: any(f"number {number}," in json.dumps(one) for one in other.came[-40:]))
        other.send(type="typing", is_typing=True)
        linus.send(type="request_history", limit=10)
        time.sleep(0.2)  # people type; who sends all the time is closed as a nuisance
        person.send(type="send_message", content="SHOUTING IS NOT NICE AT ALL MY FRIEND")
        if number % 4 == 0:  # away and back
            linus.send(type="nonsense")
            back = {"resume_token": linus.ticket, **linus.place}
            linus.close()
            linus = Tab(gateways[0], back)
            eventually("linus is back", lambda: linus.saw("resumed"))
            fetch(f"http://{gateways[0].public}/ws/community/presence/")  # no upgrade: refused
    for gateway in gateways:
        fetch(f"http://{gateway.public}/ws/community/presence/")
    for tab in (ada, grace, linus):
        for _ in range(60):
            tab.send(type="typing", is_typing=False)  # more than the limit on frames
    linus.close()
    time_of_last = time.monotonic() + 1.2  # two scrapes see the end of it
    eventually("two more scrapes", lambda: time.monotonic() > time_of_last)
    return ada, grace


def ask(url, query):
    status, body = fetch(f"{url}/api/v1/query?{urlencode({'query': prepared(query)})}")
    answer = json.loads(body)
    assert status == 200 and answer["status"] == "success", f"{query}: {answer.get('error')}"
    return answer["data"]["result"]


def test_the_dashboards_are_what_is_generated():
    assert tool(DEPLOY / "grafana" / "generate", "--check") == ""
    assert set(DASHBOARDS) == {"overview", "delivery", "moderation", "dependencies"} and len(QUERIES) > 60
    for one in DASHBOARDS.values():
        identifiers = [panel["id"] for panel in one["panels"]]
        assert len(identifiers) == len(set(identifiers))


def test_queries_name_metrics_that_exist():
    known = set(re.findall(r"^\| `community_gateway_([a-z_]+)` \|", (ROOT / "README.md").read_text(), re.M))
    used = set().union(*(names(query) for _, _, query in QUERIES))
    assert used <= known, used - known
    assert set(QUIET) <= used


@pytest.mark.parametrize(("dashboard", "panel", "query"), QUERIES, ids=[f"{one[0]}: {one[1]}" for one in QUERIES])
def test_a_query_has_an_answer(prometheus, dashboard, panel, query):
    url, _ = prometheus
    found = ask(url, query)
    if not (names(query) and names(query) <= set(QUIET)):
        assert found, query
        assert any(one["value"][1] != "NaN" for one in found), f"{query}: not a number"


def test_no_alert_fires_while_all_is_well(prometheus):
    url, _ = prometheus
    alerts = json.loads(fetch(f"{url}/api/v1/alerts")[1])["data"]["alerts"]
    assert [one["labels"]["alertname"] for one in alerts if one["state"] == "firing"] == []
    groups = json.loads(fetch(f"{url}/api/v1/rules")[1])["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []


def test_the_panels_can_be_drawn(prometheus, tmp_path):
    url, began = prometheus
    folder = Path(os.environ.get("PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    end = time.time()
    step = max(1.0, (end - began) / 100)

    def series(query):
        asked = urlencode({"query": prepared(query), "start": began + 3, "end": end, "step": step})
        status, body = fetch(f"{url}/api/v1/query_range?{asked}")
        assert status == 200, body
        return json.loads(body)["data"]["result"]

    for name, one in DASHBOARDS.items():
        picture = draw(one, series, began + 3, end)
        (folder / f"{name}.svg").write_text(picture)
        assert picture.count("<polyline") >= 5 and len(picture) < 200_000, name
