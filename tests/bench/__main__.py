"""`scripts/bench [--only NAME] [--json]`: measures the product's figures and says which are met. A few minutes."""

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import uvloop

from tests.bench.callbacks import callbacks
from tests.bench.fanout import fanout
from tests.bench.figures import Figure, governed, memory, pages, single, throughput
from tests.bench.overview import overview
from tests.bench.webhooks import webhooks

MEASURES: dict[str, Callable[[], Awaitable[list[Figure]]]] = {
    "throughput": throughput,
    "governed": governed,
    "single": single,
    "pages": pages,
    "overview": overview,
    "fanout": fanout,
    "callbacks": callbacks,
    "webhooks": webhooks,
    "memory": memory,
}


async def measure(names: list[str]) -> list[Figure]:
    """The figures of these measures, one after the other: they would disturb each other."""
    figures: list[Figure] = []
    for name in names:
        sys.stderr.write(f"measuring {name} ...\n")
        figures += await MEASURES[name]()
    return figures


def table(figures: list[Figure]) -> str:
    """For people."""
    rows = [("figure", "measured", "required", "")]
    for each in figures:
        required = f"{'at least' if each.at_least else 'at most'} {each.required:g} {each.unit}".rstrip()
        met = "PASS" if each.met else "MISS"
        rows.append((each.name, f"{each.measured:.4g} {each.unit}".rstrip(), required, met))
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    details = [f"  {each.name}: {each.detail}" for each in figures]
    return "\n".join([*(line.rstrip() for line in lines), "", *details])


def main() -> int:
    """0 if every figure is met, else 1."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--only", choices=MEASURES, action="append", help="measure this alone; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    figures = uvloop.run(measure(arguments.only or list(MEASURES)))
    as_json = {"figures": [{**asdict(each), "met": each.met} for each in figures]}
    sys.stdout.write((json.dumps(as_json) if arguments.json else table(figures)) + "\n")
    return 0 if all(each.met for each in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
