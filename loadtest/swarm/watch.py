"""Watches the processes of a run, every second: memory and CPU time of each gateway, and what stands beside them.

    watch.py WORK OUT

WORK is the folder of `run`: it holds a pid file for each gateway, and `over` when the run is. OUT becomes JSON. A process that
was replaced goes on counting where the one before it ended, so that CPU time only grows. Every few seconds also the gateways'
memory with the pages that they share counted once (PSS: of several processes of one program, each has its text), what Postgres
and Redis used, what the machine's host gave to others while something here could have run, and how many messages the gateways have
written in how many transactions (their metrics, at port OPS_BASE + NUMBER).
"""

import glob
import json
import os
import re
import sys
import time
import urllib.request

work, out = sys.argv[1:]
tick = os.sysconf("SC_CLK_TCK")
page = os.sysconf("SC_PAGE_SIZE")


def stat(pid: int) -> tuple[float, int, int]:
    """CPU seconds (those of children that have ended too), resident KiB, parent."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / tick, int(fields[21]) * page // 1024, int(fields[1])


def share(pid: int) -> int:
    """Resident KiB, each page divided by the processes that have it."""
    found = re.search(r"^Pss:\s+(\d+) kB$", read(f"/proc/{pid}/smaps_rollup"), re.M)
    return int(found[1]) if found else 0


def read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


class Process:
    """One gateway and those that replaced it."""

    def __init__(self) -> None:
        self.pid, self.ended, self.cpu, self.rss = 0, 0.0, 0.0, 0

    def look(self, pid: int) -> None:
        if pid != self.pid:
            self.pid, self.ended, self.cpu = pid, self.ended + self.cpu, 0.0
        try:
            self.cpu, self.rss, _ = stat(pid)
        except (OSError, ValueError, IndexError):
            self.rss = 0

    def total(self) -> float:
        return round(self.ended + self.cpu, 3)


def descendants(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents.setdefault(stat(int(name))[2], []).append(int(name))
            except (OSError, ValueError, IndexError):
                pass
    found, todo = [], [root]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def family(roots: list[int]) -> tuple[float, int]:
    """CPU seconds and resident KiB of these processes and all below them."""
    cpu, rss = 0.0, 0
    for pid in {pid for root in roots for pid in [root, *descendants(root)]}:
        try:
            one_cpu, one_rss, _ = stat(pid)
        except (OSError, ValueError, IndexError):
            continue
        cpu, rss = cpu + one_cpu, rss + one_rss
    return round(cpu, 3), rss


def written(numbers: list[str]) -> dict[str, float]:
    """Messages and transactions of the gateways, since each began; nothing from who does not answer."""
    sums = {"messages_stored": 0.0, "write_batches": 0.0}
    for number in numbers:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{int(os.environ['OPS_BASE']) + int(number)}/metrics", timeout=1) as answer:
                text = answer.read().decode()
        except OSError:
            continue
        for name in sums:
            value = re.search(rf"^community_gateway_{name}_total (\S+)$", text, re.M)
            sums[name] += float(value[1]) if value else 0.0
    return sums


stack = json.loads(read(os.path.join(work, "stack")))
postgres = int(read(os.path.join(stack["dir"], "postgres", "postmaster.pid")).split("\n")[0])
port = re.search(r":(\d+)/", os.environ["GATEWAY_REDIS_URL"])[1]
redis = [
    int(name) for name in os.listdir("/proc")
    if name.isdigit() and read(f"/proc/{name}/cmdline").startswith("redis-server") and f":{port}" in read(f"/proc/{name}/cmdline")
]
gateways: dict[str, Process] = {}
samples = []
while not os.path.exists(os.path.join(work, "over")):
    for path in sorted(glob.glob(os.path.join(work, "gateway-*.pid"))):
        number = re.search(r"gateway-(\d+)\.pid", path)[1]
        if (pid := read(path)).isdigit():
            gateways.setdefault(number, Process()).look(int(pid))
    sample = {
        "at": round(time.time(), 3),
        "rss_kib": {number: process.rss for number, process in gateways.items()},
        "cpu_s": {number: process.total() for number, process in gateways.items()},
    }
    if (swarm := read(os.path.join(work, "swarm"))).isdigit():
        sample["swarm_cpu_s"], sample["swarm_rss_kib"] = family([int(swarm)])
    if len(samples) % 5 == 0:
        sample["pss_kib"] = sum(share(process.pid) for process in gateways.values())
        sample["postgres_cpu_s"], _ = family([postgres])
        sample["redis_cpu_s"], sample["redis_rss_kib"] = family(redis)
        sample["stolen_cpu_s"] = int(read("/proc/stat").split()[8]) / tick
        sample |= written(list(gateways))
        memory = dict(line.split(":", 1) for line in read("/proc/meminfo").splitlines())
        sample["available_kib"] = int(memory["MemAvailable"].split()[0])
    samples.append(sample)
    time.sleep(1)
told = [json.loads(line) for line in read(os.path.join(work, "told")).splitlines()]
with open(out, "w") as file:
    json.dump({"samples": samples, "told": told}, file)
