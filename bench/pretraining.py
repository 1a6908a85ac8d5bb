"""A small pretraining on one CPU core, end to end: this project beside AMAES' training step fed by AMAES' data set.

    make bench-pretraining

Same network, same optimiser, same volumes, same number of patches, both from their own files; AMAES' augmentation on both
sides. The ratio depends on the network: the larger it is, the less its feeding matters.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from augmentation import inputs, store
from brainpretrain import config
from brainpretrain.augment.policy import Policy
from harness import NOT_MEASURED, ROOT, Missing, Party

HERE = Path(__file__).parent
AT_LEAST = 3
COLUMNS = {"float32": "32-true", "bfloat16": "bf16-mixed"}  # ours; the goal is about the first
PEER = "peer"


def measure(ours: Party, peer: Party | None, rounds: int, steps: int, batch: int) -> dict[str, list[dict[str, float]]]:
    """Per column and round the seconds per patch: of all, and of making the samples."""

    def column(party: Party, options: Mapping[str, Any]) -> Any:
        def work(number: int) -> list[float]:
            answer = party("trained", first=number * steps * batch, steps=steps, batch=batch, **options)
            found[names[id(work)]].append({key: answer[key] / steps / batch for key in ("all", "samples")})
            return [answer["all"] / steps / batch]

        return work

    columns = {name: column(ours, {"precision": precision}) for name, precision in COLUMNS.items()}
    if peer:
        columns[PEER] = column(peer, {})
    names, found = {id(work): name for name, work in columns.items()}, {name: [] for name in columns}
    for work in columns.values():
        work(0)  # compiles, and reads files into memory
    found = {name: [] for name in columns}
    harness.interleaved(columns, rounds)
    return found


def medians(found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Seconds per patch of each column."""
    return {
        name: {key: statistics.median(row[key] for row in rows) for key in ("all", "samples")} for name, rows in found.items()
    }


def table(found: Mapping[str, Sequence[Mapping[str, float]]], peer: str, floor_s: float) -> str:
    """Markdown: milliseconds per patch of each column, and the ratio."""
    rows, numbers = [], medians(found)
    for name in (*COLUMNS, PEER):
        label = f"AMAES' step, fed by {peer}" if name == PEER else f"brainpretrain, {name}"
        if name not in numbers:
            rows.append([label, NOT_MEASURED, "", "", "", ""])
            continue
        row = numbers[name]
        ratio = f"{numbers[PEER]['all'] / row['all']:.2f}x" if PEER in numbers and name != PEER else ""
        goal = f"at least {AT_LEAST}x" if name == "float32" else ""
        step = row["all"] - row["samples"]
        rows.append([label, *(f"{1e3 * value:.0f}" for value in (row["all"], row["samples"], step)), ratio, goal])
    rows.append(["floor: operations of the network in float32", f"{1e3 * floor_s:.0f}", "", "", "", ""])
    return harness.table(["pretraining", "CPU ms per patch", "sample", "step", "ratio", "goal"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=HERE / ".venv/bin/python", help="interpreter that has the peer")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--width", type=int, default=4, help="channels of the finest of five levels (U-Net B: 32)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--json", type=Path, default=ROOT / "results/bench/pretraining.json")
    parser.add_argument("--page", type=Path, help="page with a section 'pretraining' to write the table to")
    args = parser.parse_args(argv)
    settings = config.load(ROOT / "config")
    recipe = settings.pretexts["amaes"].model_dump(mode="json")
    policy = settings.augmentations["amaes"]
    options = {**settings.backbones["unet_b"].options, "width": args.width}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        volumes, what = inputs(work, settings)
        paths = store(work, volumes, settings.preprocess["amaes"].model_dump(mode="json"))
        given = {
            "table": str(work / "table.tsv"), "folder": folder, "patch": args.patch, "volumes": paths, "out": str(work / "peer.npy"),
            "crop": Policy(policy).crop_size([args.patch] * 3)[0], "recipe": recipe, "policy": policy.model_dump(mode="json"),
            "backbone": {"architecture": "unet", "options": options},
        }  # fmt: skip
        ours, peer, name = Party(HERE / "party_pretraining.py", given, core=args.core), None, "yucca 1.1.7"
        try:
            peer = Party(HERE / "party_yucca.py", given, python=args.peers, core=args.core)
            name = peer.name
        except Missing as reason:
            print(f"no {name}: {reason}", file=sys.stderr)
        sizes = {ours("network", precision=precision) for precision in COLUMNS.values()}
        if peer:
            sizes.add(peer("network", width=args.width, levels=options["levels"], optimizer=adamw(recipe)))
        assert len(sizes) == 1, f"the networks differ: {sizes} parameters"
        operations = ours("operations")
        found = measure(ours, peer, args.rounds, args.steps, args.batch)
        rate = Party(HERE / "party_floors.py", {}, core=args.core)("multiply")
    write(args, found, name, {"parameters": sizes.pop(), "operations": operations, "floor_s": operations / rate, "inputs": what})


def adamw(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's optimiser as torch's AdamW takes it."""
    return {key: value for key, value in recipe["optimizer"].items() if key != "name"} | {"lr": recipe["phases"][0]["lr"]}


def write(args: argparse.Namespace, found: Mapping[str, Any], peer: str, details: Mapping[str, Any]) -> None:
    """JSON, table and page."""
    command = f"python bench/pretraining.py --width {args.width} --batch {args.batch} --steps {args.steps} --rounds {args.rounds}"
    facts, numbers = harness.facts() | {"command": command}, medians(found)
    ratio = numbers[PEER]["all"] / numbers["float32"]["all"] if PEER in numbers else None
    figures = [
        harness.figure("B11", f"seconds per patch, {key}", who, "s", [row[key] for row in found.get(name, [])])
        for name, who in (*((name, f"brainpretrain, {name}") for name in COLUMNS), (PEER, peer))
        for key in ("all", "samples")
    ]
    wanted = [harness.goal("B11", "pretraining, seconds per patch", peer, ratio, at_least=AT_LEAST)]
    harness.write_results(args.json, facts, figures, wanted, details)
    size = f"U-Net of width {args.width}, {details['parameters']:,} parameters, {details['operations'] / 1e9:.0f} GFLOP per patch"
    line = f"{size}; patches of {args.patch}^3, {args.rounds} rounds of {args.steps} steps of {args.batch}; {details['inputs']}."
    text = "\n\n".join((harness.said(facts), line, table(found, peer, details["floor_s"])))
    print(text)
    if args.page:
        harness.write_section(args.page, "pretraining", text)


if __name__ == "__main__":
    main()
