"""Turns what the benchmarks measured into Markdown tables, and several sizes of a table into a plot.

python -m tests.benchmarks.results 1000.json 10000.json ... [--plot ratios.svg]
"""

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

_WIDTH, _HEIGHT, _MARGIN = 640, 360, 48
_COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#7d3c98", "#b9770e", "#555555")


def median(costs: list[dict[str, float]], of: str) -> float:
    """The median of one of the figures."""
    return statistics.median(cost[of] for cost in costs)


def table(postgresql: int, shape: str, found: dict[str, Any]) -> str:
    """A Markdown table of one shape."""
    lines = [
        f"PostgreSQL {postgresql}, {shape}, {found['rows']:,} rows",
        "",
        "| | CPU | wall | WAL |",
        "|---|---|---|---|",
    ]
    for name, costs in found["ratios"].items():
        cpu = sorted(cost["cpu"] for cost in costs)
        figures = f"{median(costs, 'cpu'):.2f} ({cpu[0]:.2f}-{cpu[-1]:.2f})"
        lines.append(f"| {name} | {figures} | {median(costs, 'wall'):.2f} | {median(costs, 'wal'):.2f} |")
    for version, size in found["bytes"].items():
        lines.append(f"| bytes of an image, to a row {version} | {size:.2f} | | |")
    return "\n".join(lines)


def plot(files: list[dict[str, Any]], shape: str) -> str:
    """An SVG: the ratio of the CPU over the number of rows, on a scale of powers of ten."""
    sizes = sorted({one["shapes"][shape]["rows"] for one in files})
    lines: dict[str, list[tuple[int, float]]] = {}
    for one in sorted(files, key=lambda one: one["shapes"][shape]["rows"]):
        for name, costs in one["shapes"][shape]["ratios"].items():
            lines.setdefault(name, []).append((one["shapes"][shape]["rows"], median(costs, "cpu")))
    top = max(ratio for line in lines.values() for _, ratio in line)
    span = max(math.log10(sizes[-1] / sizes[0]), 1e-9)

    def place(rows: int, ratio: float) -> str:
        x = _MARGIN + math.log10(rows / sizes[0]) / span * (_WIDTH - 2 * _MARGIN)
        return f"{x:.0f},{_HEIGHT - _MARGIN - ratio / top * (_HEIGHT - 2 * _MARGIN):.0f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11">'
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(place(*point) for point in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_MARGIN + 8}" y="{16 + 14 * number}" fill="{colour}">{name}</text>')
    for rows in sizes:
        x = place(rows, 0).partition(",")[0]
        parts.append(f'<text x="{x}" y="{_HEIGHT - _MARGIN + 16}" text-anchor="middle">{rows:,}</text>')
    for ratio in range(1, math.ceil(top) + 1):
        y = place(sizes[0], ratio).partition(",")[2]
        parts.append(f'<text x="{_MARGIN - 8}" y="{y}" text-anchor="end">{ratio}</text>')
    return "\n".join([*parts, "</svg>"])


def main() -> None:
    """Print the tables; draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="what bench --json wrote")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="an SVG of the first shape")
    options = parser.parse_args()
    files = [json.loads(path.read_text(encoding="utf-8")) for path in options.files]
    for one in files:
        for shape, found in one["shapes"].items():
            print(f"{table(one['postgresql'], shape, found)}\n")
    if options.plot:
        options.plot.write_text(plot(files, next(iter(files[0]["shapes"]))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
