"""The CloudFormation template: cfn-lint, and what must fit the gateway."""

import re

import pytest
from cfnlint.decode.cfn_yaml import load
from conftest import DEPLOY, ROOT, tool

TEMPLATE = DEPLOY / "aws" / "community-gateway.yaml"
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def template():
    return load(str(TEMPLATE))


@pytest.fixture(scope="module")
def gateway(template):
    return template["Resources"]["Task"]["Properties"]["ContainerDefinitions"][0]


def test_cfn_lint_has_nothing_to_say():
    assert tool("cfn-lint", TEMPLATE) == ""


def test_every_variable_is_one_of_the_gateway_and_secrets_come_by_arn(gateway):
    known = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.M))
    plain = {one["Name"] for one in gateway["Environment"]}
    secret = {one.get("Name") or one["Fn::If"][1]["Name"] for one in gateway["Secrets"]}
    assert plain | secret <= known and not plain & secret
    assert secret == {"DATABASE_URL", "SECRET_KEY", "GATEWAY_ADMIN_TOKEN", "OPENAI_API_KEY"}


def test_time_outs_fit_the_drain(template, gateway):
    resources = template["Resources"]
    attributes = {one["Key"]: one["Value"] for one in resources["LoadBalancer"]["Properties"]["LoadBalancerAttributes"]}
    assert attributes["idle_timeout.timeout_seconds"] == "300"
    target = {one["Key"]: one["Value"] for one in resources["TargetGroup"]["Properties"]["TargetGroupAttributes"]}
    assert target["deregistration_delay.timeout_seconds"] == {"Ref": "DrainSeconds"}
    assert target["stickiness.enabled"] == "false"
    (wait,) = [one["Value"] for one in gateway["Environment"] if one["Name"] == "GATEWAY_DRAIN_WAIT_SECONDS"]
    assert gateway["StopTimeout"] >= int(wait) + template["Parameters"]["DrainSeconds"]["MaxValue"] + 10
    default = re.search(r"^\| `GATEWAY_DRAIN_SECONDS` \| `(\d+)`", README, re.M)[1]
    assert str(template["Parameters"]["DrainSeconds"]["Default"]) == default


def test_the_rule_and_the_health_check_lead_to_the_right_ports(template, gateway):
    resources = template["Resources"]
    (condition,) = resources["Rule"]["Properties"]["Conditions"]
    assert condition["PathPatternConfig"]["Values"] == ["/ws/community/*"]
    target = resources["TargetGroup"]["Properties"]
    assert (target["Port"], target["HealthCheckPort"], target["HealthCheckPath"]) == (8001, "9101", "/readyz")
    assert [port["ContainerPort"] for port in gateway["PortMappings"]] == [8001, 9101]
    assert gateway["HealthCheck"]["Command"] == ["CMD", "/usr/bin/community-gateway", "probe"]
    assert gateway["ReadonlyRootFilesystem"] and gateway["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}


def test_scaling_and_alarms_name_metrics_and_chapters_that_exist():
    text = TEMPLATE.read_text()
    for name in set(re.findall(r"community_gateway_[a-z_]+", text)):
        assert f"| `{name}` |" in README, name
    chapters = re.findall(r'AlarmDescription: "(\w+):', text)
    assert len(chapters) == text.count("Type: AWS::CloudWatch::Alarm") >= 5
    runbook = (DEPLOY / "RUNBOOK.md").read_text()
    for chapter in chapters:
        assert f"### {chapter}\n" in runbook, chapter
