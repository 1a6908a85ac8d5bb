"""A small pretraining on one CPU core, end to end: this project, and AMAES' training step with AMAES' data set.

    make bench-pretraining

Same network, same optimiser, same volumes, same number of patches, each from its own files, AMAES' augmentation on both
sides, both in float32 or both in bfloat16. The ratio depends on the network: the larger it is, the
less the loading of samples matters. So there are two networks.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import harness
import script
from augmentation import inputs, store
from brainpretrain import config
from brainpretrain.augment.policy import Policy
from harness import NOT_MEASURED, ROOT, Party, Peer

PEERS = {"yucca": Peer("party_yucca.py", "yucca 1.1.7")}
AT_LEAST = 3  # for the first width
OURS = {"brainpretrain": [], "brainpretrain, execution: channels_last": ["channels_last"]}  # the goal is about the last
PARTS = ("all", "samples")
PRECISIONS = {"float32": False, "bfloat16": True}  # the paper's is the latter

Found = dict[str, list[dict[str, float]]]  # by column: per round the seconds per patch, by part


def measure(columns: Mapping[str, Callable[..., dict[str, float]]], rounds: int, steps: int, batch: int) -> Found:
    """Seconds per patch of each column and round; a round before them is not counted."""
    found: Found = {name: [] for name in columns}

    def work(name: str, number: int) -> list[float]:
        answer = columns[name](first=number * steps * batch, steps=steps, batch=batch)
        found[name].append({part: answer[part] / steps / batch for part in PARTS})
        return [found[name][-1]["all"]]

    harness.interleaved({name: partial(work, name) for name in columns}, rounds + 1)  # the first compiles, and reads files
    return {name: rows[1:] for name, rows in found.items()}


def medians(found: Found) -> dict[str, dict[str, float]]:
    """Seconds per patch of each column, by part."""
    return {name: {part: statistics.median(row[part] for row in rows) for part in PARTS} for name, rows in found.items()}


def ratio(found: Found, ours: str, peer: str) -> float | None:
    """Seconds of the peer over ours; None without the peer."""
    numbers = medians(found)
    return numbers[peer]["all"] / numbers[ours]["all"] if peer in numbers else None


def table(networks: Mapping[str, Mapping[str, Any]], peer: str) -> str:
    """Markdown: milliseconds per patch of each network and column, and the ratio."""
    rows = []
    for place, (which, network) in enumerate(networks.items()):
        numbers = medians(network["found"])
        for name in (*OURS, peer):
            label = f"AMAES' step, fed by {peer}" if name == peer else name
            if name not in numbers:
                rows.append([which, label, NOT_MEASURED, "", "", "", ""])
                continue
            whole, samples = (1e3 * numbers[name][part] for part in PARTS)
            times = ratio(network["found"], name, peer) if name != peer else None
            goal = f"at least {AT_LEAST}x" if name == [*OURS][-1] and not place else ""
            rows.append(
                [which, label, *(f"{n:.0f}" for n in (whole, samples, whole - samples)), f"{times:.2f}x" if times else "", goal]
            )
        rows.append([which, "floor: the operations of the network", f"{1e3 * network['floor_s']:.0f}", "", "", "", ""])
    return harness.table(["U-Net", "pretraining", "CPU ms per patch", "sample", "step", "ratio", "goal"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the table."""
    parser = script.parser(__doc__, "pretraining", rounds=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 4], help="channels of the finest level (U-Net B: 32)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="per round")
    args = parser.parse_args(argv)
    settings = config.load(ROOT / "config")
    recipe, policy = settings.pretexts["amaes"].model_dump(mode="json"), settings.augmentations["amaes"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        volumes, what = inputs(args.data, work, settings)
        given = {
            "table": str(work / "table.tsv"), "work": folder, "patch": args.patch, "recipe": recipe,
            "volumes": store(work, volumes, settings.preprocess["amaes"].model_dump(mode="json")),
            "policy": policy.model_dump(mode="json"), "crop": Policy(policy).crop_size([args.patch] * 3)[0],
        }  # fmt: skip
        parties, names = script.open_parties("party_pretraining.py", PEERS, given, args)
        ours, peer, name = parties[script.OURS], parties.get("yucca"), names["yucca"]
        rates = harness.rates(args.core, ("multiply", "multiply_bfloat16"))
        networks = {}
        for width, (precision, mixed) in itertools.product(args.widths, PRECISIONS.items()):
            options = {**settings.backbones["unet_b"].options, "width": width}
            facts, columns = begin(ours, peer, name, options, recipe, mixed)
            found = measure(columns, args.rounds, args.steps, args.batch)
            networks[f"width {width}, {precision}"] = {
                **facts,
                "floor_s": facts["operations"] / rates["multiply_bfloat16" if mixed else "multiply"],
                "found": found,
            }
        for party in parties.values():
            party.close()
    write(args, networks, name, what)


def begin(
    ours: Party, peer: Party | None, name: str, options: Mapping[str, int], recipe: Mapping[str, Any], mixed: bool
) -> tuple[dict[str, int], dict[str, Callable[..., dict[str, float]]]]:
    """Starts a training of a U-Net in every column: facts of the network, and the trainings."""
    facts, *_ = [ours("network", options=options, how=how, mixed=mixed) for how in OURS.values()]
    columns: dict[str, Any] = {column: partial(ours, "trained", how=how) for column, how in OURS.items()}
    if peer:
        optimizer = {key: value for key, value in recipe["optimizer"].items() if key != "name"} | {
            "lr": recipe["phases"][0]["lr"]
        }
        size = peer("network", width=options["width"], levels=options["levels"], optimizer=optimizer, mixed=mixed)
        assert size == facts["parameters"], f"the networks differ: {facts['parameters']} and {size} parameters"
        columns[name] = partial(peer, "trained")
    return facts, columns


def write(args: argparse.Namespace, networks: Mapping[str, Mapping[str, Any]], peer: str, what: str) -> None:
    """JSON, table and page."""
    widths = " ".join(map(str, args.widths))
    command = f"python bench/pretraining.py --widths {widths} --batch {args.batch} --steps {args.steps} --rounds {args.rounds}"
    facts = harness.facts() | {"command": command, "inputs": what}
    figures = [
        harness.figure("B11", f"{part}, {which}", who, "s", [row[part] for row in network["found"].get(who, [])])
        for which, network in networks.items()
        for who in (*OURS, peer)
        for part in PARTS
    ]
    figures += [harness.figure("B11", f"all, {which}", "floor", "s", [row["floor_s"]]) for which, row in networks.items()]
    first = next(iter(networks))
    value = ratio(networks[first]["found"], [*OURS][-1], peer)
    goals = [harness.goal("B11", f"pretraining, {first}", peer, value, at_least=AT_LEAST)]
    details = {which: {key: value for key, value in row.items() if key != "found"} for which, row in networks.items()}
    sizes = ", ".join(
        f"{which.split(',')[0]}: {network['parameters']:,} parameters, {network['operations'] / 1e9:.1f} GFLOP per patch"
        for which, network in list(networks.items())[:: len(PRECISIONS)]
    )
    line = f"Patches of {args.patch}^3 in batches of {args.batch}, {args.rounds} rounds of {args.steps} steps; {sizes}."
    script.finish(args, facts, [line, table(networks, peer)], figures, goals, details)


if __name__ == "__main__":
    main()
