"""The container files: hadolint, what goes into the build, the parts list. The image itself: deploy/container/chroot-test."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import DEPLOY, ROOT, tool
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("path", [path.relative_to(ROOT) for path in sorted(DEPLOY.rglob("*Dockerfile"))], ids=str)
def test_hadolint_has_nothing_to_say(path):
    assert tool("hadolint", "--config", ".hadolint.yaml", "--failure-threshold", "info", path) == ""


def test_the_scripts_of_the_image_are_sound():
    for script in ("container/rootfs", "container/chroot-test", "nginx/share"):
        subprocess.run(["sh" if "sh\n" in (DEPLOY / script).read_text()[:10] else "bash", "-n", DEPLOY / script], check=True)


def test_the_build_gets_every_file_that_it_needs_and_no_other(tmp_path):
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*" and all(rule.startswith("!") for rule in rules[1:])
    for rule in rules[1:]:
        source, place = ROOT / rule[1:], tmp_path / rule[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place)
    described = json.loads(tool("cargo", "metadata", "--offline", "--locked", "--no-deps", "--format-version", "1", cwd=tmp_path))
    assert {package["name"] for package in described["packages"]} == {"community-gateway", "community-swarm"}
    for path in (tmp_path / "src").rglob("*.rs"):
        for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', path.read_text()):
            assert (path.parent / included).exists(), f"{path.relative_to(tmp_path)} includes {included}"
    for copied in re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.M):
        assert (tmp_path / copied).exists(), copied


def test_the_label_is_the_version_and_the_check_is_the_program():
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f'org.opencontainers.image.version="{version}"' in DOCKERFILE
    assert 'CMD ["/usr/bin/community-gateway", "probe"]' in DOCKERFILE
    rust = re.search(r'^rust-version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f"FROM rust:{rust}-slim" in DOCKERFILE
    assert re.search(r"^USER 65532", DOCKERFILE, re.M)


def test_the_parts_list_is_what_cyclonedx_wants(tmp_path):
    target = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = re.search(r"^host: (.+)", target, re.M)[1]
    metadata = tmp_path / "metadata.json"
    metadata.write_text(tool("cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", host))
    parts = tool(DEPLOY / "container" / "sbom", metadata, Path("/usr/bin/env").resolve())
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(parts) is None
    names = {part["name"] for part in json.loads(parts)["components"]}
    assert {"tokio", "ring", "libc6", "ca-certificates"} <= names and not names & {"proptest", "tempfile"}
