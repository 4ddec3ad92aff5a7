"""The container files: hadolint, what goes into the build, the parts list. The image itself: deploy/container/chroot-test."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import DEPLOY, ROOT, binary, tool
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("path", [path.relative_to(ROOT) for path in sorted(DEPLOY.rglob("*Dockerfile"))], ids=str)
def test_hadolint_has_nothing_to_say(path):
    assert tool("hadolint", "--config", ".hadolint.yaml", "--failure-threshold", "info", path) == ""


def test_the_scripts_of_the_image_are_sound():
    for script in ("container/crates", "container/rootfs", "container/chroot-test", "nginx/share"):
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


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts list of this tree, as text; the binary is another, because Debian's part needs one that Debian knows."""
    folder = tmp_path_factory.mktemp("crates")
    tool(DEPLOY / "container" / "crates", folder, env=os.environ | {"CARGO_NET_OFFLINE": "true"})
    return tool(DEPLOY / "container" / "sbom", folder, Path("/usr/bin/env").resolve())


def test_the_parts_list_is_what_cyclonedx_wants(parts):
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(parts) is None
    listed = json.loads(parts)
    known = {part["bom-ref"] for part in [*listed["components"], listed["metadata"]["component"]]}
    assert {one["ref"] for one in listed["dependencies"]} <= known
    assert {used for one in listed["dependencies"] for used in one["dependsOn"]} <= known


def test_the_parts_list_tells_what_is_in_the_image_from_what_only_built_it(parts):
    scopes = {}
    for part in json.loads(parts)["components"]:
        scopes.setdefault(part["name"], set()).add(part.get("scope", "required"))
    shipped = {name for name, scope in scopes.items() if scope == {"required"}}
    built = {name for name, scope in scopes.items() if scope == {"excluded"}}
    assert {"tokio", "ring", "sqlx-postgres", "libc6", "ca-certificates"} <= shipped
    # Macros, what they are written with, and what compiles C.
    assert {"serde_derive", "tokio-macros", "syn", "quote", "proc-macro2", "cc", "version_check"} <= built
    assert shipped | built == set(scopes)
    # Development dependencies, and optional crates that no feature of ours switches on.
    assert not set(scopes) & {"proptest", "tempfile", "tokio-tungstenite", "sqlx-mysql", "sqlx-sqlite", "libsqlite3-sys"}


def test_every_crate_that_is_compiled_into_the_program_is_listed_as_shipped(parts):
    """Another witness than cargo: the paths of sources that the compiled program itself holds, for its panics."""
    shipped = {(part["name"], part["version"]) for part in json.loads(parts)["components"] if "scope" not in part}
    sources = re.findall(rb"/registry/src/[^/\0]+/([A-Za-z0-9_-]+?)-(\d+\.\d+\.\d+[^/\0]*)/src/", binary().read_bytes())
    compiled = {(name.decode(), version.decode()) for name, version in sources}
    assert ("tokio", next(version for name, version in shipped if name == "tokio")) in compiled
    assert compiled - shipped == set()
