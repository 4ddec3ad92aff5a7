"""Draws a dashboard's panels as one SVG, from what Prometheus answers. Not Grafana, but its queries and its data."""

import math
from html import escape

COLOURS = ["#3274d9", "#e0752d", "#37872d", "#a352cc", "#c4162a", "#b08800", "#1f9e9e", "#737373", "#c2528b"]
STATES = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#e02f44"}
WIDTH, HEIGHT, GAP, COLUMNS = 320, 190, 12, 3
LEFT, TOP, PLOT = 62, 34, 92  # of the plot in its panel
ACROSS = WIDTH - LEFT - 14
LETTER = 6.3  # what a letter of a legend takes, in a wide font
LEGENDS = 3  # lines of them that have room

# Of each unit of Grafana's: from which value on, by what it is divided, and what stands behind it.
SCALES = {
    "s": [(2 * 86400, 86400, " d"), (7200, 3600, " h"), (120, 60, " min"), (1, 1, " s"), (1e-3, 1e-3, " ms"), (0, 1e-6, " µs")],
    "bytes": [(1 << 30, 1 << 30, " GiB"), (1 << 20, 1 << 20, " MiB"), (1 << 10, 1 << 10, " KiB"), (0, 1, " B")],
    "ops": [(1e6, 1e6, " M/s"), (1e3, 1e3, " K/s"), (0, 1, " /s")],
    "percentunit": [(0, 0.01, " %")],
    "short": [(1e6, 1e6, " M"), (1e3, 1e3, " K"), (0, 1, "")],
}


def axis(values: list[float], unit: str) -> tuple[float, list[tuple[float, str]]]:
    """The top of a plot, and its ticks with what is written at them: round numbers of one unit."""
    most = max(values, default=0)
    if not most:
        most = 1e-3 if unit == "s" else 1
    size, mark = next((size, mark) for start, size, mark in SCALES[unit] if most >= start)
    most /= size
    step = 10.0 ** math.floor(math.log10(most / 2))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if most / (step * factor) <= 4)
    if size == 1 and unit in ("short", "bytes") and all(value == int(value) for value in values):
        step = max(1, math.ceil(step))  # there is no half a socket
    count = math.ceil(most / step - 1e-9)
    return count * step * size, [(tick * step * size, f"{tick * step:.10g}{mark}") for tick in range(count + 1)]


def clock(seconds: float) -> str:
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"


def named(pattern: str, labels: dict) -> str:
    for name, value in labels.items():
        pattern = pattern.replace("{{" + name + "}}", value)
    return pattern


def legends(entries: list[tuple[str, str]], y: float) -> str:
    """Colours and what they stand for, in as many lines as have room; of more than that, how many there are."""
    out, x, line = [], 10.0, 0
    for index, (name, colour) in enumerate(entries):
        wide, rest = 24 + LETTER * len(name), len(entries) - index
        if x > 10 and x + wide > WIDTH and line < LEGENDS - 1:
            x, line = 10.0, line + 1
        if line == LEGENDS - 1 and x + wide + (rest > 1) * LETTER * len(f"and {rest} more") > WIDTH:
            out.append(f'<text x="{x:.0f}" y="{y + 13 * line:.0f}" class="s">and {rest} more</text>')
            break
        out.append(f'<rect x="{x:.0f}" y="{y + 13 * line - 6:.0f}" width="10" height="4" rx="1" fill="{colour}"/>'
                   f'<text x="{x + 14:.0f}" y="{y + 13 * line:.0f}" class="s">{escape(name)}</text>')
        x += wide
    return "".join(out)


def turns(points: list) -> list:
    """The points without those in the midst of a level stretch."""
    inner = (one for before, one, after in zip(points, points[1:], points[2:]) if not before[1] == one[1] == after[1])
    return [points[0], *inner, *points[1:][-1:]]


def lines_of(unit: str, found: list, where) -> str:
    found.sort(key=lambda line: -max(value for _, value in line[1]))
    top, ticks = axis([value for _, points in found for _, value in points], unit)
    out, bottom, colours = [], TOP + PLOT, {}
    for value, text in ticks:
        y = bottom - PLOT * value / top
        out.append(f'<path d="M{LEFT} {y:.1f}h{ACROSS}" stroke="#eceef0"/><text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end" class="s">{text}</text>')
    if not found:
        out.append(f'<text x="{LEFT + ACROSS / 2:.0f}" y="{TOP + PLOT / 2 + 3:.0f}" text-anchor="middle" class="s">nothing of the kind happened</text>')
    for name, points in reversed(found):  # the largest on top
        colour = colours[name] = COLOURS[[one for one, _ in found].index(name) % len(COLOURS)]
        path = " ".join(f"{where(at):.0f},{bottom - PLOT * value / top:.0f}" for at, value in turns(points))
        if len(found) <= 3:  # more than that make mud
            first, last = where(points[0][0]), where(points[-1][0])
            out.append(f'<path d="M{first:.0f},{bottom}L{path} {last:.0f},{bottom}Z" fill="{colour}" opacity=".08"/>')
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>')
    return "".join(out) + legends([(name, colours[name]) for name, _ in found], bottom + 32)


def states_of(mapped: dict, found: list, where) -> str:
    """A band for each series, in the colour of what its value means at each time."""
    out, bottom, high = [], TOP + PLOT, PLOT / max(1, len(found))
    for index, (name, points) in enumerate(sorted(found)):
        y, band = TOP + high * index + high * 0.15, high * 0.7
        out.append(f'<text x="{LEFT - 5}" y="{y + band / 2 + 3.5:.1f}" text-anchor="end" class="s">{escape(name)}</text>')
        begun = 0
        for at in range(1, len(points) + 1):
            if at == len(points) or points[at][1] != points[begun][1]:
                until = points[min(at, len(points) - 1)][0]
                colour = STATES[mapped[f"{points[begun][1]:.0f}"]["color"]]
                out.append(f'<polyline points="{where(points[begun][0]):.0f},{y + band / 2:.1f} {where(until):.0f},{y + band / 2:.1f}" '
                           f'stroke="{colour}" stroke-width="{band:.1f}"/>')
                begun = at
    return "".join(out) + legends([(one["text"], STATES[one["color"]]) for one in mapped.values()], bottom + 32)


def panel(one: dict, series, start: float, end: float) -> str:
    found = []
    for target in one["targets"]:
        for answer in series(target["expr"]):
            points = [(float(at), float(value)) for at, value in answer["values"] if math.isfinite(float(value))]
            if points:
                found.append((named(target["legendFormat"], answer["metric"]), points))

    def where(at: float) -> float:
        return LEFT + ACROSS * (at - start) / (end - start)

    out = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff" stroke="#d8d9da" rx="3"/>',
           f'<text x="10" y="20" font-weight="600">{escape(one["title"])}</text>']
    apart = next(step for step in (2, 5, 10, 20, 30, 60, 300, 600, 3600) if (end - start) / step <= 6)
    for tick in range(int((end - start) / apart) + 1):
        x, anchor = where(start + tick * apart), "middle" if tick else "start"
        out.append(f'<path d="M{x:.1f} {TOP}v{PLOT}" stroke="#f3f4f5"/><text x="{x:.1f}" y="{TOP + PLOT + 14}" text-anchor="{anchor}" class="s">{clock(tick * apart)}</text>')
    defaults = one["fieldConfig"]["defaults"]
    if one["type"] == "state-timeline":
        out.append(states_of(defaults["mappings"][0]["options"], found, where))
    else:
        out.append(lines_of(defaults["unit"], found, where))
    return "".join(out)


def draw(dashboard: dict, series, start: float, end: float) -> str:
    out, place, at = [], 34, 0
    for one in dashboard["panels"]:
        if one["type"] == "row":
            place += (HEIGHT + GAP) * (at > 0) + 24
            at = 0
            out.append(f'<text x="{GAP}" y="{place - 8}" font-weight="600" fill="#555">{escape(one["title"])}</text>')
            continue
        if at == COLUMNS:
            place, at = place + HEIGHT + GAP, 0
        out.append(f'<g transform="translate({GAP + at * (WIDTH + GAP)},{place})">{panel(one, series, start, end)}</g>')
        at += 1
    wide, high = GAP + COLUMNS * (WIDTH + GAP), place + HEIGHT + GAP
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" font-family="Verdana,DejaVu Sans,sans-serif" font-size="12" fill="#222">'
            f'<style>.s{{font-size:10px;fill:#555}}</style><rect width="100%" height="100%" fill="#f7f8fa"/>'
            f'<text x="{GAP}" y="26" font-size="16" font-weight="600">{escape(dashboard["title"])}</text>{"".join(out)}</svg>\n')
