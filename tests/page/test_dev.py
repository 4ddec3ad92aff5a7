"""deploy/dev as a newcomer meets it: it starts, it ends, and it leaves nothing."""

import os
import subprocess
import urllib.request

import pytest

from dev import GUARD, ROOT, START, Dev


@pytest.fixture
def start():
    runs = []

    def start_one(**settings):
        runs.append(Dev(**settings))
        return runs[-1]

    yield start_one
    for run in runs:
        run.close()


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=GUARD) as answer:
        return answer.status == 200


def test_once_starts_everything_and_ends(tmp_path_factory):
    done = subprocess.run(
        [ROOT / "deploy" / "dev", "--once"], env=os.environ, timeout=START,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "All of it works" in done.stdout
    assert done.stdout.count("a mention became a task, and a worker ran it") == 2, "once for each gateway"


def test_interrupted_it_ends_everything_and_leaves_nothing(start):
    run = start()
    assert answers(run.page) and answers(run.site)
    assert run.interrupt() == 130
    assert run.left_behind() == []


def test_a_second_run_beside_the_first_takes_other_ports(start):
    first, second = start(), start()
    assert first.page != second.page and first.site != second.site
    assert set(first.gateways).isdisjoint(second.gateways)
    assert answers(first.page) and answers(second.page) and answers(first.site) and answers(second.site)


def test_a_killed_run_does_not_block_the_next(start):
    killed = start()
    killed.kill()
    after = start(temporary=killed.temporary)
    assert answers(after.page)
    assert after.interrupt() == 130
    assert after.left_behind() == [], "the folder of the killed run is swept too"
