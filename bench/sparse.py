"""Sparse masked autoencoders on one CPU core: packed visible blocks against whole maps that are multiplied by the mask.

    make bench-sparse

Forward and backward pass of an encoder, and whole steps of S3D against a step of a dense masked autoencoder of the same
network. All ways take turns in one process, each round with new masks.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import harness
import script
from harness import Party

# glibc gives buffers of this size back to the system after every operation, which costs as much as the operation
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000", "MALLOC_TOP_PAD_": "500000000"}
RATIOS = (0.6, 0.75, 0.9)
AT_LEAST = {0.6: 2.5, 0.75: 4.0, 0.9: 8.0}  # masked over packed
STEP_RATIO, STEP_AT_LEAST = 0.75, 2.0  # a dense step over one of S3D
MASKED, PACKED, DENSE, DENSE_STEP = "masked dense", "packed", "dense encoder, no mask", "dense MAE"
HOW = {MASKED: "masked", PACKED: "packed", DENSE: "dense", DENSE_STEP: "dense"}

Found = dict[str, list[list[float]]]


def encoders(party: Any, rounds: int, sides: Sequence[int]) -> Found:
    """Seconds (forward; forward and backward) of each round, by `<way>, <side>, <ratio>`; the first round is not counted."""
    columns = {
        f"{way}, blocks of {side}, {ratio}": partial(party, "encoder", how=HOW[way], ratio=ratio, side=side)
        for side, ratio, way in itertools.product(sides, RATIOS, (MASKED, PACKED))
    }
    columns[DENSE] = partial(party, "encoder", how="dense", ratio=0.0, side=sides[0])
    return _rounds(columns, rounds)


def steps(party: Any, rounds: int) -> Found:
    """Seconds of each round of whole steps."""
    columns: dict[str, Any] = {DENSE_STEP: partial(party, "step", how="dense", ratio=STEP_RATIO)}
    columns |= {f"S3D, {ratio}": partial(party, "step", how="packed", ratio=ratio) for ratio in RATIOS}
    columns[f"S3D masked dense, {STEP_RATIO}"] = partial(party, "step", how="masked", ratio=STEP_RATIO)
    return _rounds(columns, rounds)


def _rounds(columns: Mapping[str, Any], rounds: int) -> Found:
    found: Found = {name: [] for name in columns}

    def work(name: str, number: int) -> list[float]:
        answer = columns[name](seed=1000 * number)
        found[name].append(answer if isinstance(answer, list) else [answer])
        return [found[name][-1][-1]]

    harness.interleaved({name: partial(work, name) for name in columns}, rounds + 1)
    return {name: values[1:] for name, values in found.items()}


def median(found: Found, name: str, place: int = -1) -> float:
    """Median of the rounds."""
    return statistics.median(values[place] for values in found[name])


def encoder_table(found: Found, sides: Sequence[int], shares: Mapping[tuple[int, float], float]) -> str:
    """Markdown: seconds and ratios of the encoder."""
    rows = [[DENSE, "", "", f"{median(found, DENSE, 0):.2f} / {median(found, DENSE):.2f}", "", "", ""]]
    for side, ratio in itertools.product(sides, RATIOS):
        for way in (MASKED, PACKED):
            name = f"{way}, blocks of {side}, {ratio}"
            times = [
                f"{side}^3",
                f"{ratio} ({shares[side, ratio]:.2f})",
                f"{median(found, name, 0):.2f} / {median(found, name):.2f}",
            ]
            gains = ["", "", ""]
            if way == PACKED:
                masked = median(found, f"{MASKED}, blocks of {side}, {ratio}")
                gains = [
                    f"{masked / median(found, name):.2f}x",
                    f"{AT_LEAST[ratio]:g}x",
                    f"{median(found, DENSE) / median(found, name):.2f}x",
                ]
            rows.append([way, *times, *gains])
    head = [
        "encoder",
        "blocks",
        "hidden (visible)",
        "CPU s, forward / and backward",
        "against masked",
        "at least",
        "against dense",
    ]
    return harness.table(head, rows)


def step_table(found: Found) -> str:
    """Markdown: seconds and ratios of whole steps."""
    dense = median(found, DENSE_STEP)
    rows = []
    for name in found:
        goal = f"at least {STEP_AT_LEAST:g}x" if name == f"S3D, {STEP_RATIO}" else ""
        rows.append([name, f"{median(found, name):.2f}", f"{dense / median(found, name):.2f}x", goal])
    return harness.table(["step", "CPU s", f"against {DENSE_STEP}", "goal"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the tables."""
    parser = script.parser(__doc__, "sparse", rounds=5)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--block", type=int, default=32, help="the smaller blocks have half its side")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128, 160, 160], help="half of ResEnc-L's")
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 2, 2, 2, 2, 2], help="of the encoder that is timed alone")
    parser.add_argument("--step-blocks", type=int, nargs="+", default=[1, 3, 4, 6, 6, 6], help="of whole steps; ResEnc-L's")
    args = parser.parse_args(argv)
    given = {
        "patch": args.patch, "block": args.block, "batch": args.batch,
        "encoder": {"widths": args.widths, "blocks": args.blocks}, "step": {"widths": args.widths, "blocks": args.step_blocks},
    }  # fmt: skip
    os.environ |= ALLOCATOR  # the party's
    party = Party(script.HERE / "party_sparse.py", given, sys.executable, args.core)
    sides = [args.block, args.block // 2]
    shares = {(side, ratio): party("visible", ratio=ratio, side=side) for side, ratio in itertools.product(sides, RATIOS)}
    alone, whole = encoders(party, args.rounds, sides), steps(party, args.rounds)
    party.close()
    write(args, alone, whole, sides, shares)


def write(args: Any, alone: Found, whole: Found, sides: Sequence[int], shares: Mapping[tuple[int, float], float]) -> None:
    """JSON, tables and page."""
    facts = harness.facts() | {"command": f"python bench/sparse.py --rounds {args.rounds}"}
    figures = [
        harness.figure("C5", f"{part}, {name}", "brainpretrain", "s", [values[place] for values in rounds])
        for name, rounds in alone.items()
        for place, part in enumerate(("encoder forward", "encoder forward and backward"))
    ]
    figures += [
        harness.figure("C5", f"step, {name}", "brainpretrain", "s", [values[-1] for values in rounds])
        for name, rounds in whole.items()
    ]
    goals = []
    for side, ratio in itertools.product(sides, RATIOS):
        value = median(alone, f"{MASKED}, blocks of {side}, {ratio}") / median(alone, f"{PACKED}, blocks of {side}, {ratio}")
        goals.append(
            harness.goal("C5", f"S3D encoder, blocks of {side}^3, {ratio} hidden", MASKED, value, at_least=AT_LEAST[ratio])
        )
    value = median(whole, DENSE_STEP) / median(whole, f"S3D, {STEP_RATIO}")
    goals.append(harness.goal("C5", f"whole S3D step, {STEP_RATIO} hidden", DENSE_STEP, value, at_least=STEP_AT_LEAST))
    allocator = " ".join(f"{name}={value}" for name, value in ALLOCATOR.items())
    line = (
        f"Patches of {args.patch}^3 in batches of {args.batch}, ResEnc of widths {args.widths}; blocks {args.blocks} in the first"
        f" table, {args.step_blocks} in the second. Environment: {allocator}."
    )
    script.finish(args, facts, [line, encoder_table(alone, sides, shares), step_table(whole)], figures, goals)


if __name__ == "__main__":
    main()
