"""Compares what the swarm's clients saw with the rows in Postgres.

    compare.py SEEN.json DATABASE_URL

Every client of a room must have seen every message that was written while it took part, live, in a replay or in a state
after a return; and every message that was acknowledged must be a row. Prints what differs; exits with 1 if anything does.
The swarm's clients enter before the first message, so what a room holds is what each of them must have seen, without what
stood there before (`HISTORY`).
"""

import json
import subprocess
import sys
import uuid

seen_file, database = sys.argv[1:]
with open(seen_file) as file:
    told = json.load(file)


def query(sql: str) -> list[list[str]]:
    out = subprocess.run(["psql", "-qAtF,", database, "-c", sql], check=True, capture_output=True, text=True).stdout
    return [line.split(",") for line in out.splitlines()]


rows: dict[str, set[str]] = {}
for room, message in query("SELECT room_id, id FROM community_message WHERE room_id::text LIKE '00000000-0000-4000-8000-%' "
                           "AND id::text NOT LIKE '00000000-0000-4001-8000-%'"):
    rows.setdefault(room, set()).add(message)

wrong = 0
clients = 0
for entry in told["seen"]:
    messages = rows.get(entry["room"], set())
    xor = 0
    for message in messages:
        xor ^= uuid.UUID(message).int & 0xFFFF_FFFF_FFFF_FFFF
    clients += entry["clients"]
    if (entry["messages"]["count"], entry["messages"]["xor"]) != (len(messages), xor):
        wrong += entry["clients"]
        print(f"room {entry['room']}: {entry['clients']} clients saw {entry['messages']['count']} of {len(messages)} messages")

stored = set().union(*rows.values()) if rows else set()
lost = [message for message in told["acknowledged"] if message not in stored]
twice = len(told["acknowledged"]) - len(set(told["acknowledged"]))
counters = query("SELECT count(*) FROM community_room r WHERE slug LIKE 'swarm-%' AND message_count <> "
                 "(SELECT count(*) FROM community_message m WHERE m.room_id = r.id)")
print(f"{len(stored)} rows in {len(rows)} rooms, {clients} clients: {wrong} with another view")
print(f"{len(set(told['acknowledged']))} messages acknowledged: {len(lost)} of them not stored; {twice} acknowledged again")
print(f"rooms whose message_count is not the number of their rows: {counters[0][0]}")
sys.exit(1 if wrong or lost or counters[0][0] != "0" else 0)
