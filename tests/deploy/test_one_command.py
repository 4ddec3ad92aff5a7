"""deploy/test, the one command: what it counts, and that it names what was left out. By its step `deny`, which needs no build."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

DATABASE = "https://github.com/RustSec/advisory-db"
ADVISORY = """```toml
[advisory]
id = "RUSTSEC-2026-9999"
package = "{package}"
date = "2026-01-01"
url = "https://example.org/"

[versions]
patched = []
```

# Made up for a test
"""


def git(folder: Path, *arguments: str) -> None:
    known = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}
    subprocess.run(["git", *arguments], cwd=folder, env=os.environ | known, check=True, capture_output=True)


@pytest.fixture
def run(tmp_path):
    """Runs the step with the real cargo-deny, and a folder for the public database: its exit code, and its last two lines."""
    target, home = tmp_path / "target", tmp_path / "cargo"
    target.mkdir()
    (target / "venv").symlink_to(Path(sys.executable).parents[1])
    home.mkdir()  # cargo's own, but for the databases that it may have fetched before
    for one in Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo").iterdir():
        if one.name != "advisory-dbs":
            (home / one.name).symlink_to(one)

    def run_with(database: Path) -> tuple[int, list[str]]:
        environment = os.environ | {
            "CARGO_TARGET_DIR": str(target), "CARGO_HOME": str(home), "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{database.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": DATABASE,
        }
        done = subprocess.run([ROOT / "deploy" / "test", "deny"], env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout.splitlines()[-2:]

    return run_with


@pytest.fixture
def database(tmp_path):
    """Makes a database with one advisory, against every version of a crate."""

    def made(package: str) -> Path:
        folder = tmp_path / "database"
        (folder / "crates" / package).mkdir(parents=True)
        (folder / "crates" / package / "RUSTSEC-2026-9999.md").write_text(ADVISORY.format(package=package))
        git(folder, "init", "-q", "-b", "main")
        git(folder, "add", "--all")
        git(folder, "commit", "-q", "-m", "one")
        return folder

    return made


def test_with_the_database_all_four_are_checked_and_nothing_was_left_out(run, database):
    status, (before, last) = run(database("a-crate-that-is-not-used-here"))
    assert (status, last) == (0, "4 passed, 0 failed")
    assert re.fullmatch(r"==> All steps took \d+ min \d+ s", before)


def test_an_advisory_against_what_is_used_fails(run, database):
    status, (before, last) = run(database("tokio"))
    assert (status, last) == (1, "3 passed, 1 failed")
    assert before.endswith("; failed: deny")


def test_without_the_database_the_advisories_are_named_as_left_out_and_not_counted(run, tmp_path):
    assert run(tmp_path / "there-is-none") == (
        0, ["left out: deny: advisories (their database could not be fetched)", "3 passed, 0 failed"])
