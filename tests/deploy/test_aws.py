"""The CloudFormation template: cfn-lint, and what must fit the gateway."""

import re
import sys
import types

import pytest
from cfnlint.decode.cfn_yaml import load
from conftest import DEPLOY, ROOT, SECRET_KEY, Gateway, tool

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
    plain = {one["Name"] for one in gateway["Environment"] if "Name" in one}
    secret = {one.get("Name") or one["Fn::If"][1]["Name"] for one in gateway["Secrets"]}
    assert plain | secret <= known and not plain & secret
    assert secret == {"DATABASE_URL", "SECRET_KEY", "GATEWAY_ADMIN_TOKEN", "OPENAI_API_KEY", "GATEWAY_REDIS_URL", "GATEWAY_CACHE_URL",
                      "GATEWAY_BROKER_URL"}


def test_no_parameter_is_an_address_with_a_password(template, gateway):
    for name, parameter in template["Parameters"].items():
        assert "://" not in f"{parameter.get('AllowedPattern')} {parameter.get('Default')}", name
    # Left out, the broker would be a Redis on the task itself: without a secret it is set, and empty.
    (broker,) = (one["Fn::If"] for one in gateway["Environment"] if "Fn::If" in one)
    assert broker == ["HasBroker", {"Ref": "AWS::NoValue"}, {"Name": "GATEWAY_BROKER_URL", "Value": ""}]
    granted = str(template["Resources"]["ExecutionRole"]["Properties"]["Policies"])
    for name in template["Parameters"]:
        assert not name.endswith("SecretArn") or f"'{name}'" in granted, name


def test_time_outs_fit_the_drain(template, gateway):
    resources = template["Resources"]
    attributes = {one["Key"]: one["Value"] for one in resources["LoadBalancer"]["Properties"]["LoadBalancerAttributes"]}
    assert attributes["idle_timeout.timeout_seconds"] == "300"
    target = {one["Key"]: one["Value"] for one in resources["TargetGroup"]["Properties"]["TargetGroupAttributes"]}
    assert int(target["deregistration_delay.timeout_seconds"]) >= template["Parameters"]["DrainSeconds"]["MaxValue"] + 60
    assert target["stickiness.enabled"] == "false"
    (wait,) = [one["Value"] for one in gateway["Environment"] if one.get("Name") == "GATEWAY_DRAIN_WAIT_SECONDS"]
    assert gateway["StopTimeout"] >= int(wait) + template["Parameters"]["DrainSeconds"]["MaxValue"] + 10
    default = re.search(r"^\| `GATEWAY_DRAIN_SECONDS` \| `(\d+)`", README, re.M)[1]
    assert str(template["Parameters"]["DrainSeconds"]["Default"]) == default


def leaving(address):
    """What ECS tells when a task begins to leave, as far as the rule and the function look at it."""
    containers = [{"name": name, "networkInterfaces": [{"privateIpv4Address": address}]} for name in ("metrics", "gateway")]
    return {"source": "aws.ecs", "detail-type": "ECS Task State Change",
            "detail": {"lastStatus": "DEACTIVATING", "desiredStatus": "STOPPED", "containers": containers}}


@pytest.mark.parametrize("arn", ["arn:aws:secretsmanager:eu-central-1:1:secret:admin", "arn:aws:ssm:eu-central-1:1:parameter/admin"])
def test_a_task_that_leaves_is_asked_to_drain_while_its_sockets_live(template, stack, monkeypatch, arn):
    said = "oncall:0123456789abcdef0123456789\necs:abcdef0123456789abcdef0123\n"

    class Client:
        def get_parameter(self, Name, WithDecryption):
            return {"Parameter": {"Value": said}} if (Name, WithDecryption) == (arn, True) else {}

        def get_secret_value(self, SecretId):
            return {"SecretString": said} if SecretId == arn else {}

    boto3 = types.ModuleType("boto3")
    boto3.client = lambda service: Client() if f":{service}:" in arn else None
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    monkeypatch.setenv("TOKENS", arn)
    gateway = Gateway(stack, SECRET_KEY, "leaves", GATEWAY_ADMIN_TOKEN=said)
    address, port = gateway.ops.rsplit(":", 1)
    code = template["Resources"]["Drain"]["Properties"]["Code"]["ZipFile"]
    assert code.count(":9101/") == 1
    function: dict = {}
    exec(code.replace(":9101/", f":{port}/"), function)
    event = leaving(address)
    function["handler"](event, None)
    assert gateway.ended() == 0
    acted = gateway.wait_for_log("an operator acted")
    assert "ecs" in str(acted) and "oncall" not in str(acted)

    rule = template["Resources"]["DrainRule"]["Properties"]["EventPattern"]
    assert event["source"] in rule["source"] and event["detail-type"] in rule["detail-type"]
    assert all(event["detail"][name] in rule["detail"][name] for name in ("lastStatus", "desiredStatus"))


def test_as_many_newcomers_may_wait_as_the_gateway_asks_for(gateway):
    backlog = int(re.search(r"^const BACKLOG: i32 = ([\d_]+);", (ROOT / "src" / "http" / "accept.rs").read_text(), re.M)[1])
    settings = (DEPLOY / "sysctl.d" / "60-community-gateway.conf").read_text()
    assert f"net.core.somaxconn = {backlog}\n" in settings
    assert gateway["SystemControls"] == [{"Namespace": "net.core.somaxconn", "Value": str(backlog)}]
    assert f"net.core.somaxconn={backlog}" in (DEPLOY / "helm" / "community-gateway" / "README.md").read_text()


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
