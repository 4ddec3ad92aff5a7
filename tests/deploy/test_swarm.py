"""How the load generator judges what its clients saw: Postgres is the truth."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "loadtest" / "swarm"))
from compare import judge, percent, sum_of  # noqa: E402 (its folder must be known first)

ROOM = "00000000-0000-4000-8000-000000000000"
MESSAGES = [f"00000000-0000-7000-8000-{number:012x}" for number in range(1, 11)]


def seen(messages, clients=1, passed=0):
    count, xor = sum_of(set(messages))
    return {"room": ROOM, "clients": clients, "messages": {"count": count, "xor": xor}, "passed": passed}


def judged(*views, acknowledged=MESSAGES, passed=0, counts_wrong=0):
    told = {"seen": list(views), "passed": {ROOM: passed} if passed else {}, "acknowledged": list(acknowledged)}
    return judge(told, {ROOM: set(MESSAGES)}, counts_wrong)


def test_who_saw_every_row_lacks_nothing():
    found = judged(seen(MESSAGES, clients=50))
    assert found["ok"] and (found["to_be_seen"], found["seen"], found["lost"]) == (500, 500, 0)


def test_an_offset_that_nothing_was_stored_for_is_no_loss():
    found = judged(seen(MESSAGES, clients=49, passed=1), seen(MESSAGES), passed=1)
    assert found["ok"] and (found["lost"], found["void_offsets"], found["void_passed"]) == (0, 1, 49)


def test_a_row_that_a_client_passed_over_is_lost():
    found = judged(seen(MESSAGES, clients=49), seen(MESSAGES[:-1], passed=1), passed=1)
    assert not found["ok"]
    assert (found["lost"], found["other_views"], found["void_offsets"], found["void_passed"]) == (1, 1, 0, 0)


def test_a_row_that_everybody_passed_over_is_lost():
    found = judged(seen(MESSAGES[:-1], clients=50, passed=1), passed=1)
    assert not found["ok"] and (found["lost"], found["seen"], found["void_offsets"]) == (50, 450, 0)


@pytest.mark.parametrize("views", [[*MESSAGES, MESSAGES[0][:-1] + "f"], [*MESSAGES[1:], MESSAGES[0][:-1] + "f"]])
def test_what_is_not_stored_must_not_be_seen(views):
    found = judged(seen(views))
    assert not found["ok"] and found["not_stored"] == 1


def test_what_was_acknowledged_must_be_stored():
    found = judged(seen(MESSAGES), acknowledged=[*MESSAGES, MESSAGES[0][:-1] + "f"])
    assert not found["ok"] and found["acknowledged_lost"] == 1


def test_a_room_must_count_its_rows():
    assert not judged(seen(MESSAGES), counts_wrong=1)["ok"]


def test_nothing_is_rounded_up_to_all():
    assert percent(0, 0) == percent(7, 7) == "100.00"
    assert percent(99_999_999, 100_000_000) == "99.9999"
