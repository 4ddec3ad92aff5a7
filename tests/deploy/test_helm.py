"""The chart: Helm's own linter and renderer, the values' schema, and Kubernetes's schemas for what comes out."""

import re

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from conftest import DEPLOY, ROOT

CHART = DEPLOY / "helm" / "community-gateway"
ALL_ON = {
    "autoscaling": {"enabled": True},
    "ingress": {"enabled": True, "tls": [{"hosts": ["app.example"], "secretName": "tls"}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "tls": {"secretName": "certificate"},
    "imagePullSecrets": ["registry"],
    "podAnnotations": {"team": "community"},
    "nodeSelector": {"disk": "none"},
    "tolerations": [{"key": "sockets", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
}


def rendered(values=None, name="chat"):
    """All objects, by kind and name."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values or {})
        files = chart.render(values or {}, name=name, namespace="community")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    objects = [one for text in texts for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


@pytest.fixture(scope="module")
def everything():
    return rendered(ALL_ON)


def pod(objects):
    (deployment,) = (one for (kind, _), one in objects.items() if kind == "Deployment")
    return deployment["spec"]["template"]["spec"]


def test_helms_linter_has_nothing_to_say():
    said = helm.lint(CHART)
    messages = said["messages"] if isinstance(said, dict) else said
    serious = [one for one in messages if "icon is recommended" not in str(one)]
    assert serious == []


@pytest.mark.parametrize("version", ["1.30", "1.34"])
@pytest.mark.parametrize("values", [{}, ALL_ON], ids=["as it is", "everything on"])
def test_kubernetes_takes_every_object(values, version):
    for (kind, name), one in rendered(values).items():
        if kind != "ServiceMonitor":
            kubernetes_validate.validate(one, version, strict=True)
        assert name.startswith("chat-community-gateway")


def test_what_is_off_is_not_there():
    kinds = {kind for kind, _ in rendered()}
    assert kinds == {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}


def test_the_grace_is_longer_than_leaving_takes():
    for pre_stop, drain in [(5, 30), (20, 120)]:
        one = pod(rendered({"preStopSeconds": pre_stop, "drainSeconds": drain}))
        container = one["containers"][0]
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == pre_stop
        assert {"name": "GATEWAY_DRAIN_SECONDS", "value": str(drain)} in container["env"]
        assert one["terminationGracePeriodSeconds"] == pre_stop + drain + 10


def test_probes_ask_what_they_should(everything):
    container = pod(everything)["containers"][0]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "ops"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}


def test_the_pod_is_locked_in(everything):
    one = pod(everything)
    assert one["securityContext"]["runAsNonRoot"] and not one["automountServiceAccountToken"] and not one["enableServiceLinks"]
    security = one["containers"][0]["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}


def test_every_variable_is_one_of_the_gateway_and_no_secret_is_in_the_environment(everything):
    known = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.M))
    variables = {one["name"]: one for one in pod(everything)["containers"][0]["env"]}
    assert {name.removesuffix("_FILE") for name in variables} <= known
    for name in ("DATABASE_URL", "SECRET_KEY", "GATEWAY_ADMIN_TOKEN"):
        assert name not in variables and variables[f"{name}_FILE"]["value"] == f"/etc/community-gateway/{name}"


def test_a_certificate_is_mounted_whole_so_that_a_renewed_one_is_seen(everything):
    one = pod(everything)
    variables = {variable["name"]: variable.get("value") for variable in one["containers"][0]["env"]}
    (mount,) = (mount for mount in one["containers"][0]["volumeMounts"] if mount["name"] == "tls")
    assert "subPath" not in mount
    assert variables["GATEWAY_TLS_CERT_FILE"] == f"{mount['mountPath']}/tls.crt"
    assert variables["GATEWAY_TLS_KEY_FILE"] == f"{mount['mountPath']}/tls.key"
    (volume,) = (volume for volume in one["volumes"] if volume["name"] == "tls")
    assert volume["secret"]["secretName"] == "certificate"
    assert "tls" not in {volume["name"] for volume in pod(rendered())["volumes"]}


def test_the_ops_port_is_in_no_ingress_and_prometheus_finds_it(everything):
    backend = everything["Ingress", "chat-community-gateway"]["spec"]["rules"][0]["http"]["paths"][0]
    assert backend["path"] == "/ws/community/" and backend["backend"]["service"]["port"] == {"name": "sockets"}
    service = everything["Service", backend["backend"]["service"]["name"]]
    assert [port["name"] for port in service["spec"]["ports"]] == ["sockets"]
    monitor = everything["ServiceMonitor", "chat-community-gateway"]["spec"]
    found = [one for (kind, _), one in everything.items()
             if kind == "Service" and monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()]
    assert [[port["name"] for port in one["spec"]["ports"]] for one in found] == [[monitor["endpoints"][0]["port"]]]


def test_scaling_is_by_a_metric_that_exists(everything):
    spec = everything["HorizontalPodAutoscaler", "chat-community-gateway"]["spec"]
    sockets = spec["metrics"][0]["pods"]
    assert f"| `{sockets['metric']['name']}` | gauge |" in (ROOT / "README.md").read_text()
    assert sockets["target"]["averageValue"] == "20000"
    assert "replicas" not in everything["Deployment", "chat-community-gateway"]["spec"]


@pytest.mark.parametrize("wrong", [
    {"replica": 2},
    {"drainSeconds": 0},
    {"config": {"SECRET_KEY": "in the open"}},
    {"config": {"GATEWAY_DRAIN_SECONDS": 300}},
    {"config": {"GATEWAY_DRAIN_WAIT_SECONDS": 5}},
    {"secret": {"name": "x", "keys": ["DATABASE_URL"]}},
    {"secret": {"name": "x", "keys": ["DATABASE_URL", "SECRET_KEY", "GATEWAY_REDIS_URL"]}},
    {"networkPolicy": {"ports": ["postgres"]}},
], ids=str)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(helm.HelmError):
        rendered(wrong)
