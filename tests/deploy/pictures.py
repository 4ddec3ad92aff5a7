"""Draws a dashboard's panels as one SVG, from what Prometheus answers. Not Grafana, but its queries and its data."""

import math
from html import escape

COLOURS = ["#3274d9", "#e0752d", "#37872d", "#a352cc", "#c4162a", "#b08800", "#1f9e9e", "#737373"]
WIDTH, HEIGHT, PLOT, GAP, COLUMNS = 320, 172, 92, 12, 3


def units(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    scale = next(((size, mark) for size, mark in ((1 << 20, "Mi"), (1 << 10, "Ki")) if unit == "bytes" and value >= size), (1, ""))
    tail = {"bytes": "B", "ops": "/s"}.get(unit, "")
    return f"{value / scale[0]:.3g} {scale[1]}{tail}".strip()


def legend(pattern: str, labels: dict) -> str:
    for name, value in labels.items():
        pattern = pattern.replace("{{" + name + "}}", value)
    return pattern


def panel(one: dict, series, start: float, end: float) -> str:
    lines = []
    for target in one["targets"]:
        for found in series(target["expr"]):
            points = [(float(at), float(value)) for at, value in found["values"] if math.isfinite(float(value))]
            if points:
                lines.append((legend(target["legendFormat"], found["metric"]), points))
    lines.sort(key=lambda line: -max(value for _, value in line[1]))
    unit = one["fieldConfig"]["defaults"]["unit"]
    top = max((value for _, points in lines for _, value in points), default=0) or 1
    out = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff" stroke="#d8d9da" rx="3"/>',
           f'<text x="10" y="18" font-weight="600">{escape(one["title"])}</text>']
    for part in (0, 0.5, 1):
        y = 30 + PLOT * (1 - part)
        out.append(f'<path d="M62 {y:.0f}H{WIDTH - 10}" stroke="#eee"/><text x="58" y="{y + 3:.0f}" text-anchor="end" class="s">{units(top * part, unit)}</text>')
    if not lines:
        out.append(f'<text x="{WIDTH / 2 + 26:.0f}" y="80" text-anchor="middle" class="s">nothing of the kind happened</text>')
    x, y = 10, 30 + PLOT + 18
    for index, (name, points) in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{62 + (WIDTH - 72) * (at - start) / (end - start):.0f},{30 + PLOT * (1 - value / top):.0f}" for at, value in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        wide = 16 + 5.6 * len(name)
        if x + wide > WIDTH - 8:
            x, y = 10, y + 13
        if y <= HEIGHT - 4:
            out.append(f'<rect x="{x:.0f}" y="{y - 6}" width="8" height="3" fill="{colour}"/><text x="{x + 11:.0f}" y="{y}" class="s">{escape(name)}</text>')
        x += wide
    return "".join(out)


def draw(dashboard: dict, series, start: float, end: float) -> str:
    out, place, at = [], 34, 0
    for one in dashboard["panels"]:
        if one["type"] == "row":
            place += (HEIGHT + GAP) * (at > 0) + 20
            at = 0
            out.append(f'<text x="{GAP}" y="{place - 6}" font-weight="600" fill="#555">{escape(one["title"])}</text>')
            continue
        if at == COLUMNS:
            place, at = place + HEIGHT + GAP, 0
        out.append(f'<g transform="translate({GAP + at * (WIDTH + GAP)},{place})">{panel(one, series, start, end)}</g>')
        at += 1
    wide, high = GAP + COLUMNS * (WIDTH + GAP), place + HEIGHT + GAP
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" font-family="sans-serif" font-size="12" fill="#222">'
            f'<style>.s{{font-size:10px;fill:#555}}</style><rect width="100%" height="100%" fill="#f7f8fa"/>'
            f'<text x="{GAP}" y="24" font-size="16" font-weight="600">{escape(dashboard["title"])}</text>{"".join(out)}</svg>\n')
