"""compose.yaml, as the real docker compose reads it, and the files that it mounts."""

import json
import re

import pytest
from conftest import DEPLOY, ROOT, tool


@pytest.fixture(scope="module")
def compose():
    return json.loads(tool("docker-compose", "-f", DEPLOY / "compose.yaml", "config", "--format", "json"))


def test_everything_is_there(compose):
    services = {"gateway-1", "gateway-2", "redis", "postgres", "pgbouncer", "nginx", "django", "worker", "migrate", "prometheus", "grafana"}
    assert set(compose["services"]) == services


def test_every_file_that_is_built_from_or_mounted_exists(compose):
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                assert (ROOT / mount["source"]).exists(), f"{name}: {mount['source']}"
                assert mount["read_only"], f"{name}: {mount['source']} may be written"
        if build := service.get("build"):
            assert (ROOT / build["context"] / build["dockerfile"]).exists(), name


def test_the_gateways_variables_are_the_gateways(compose):
    known = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.M))
    for name in ("gateway-1", "gateway-2"):
        variables = set(compose["services"][name]["environment"])
        assert {one.removesuffix("_FILE") for one in variables if one != "GATEWAY_CONFIG_FILE"} <= known
    settings = (DEPLOY / "compose" / "gateway" / "settings").read_text()
    assert set(re.findall(r"^([A-Z_]+)=", settings, re.M)) <= known


def test_operators_have_a_token_and_only_this_machine_reaches_the_page(compose):
    lines = (DEPLOY / "compose" / "gateway" / "admin-tokens").read_text().splitlines()
    tokens = [line for line in lines if line and not line.startswith("#")]
    assert tokens and all(re.fullmatch(r"[\w-]{1,32}:[!-~]{24,}", token) for token in tokens)
    for name in ("gateway-1", "gateway-2"):
        service = compose["services"][name]
        mounted = {mount["target"] for mount in service["volumes"]}
        for variable in ("GATEWAY_CONFIG_FILE", "GATEWAY_ADMIN_TOKEN_FILE"):
            folder, file = service["environment"][variable].rsplit("/", 1)
            assert folder in mounted, "a folder, so that a replaced file is seen"
            assert (DEPLOY / "compose" / "gateway" / file).exists()
        assert all((port["target"], port["host_ip"]) == (9101, "127.0.0.1") for port in service.get("ports", []))


def test_only_this_machine_reaches_any_port(compose):
    ports = {(name, port["target"]): port.get("host_ip") for name, service in compose["services"].items() for port in service.get("ports", [])}
    assert {("nginx", 8080), ("prometheus", 9090), ("grafana", 3000)} <= set(ports)
    assert set(ports.values()) == {"127.0.0.1"}, ports


def test_gateways_are_locked_in_and_have_time_for_the_drain(compose):
    readme = (ROOT / "README.md").read_text()
    drain = sum(int(each) for each in re.findall(r"^\| `GATEWAY_DRAIN_(?:WAIT_)?SECONDS` \| `(\d+)`", readme, re.M))
    for name in ("gateway-1", "gateway-2"):
        service = compose["services"][name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["stop_grace_period"] == "45s" and drain + 10 <= 45


def test_both_sides_have_the_same_key_the_same_redis_and_nginx_is_believed(compose):
    services = compose["services"]
    gateway, django = services["gateway-1"]["environment"], services["django"]["environment"]
    for name in ("SECRET_KEY", "GATEWAY_REDIS_URL", "GATEWAY_CACHE_URL", "CORS_ALLOWED_ORIGINS"):
        assert gateway[name] == django[name], name
    assert gateway["GATEWAY_BROKER_URL"] == django["CELERY_BROKER_URL"]
    assert gateway["GATEWAY_TRUSTED_PROXIES"] == services["nginx"]["networks"]["community"]["ipv4_address"]


def test_prometheus_reads_its_configuration(tmp_path):
    text = (DEPLOY / "compose" / "prometheus.yml").read_text()
    path = tmp_path / "prometheus.yml"
    path.write_text(text.replace("/etc/prometheus/alerts.yml", str(DEPLOY / "prometheus" / "alerts.yml")))
    tool("promtool", "check", "config", path)
