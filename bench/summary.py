"""One table of all benchmarks: each goal, its result, and whether it was met. `make bench` ends with it.

python bench/summary.py --results results/bench --page docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from harness import ROOT

# every figure with a goal: its benchmark, and the goal in words, which is shown if no JSON has the figure
WANTED = {
    "B1": ("augmentation", "augmented 128^3 sample, cubic, against yucca 1.1.7: at least 14x"),
    "B2": ("augmentation", "the same, trilinear: at least 25x"),
    "B3": ("augmentation", "the same, against nnU-Net 2.8's default: at least 1.2x cubic, 2x trilinear"),
    "B4": ("preprocessing", "preprocessing, against yucca / nnU-Net / nnssl settings: at least 5x / 6x / 12x"),
    "B5": ("preprocessing", "bytes per stored volume, against AMAES / nnssl: at least 4.5x / 1.8x"),
    "B6": ("preprocessing", "random patch read, against nnssl's blosc2: at least 1.8x"),
    "B7": ("evaluation", "Dice, HD95 and NSD, against yucca's way / MONAI: at least 5x / 3.5x"),
    "B8": ("scheduling", "44,756 volumes: dry run at most 3 s, run of empty jobs at most 10 s"),
    "B9": ("preprocessing", "peak memory of preprocessing, against yucca: not above, on every volume"),
    "B10": ("gpu", "shares of a GPU step, patches per second: see docs/results/gpu.md"),
    "B11": ("pretraining", "small pretraining end to end, against AMAES' step and data set: at least 3x"),
    "B12": ("windows", "sliding window: at most 1.1x the network alone"),
    "C5": ("sparse", "S3D, packed against masked blocks: encoder 2.5x / 4x / 8x; step against a dense MAE 2x"),
    "C6": ("tokens", "ViT-MAE, 85 % hidden against all tokens: 4x"),
}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The JSON of every benchmark in a folder, by name; files of another form are skipped."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"name", "figures", "goals"} <= content.keys():
            found[content["name"]] = content
    return found


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row per goal that was measured, and one for each figure without a measurement."""
    rows = []
    for identity in sorted(WANTED, key=lambda identity: (identity[0], _number(identity))):
        goals = [(result, goal) for result in results.values() for goal in result["goals"] if goal["id"] == identity]
        rows += [_row(result, goal) for result, goal in goals]
        if not goals:
            rows.append([identity, WANTED[identity][1], "", "", "", "not measured", ""])
    return harness.table(["id", "figure", "against", "measured", "goal", "is it met", "run"], rows)


def _row(result: Mapping[str, Any], goal: Mapping[str, Any]) -> list[str]:
    bound = (
        f"at least {goal['at_least']:g}"
        if goal["at_least"] is not None
        else ("" if goal["at_most"] is None else f"at most {goal['at_most']:g}")
    )
    value = "" if goal["value"] is None else f"{goal['value']:.3g}"
    met = {True: "met", False: "missed", None: "not measured"}[goal["met"]]
    run = f"{result['date']}, {result['commit']}, load {result['load']}"
    return [goal["id"], goal["what"], goal["against"], value, bound, met, run]


def _number(identity: str) -> int:
    return int(re.sub(r"\D", "", identity))


def floors(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: the floor of a figure and this project's median, which is the first of the same figure."""
    rows = []
    for result in results.values():
        measured = [figure for figure in result["figures"] if figure["median"] is not None]
        for floor in measured:
            same = [figure for figure in measured if (figure["id"], figure["what"]) == (floor["id"], floor["what"])]
            if floor["party"] == "floor" and same[0] is not floor:
                ours = same[0]["median"]
                cells = [f"{1e3 * value:.3g} ms" for value in (floor["median"], ours)]
                rows.append([floor["id"], f"{floor['what']}, {same[0]['party']}", *cells, f"{ours / floor['median']:.3g}x"])
    return harness.table(["id", "figure", "floor", "measured", "measured over floor"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results/bench", metavar="DIR", help="folder of the JSONs")
    parser.add_argument("--page", type=Path, help="page with a section 'summary' to write the table to")
    args = parser.parse_args(argv)
    results = read(args.results)
    machines = sorted({result["machine"].rpartition(",")[0] for result in results.values()})  # without how many cores were used
    text = "\n\n".join([f"Machine: {'; '.join(machines) or 'none'}.", table(results), floors(results)])
    print(text)
    if args.page:
        harness.write_section(args.page, "summary", text)


if __name__ == "__main__":
    main()
