"""Compares what the swarm's clients saw with the rows in Postgres, which are the truth.

    compare.py SEEN.json DATABASE_URL [OUT.json]

Every client of a room must have seen every message that was written while it took part, live, in a replay or in a state
after a return; and every message that was acknowledged must be a row. Prints what differs; exits with 1 if anything does.
The swarm's clients enter before the first message, so what a room holds is what each of them must have seen, without what
stood there before (`HISTORY`).

Offsets that a client passed over are something else: an instance that is killed between taking an offset and its commit
leaves one that nothing was ever stored for, a void. Who has every row of its room lacks nothing, so what it passed over was
void; who lacks rows has lost them, and they are counted as lost.
"""

import json
import subprocess
import sys
import uuid


def sum_of(messages: set[str]) -> tuple[int, int]:
    """How many, and the last eight bytes of all by exclusive or: what a client tells of what it saw."""
    xor = 0
    for message in messages:
        xor ^= uuid.UUID(message).int & 0xFFFF_FFFF_FFFF_FFFF
    return len(messages), xor


def judge(told: dict, rows: dict[str, set[str]], counts_wrong: int) -> dict:
    """What the clients of a run told, beside the rows of each room."""
    sums = {room: sum_of(messages) for room, messages in rows.items()}
    found = dict.fromkeys(("clients", "to_be_seen", "seen", "lost", "not_stored", "other_views", "void_passed", "void_offsets"), 0)
    whole = set(told["passed"])
    for entry in told["seen"]:
        clients, count, stored = entry["clients"], entry["messages"]["count"], sums.get(entry["room"], (0, 0))
        lost, strange = max(0, stored[0] - count), max(0, count - stored[0])
        if (count, entry["messages"]["xor"]) != stored:
            lost, strange = (lost, strange) if lost or strange else (1, 1)  # at least
            found["other_views"] += clients
            whole.discard(entry["room"])
            print(f"room {entry['room']}: {clients} clients saw {count} of {stored[0]} messages{', of others, too' if strange else ''}")
        found["clients"] += clients
        found["to_be_seen"] += clients * stored[0]
        found["seen"] += clients * (stored[0] - lost)
        found["lost"] += clients * lost
        found["not_stored"] += clients * strange
        found["void_passed"] += clients * max(0, entry["passed"] - lost)
    found["void_offsets"] = sum(told["passed"][room] for room in whole)
    stored, acknowledged = set().union(*rows.values()), set(told["acknowledged"])
    found |= {
        "rows": len(stored), "rooms": len(rows), "acknowledged": len(acknowledged), "acknowledged_lost": len(acknowledged - stored),
        "acknowledged_again": len(told["acknowledged"]) - len(acknowledged), "counts_wrong": counts_wrong,
    }
    found["ok"] = not (found["other_views"] or found["acknowledged_lost"] or counts_wrong)
    return found


def percent(seen: int, to_be_seen: int) -> str:
    """Never rounded up to all of it."""
    return "100.00" if seen == to_be_seen else f"{min(100 * seen / to_be_seen, 99.9999):.4f}"


def main(seen_file: str, database: str, out: str | None = None) -> int:
    def query(sql: str) -> list[list[str]]:
        answer = subprocess.run(["psql", "-qAtF,", database, "-c", sql], check=True, capture_output=True, text=True).stdout
        return [line.split(",") for line in answer.splitlines()]

    with open(seen_file) as file:
        told = json.load(file)
    rows: dict[str, set[str]] = {}
    for room, message in query("SELECT room_id, id FROM community_message WHERE room_id::text LIKE '00000000-0000-4000-8000-%' "
                               "AND id::text NOT LIKE '00000000-0000-4001-8000-%'"):
        rows.setdefault(room, set()).add(message)
    wrong = query("SELECT count(*) FROM community_room r WHERE slug LIKE 'swarm-%' AND message_count <> "
                  "(SELECT count(*) FROM community_message m WHERE m.room_id = r.id)")
    found = judge(told, rows, int(wrong[0][0]))
    print(f"deliveries        {found['seen']} of {found['to_be_seen']} = {percent(found['seen'], found['to_be_seen'])} % of what is stored, "
          f"{found['lost']} lost")
    print(f"void              {found['void_offsets']} offsets with nothing stored, passed over {found['void_passed']} times")
    print(f"{found['rows']} rows in {found['rooms']} rooms, {found['clients']} clients: {found['other_views']} with another view")
    print(f"{found['acknowledged']} messages acknowledged: {found['acknowledged_lost']} of them not stored; "
          f"{found['acknowledged_again']} acknowledged again")
    print(f"rooms whose message_count is not the number of their rows: {found['counts_wrong']}")
    if out:
        with open(out, "w") as file:
            json.dump(found, file)
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
