"""Rows as horizontal bars on a logarithmic scale, with what is asked for as a mark. Plain SVG."""

import math
from html import escape
from pathlib import Path

from eightfold.core.files import write_text

WIDTH, LEFT, STEP, TOP = 900, 290, 22, 58
LEAST, MOST = 0.01, 1000.0


def _x(value: float) -> float:
    share = (math.log10(min(max(value, LEAST), MOST)) - math.log10(LEAST)) / math.log10(MOST / LEAST)
    return LEFT + share * (WIDTH - LEFT - 90)


def write(path: Path, results: dict) -> None:
    """A bar per measured row: green where it holds, amber where not, grey where nothing is asked."""
    rows = [row for row in results["rows"] if "ratio" in row and row["ratio"] > 0]
    height = TOP + STEP * len(rows) + 20
    about = results["about"]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="18" font-size="14">{escape(about["processor"])}, {about["threads"]} threads: ratios (log scale)</text>',
        '<text x="10" y="36" fill="#555">green: what is asked (red mark) holds; amber: it does not; grey: nothing is asked; '
        "black line: least and greatest</text>",
    ]
    for power in range(-2, 4):
        x = _x(10**power)
        lines.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - 16}" stroke="#ddd"/>')
        lines.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle" fill="#777">{10.0**power:g}</text>')
    for number, row in enumerate(rows):
        y, base, end = TOP + STEP * number, _x(1), _x(row["ratio"])
        color = {None: "#8a94a6", True: "#3a8f5d", False: "#d98a29"}[row.get("holds")]
        lines.append(f'<text x="{LEFT - 8}" y="{y + 10}" text-anchor="end">{escape(row["name"])}</text>')
        lines.append(
            f'<rect x="{min(base, end):.1f}" y="{y}" width="{max(1.0, abs(end - base)):.1f}" height="13" fill="{color}"/>'
        )
        spread = (
            f'<line x1="{_x(row["low"]):.1f}" y1="{y + 6.5}" x2="{_x(row["high"]):.1f}" y2="{y + 6.5}" stroke="#222"/>'
        )
        lines.append(spread)
        furthest = max(base, end, _x(row["high"]))
        if row["wanted"]:
            x = _x(float(row["wanted"].split()[1]))
            furthest = max(furthest, x)
            lines.append(
                f'<line x1="{x:.1f}" y1="{y - 3}" x2="{x:.1f}" y2="{y + 16}" stroke="#b3261e" stroke-width="2"/>'
            )
        lines.append(f'<text x="{furthest + 6:.1f}" y="{y + 10}">{row["ratio"]:.3g}</text>')
    write_text(path, "\n".join([*lines, "</svg>"]) + "\n")
