"""The paper for the night: each alert and each outage has its four parts, and its commands do what they say."""

import json
import os
import re
import subprocess

import pytest
import yaml
from conftest import DEPLOY, ROOT, tool

RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text()
RULES = {rule["alert"]: rule["expr"] for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"] for rule in group["rules"]}
ALERTS = list(RULES)
PANELS = {(path.stem, panel["title"]): " ".join(target["expr"] for target in panel["targets"])
          for path in (DEPLOY / "grafana").glob("*.json") for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"}
PARTS = ["Users", "Look", "Do", "Do not"]
# What a look begins with: a program of the host, or a statement for psql.
COMMANDS = ("curl ", "redis-cli ", "community-gateway ", "systemctl ", "journalctl ", "grep ", "top ", "ss ", "dmesg ", "chronyc ", "iostat ", "dig ", "SELECT ")
PART_1 = RUNBOOK.split("## Part 1: alerts\n")[1].split("\n## Part 2")[0]
PART_2 = RUNBOOK.split("\n## Part 2: outages\n")[1].split("\n### How fast\n")[0]
CHAPTERS = {text.split("\n", 1)[0]: text.split("\n", 1)[1] for text in PART_1.split("### ")[1:]}
# In a table a pipe is written with a backslash.
ROWS = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in PART_2.splitlines() if line.startswith("| ") and not line.startswith("| outage |")]
CODE = re.findall(r"`([^`]+)`", PART_1.replace("\n  ", "\n") + "".join(cell for row in ROWS for cell in row))
SHELL = sorted({one for one in CODE if one.startswith(COMMANDS) and not one.startswith("SELECT ")})
QUERIES = sorted({one for one in CODE if one.startswith("SELECT ") and "PID" not in one})


def parts(chapter: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in re.findall(r"^- \*\*([\w ]+)\*\*((?:.|\n(?!- ))*)", chapter, re.M):
        found[name] = found.get(name, "") + text
    return found


def test_every_alert_has_a_chapter_and_every_chapter_an_alert():
    assert list(CHAPTERS) and set(CHAPTERS) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_a_chapter_has_four_parts_and_a_command(alert):
    found = parts(CHAPTERS[alert])
    assert list(found) == PARTS
    assert all(len(text) > 25 for text in found.values()), found
    assert any(one.startswith(COMMANDS) for one in re.findall(r"`([^`]+)`", found["Look"])), found["Look"]


@pytest.mark.parametrize("alert", [one for one in ALERTS if one != "GatewayAbsent"])  # without a target every panel is empty
def test_a_chapter_names_the_panels_that_show_what_the_alert_asks(alert):
    look = " ".join(parts(CHAPTERS[alert])["Look"].split())
    named = re.findall(r'\*(\w+)\*, "([^"]+)"', look.partition("Panel")[2])
    assert named and set(named) <= set(PANELS), set(named) - set(PANELS)
    asked = set(re.findall(r"(?:community_gateway|process)_[a-z_]+", RULES[alert]))
    shown = set(re.findall(r"(?:community_gateway|process)_[a-z_]+", " ".join(PANELS[one] for one in named)))
    assert asked & shown or alert == "GatewayDown", f"the rule asks for {asked}, the panels show {shown}"  # that one asks for `up`


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_an_outage_has_its_parts(row):
    # The first table says besides what was acknowledged, and is there afterwards.
    assert len(row) in (6, 7) and all(row), row
    assert "`" in row[-3], row[-3]  # a command, a metric, a line of the log: the text above the table says what to do with these


def test_what_an_instance_depends_on_has_an_outage():
    for word in ("OpenAI", "Celery's broker", "Django's cache", "channel layer", "OTLP", "Redis restarted", "Postgres restarted", "pgbouncer", "Sentinel", "Cluster"):
        assert any(word in row[0] for row in ROWS), word


def test_alerts_lead_to_their_chapter():
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            path = f"deploy/RUNBOOK.md#{rule['alert'].lower()}"
            assert rule["annotations"]["runbook"] == path
            assert rule["annotations"]["runbook_url"].endswith("{{ end }}#" + rule["alert"].lower())


@pytest.mark.parametrize("command", SHELL)
def test_a_command_is_sound(command):
    subprocess.run(["bash", "-n", "-c", command], check=True)
    for pattern in re.findall(r"OPS/metrics \| grep (?:-E )?('[^']+'|\S+)", command):
        known = re.findall(r"^\| `(community_gateway_[a-z_]+)` \| (\w+)", (ROOT / "README.md").read_text(), re.M)
        series = [name + tail for name, kind in known for tail in (["_bucket", "_sum", "_count"] if kind == "histogram" else [""])]
        series += ["process_open_fds", "process_max_fds"]
        for one in re.sub(r"\([^)]*\)", lambda group: group[0].replace("|", "\0"), pattern.strip("'")).split("|"):
            assert any(re.search(one.replace("\0", "|"), name) for name in series), f"no metric is like {one}"


@pytest.mark.parametrize("command", [one for one in SHELL if one.startswith("redis-cli -u")])
def test_redis_understands_a_command(stack, command):
    # Only the first of a pair is a command of its own; "client list type pubsub" and the like have no address in front.
    names = {"GATEWAY_REDIS_URL": "redis_url", "GATEWAY_CACHE_URL": "cache_url", "GATEWAY_BROKER_URL": "broker_url"}
    environment = os.environ | {name: stack.urls[url] for name, url in names.items()}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout and "ERR" not in done.stdout, done.stdout


@pytest.mark.parametrize("query", QUERIES)
def test_postgres_understands_a_query(stack, query):
    tool("psql", "-v", "ON_ERROR_STOP=1", stack.urls["database_url"], "-c", query)
