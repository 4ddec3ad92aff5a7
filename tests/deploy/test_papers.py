"""The papers say what is so: commands, variables, metrics and figures in them."""

import re
import shlex

import pytest
from conftest import DEPLOY, ROOT, tool

README = (ROOT / "README.md").read_text()
PAPERS = {path.name: path.read_text() for path in
          (ROOT / "SECURITY.md", DEPLOY / "UPGRADE.md", DEPLOY / "CAPACITY.md", DEPLOY / "RUNBOOK.md")}


def test_capacity_is_computed():
    page = PAPERS["CAPACITY.md"]
    examples = re.findall(r"^\$ (deploy/capacity .+)\n((?:[^$`].*\n)+)", page, re.M)
    assert len(examples) == 3
    for command, said in examples:
        assert tool(ROOT / shlex.split(command)[0], *shlex.split(command)[1:]) == said, command


@pytest.mark.parametrize("name", PAPERS)
def test_variables_and_metrics_exist(name):
    known = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.M))
    for variable in set(re.findall(r"`(GATEWAY_[A-Z_]+)`", PAPERS[name])):
        assert variable.removesuffix("_FILE") in known or f"{variable}" in README, variable
    metrics = set(re.findall(r"^\| `(community_gateway_[a-z_]+)` \|", README, re.M))
    for metric in set(re.findall(r"community_gateway_[a-z_]+", PAPERS[name])):
        assert re.sub(r"_(bucket|sum|count)$", "", metric) in metrics, metric


@pytest.mark.parametrize("name", PAPERS)
def test_files_that_are_named_are_there(name):
    for path in set(re.findall(r"`((?:deploy|tests|src|loadtest)/[\w./-]*\w)`", PAPERS[name])):
        assert (ROOT / path).exists(), path


def test_options_of_the_tries_exist():
    options = set(re.findall(r"\b([A-Z_]{4,})=", PAPERS["UPGRADE.md"]))
    help_text = tool(ROOT / "loadtest" / "swarm" / "run", "--help")
    assert options and all(f"{option}=" in help_text for option in options), options
