"""What the measuring tools share: the file of a result, and plots.

A result is `results/NAME.json`: what was measured, when, by which command, at which commit, on which machine. `report` makes
REPORT.md of them.
"""

import gzip
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import time
from html import escape

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
FOLDER = pathlib.Path(os.environ.get("RESULTS", HERE / "results"))
COLOURS = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#0a3069", "#bf3989", "#57606a"]


def machine() -> dict:
    """What it ran on."""
    def first(path: str, key: str) -> str:
        with open(path) as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "unknown")
    return {
        "cpu": first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(int(first("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def commit() -> str:
    """The commit that was measured; with a + when files differ from it."""
    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *command], capture_output=True, text=True, check=False).stdout.strip()
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "-uno") else "")


def command_line(settings: tuple[str, ...] = ()) -> str:
    """How to run the same again: the variables that were given, and the command."""
    given = [f"{name}={shlex.quote(os.environ[name])}" for name in settings if name in os.environ]
    program = os.path.relpath(sys.argv[0], ROOT)
    return " ".join([*given, program, *map(shlex.quote, sys.argv[1:])])


def begin(kind: str, settings: tuple[str, ...] = ()) -> dict:
    """The head of a result, to be taken before the work: a machine that works tells another load."""
    return {
        "kind": kind, "command": command_line(settings), "commit": commit(), "machine": machine(),
        "began": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()), "seconds": time.time(),
    }


def save(name: str, result: dict) -> pathlib.Path:
    """Writes a result; compressed when it is not small."""
    result["seconds"] = round(time.time() - result["seconds"])
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    plain, packed = FOLDER / f"{name}.json", FOLDER / f"{name}.json.gz"
    plain.unlink(missing_ok=True)
    packed.unlink(missing_ok=True)
    if len(text) <= 32 * 1024:
        plain.write_text(text + "\n")
        return plain
    packed.write_bytes(gzip.compress(json.dumps(result, separators=(",", ":")).encode(), mtime=0))
    return packed


def load_all() -> dict[str, dict]:
    """All results, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.json")) + sorted(FOLDER.glob("*.json.gz")):
        data = path.read_bytes()
        found[path.name.split(".json")[0]] = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return found


def median(values: list) -> float | None:
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def short(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e6 if unit == 'M' else 1e3):.1f}{unit}"
    return f"{value:.0f}" if abs(value) >= 10 or value == 0 else f"{value:.2g}"


def thinned(points: list, most: int = 400) -> list:
    """Every so many'th of them: a plot has no more columns than this."""
    step = max(1, -(-len(points) // most))
    return points[::step]


def plot(title: str, series: dict[str, list[tuple[float, float]]], unit: str = "", marks: list[tuple[float, str]] = ()) -> str:
    """Lines over seconds, as SVG. `marks` are moments with a name."""
    width, height, left, top = 900, 200, 64, 28
    end = max((x for points in series.values() for x, _ in points), default=1) or 1
    most = max((y for points in series.values() for _, y in points), default=1) or 1
    svg = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height + 66}' font-family='sans-serif' font-size='11'>",
           f"<rect width='100%' height='100%' fill='white'/><text x='{left}' y='16' font-size='13'>{escape(title)}</text>"]
    across = lambda x: left + (width - left - 10) * x / end
    up = lambda y: top + height - height * y / most
    for step in range(5):
        value = most * step / 4
        svg.append(f"<line x1='{left}' x2='{width - 10}' y1='{up(value):.1f}' y2='{up(value):.1f}' stroke='#ddd'/>"
                   f"<text x='{left - 6}' y='{up(value) + 4:.1f}' text-anchor='end'>{short(value)}{unit}</text>")
        svg.append(f"<text x='{across(end * step / 4):.1f}' y='{top + height + 16}' text-anchor='middle'>{end * step / 4:.0f} s</text>")
    for number, (x, name) in enumerate(marks):
        svg.append(f"<line x1='{across(x):.1f}' x2='{across(x):.1f}' y1='{top}' y2='{top + height}' stroke='#888' stroke-dasharray='4'/>"
                   f"<text x='{across(x) + 4:.1f}' y='{top + 12 + 13 * (number % 4)}' fill='#555'>{escape(name)}</text>")
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in thinned(points))
        svg.append(f"<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='{line}'/>"
                   f"<text x='{left + number * 105}' y='{top + height + 34}' fill='{colour}'>{escape(name)}</text>")
    return "".join([*svg, "</svg>"])


def bars(title: str, values: dict[str, float], unit: str = "") -> str:
    """Horizontal bars, on a logarithmic scale when they differ much."""
    import math
    shown = {name: value for name, value in values.items() if value and value > 0}
    most, least = max(shown.values(), default=1), min(shown.values(), default=1)
    logarithmic = most / least > 30
    length = lambda value: (math.log10(value / least) + 0.3) / (math.log10(most / least) + 0.3) if logarithmic else value / most
    svg = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 900 {40 + 26 * len(shown)}' font-family='sans-serif' font-size='12'>",
           "<rect width='100%' height='100%' fill='white'/>",
           f"<text x='10' y='18' font-size='13'>{escape(title)}{' (logarithmic)' if logarithmic else ''}</text>"]
    for number, (name, value) in enumerate(shown.items()):
        y = 30 + 26 * number
        svg.append(f"<text x='230' y='{y + 15}' text-anchor='end'>{escape(name)}</text>"
                   f"<rect x='240' y='{y}' width='{520 * length(value):.1f}' height='20' fill='{COLOURS[number % len(COLOURS)]}'/>"
                   f"<text x='{246 + 520 * length(value):.1f}' y='{y + 15}'>{short(value)} {unit}</text>")
    return "".join([*svg, "</svg>"])
