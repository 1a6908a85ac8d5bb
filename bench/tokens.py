"""ViT-MAE on one CPU core: an encoder that sees visible tokens only, against one that sees all tokens.

    make bench-tokens

Forward and backward pass of the encoder, and whole steps with the light decoder, which reads all tokens in both. Both ways take
turns in one process, each round with new masks.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import harness
import script
from harness import Party

RATIO, AT_LEAST = 0.85, 4.0
WAYS = {"all tokens": 0.0, f"{RATIO:.0%} hidden": RATIO}
PARTS = {"encoder": "encoder forward and backward", "step": "whole step"}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints the table."""
    parser = script.parser(__doc__, "tokens", rounds=2)
    parser.add_argument("--patch", type=int, default=160)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--width", type=int, default=768, help="of the encoder; ViT-B's")
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--light", type=int, nargs=3, default=[512, 4, 16], help="width, depth and heads of the decoder")
    args = parser.parse_args(argv)
    encoder = {"width": args.width, "depth": args.depth, "num_heads": args.heads, "mlp_width": 4 * args.width}
    encoder |= {"class_token": True, "qkv_bias": True, "norm_eps": 1e-6, "positions": "separable"}
    light = dict(zip(("width", "depth", "num_heads"), args.light, strict=True))
    given = {"patch": args.patch, "batch": args.batch, "encoder": encoder, "light": light}
    party = Party(script.HERE / "party_tokens.py", given, sys.executable, args.core)
    columns = {(part, way): partial(_one, party, part, ratio) for part in PARTS for way, ratio in WAYS.items()}
    found = harness.interleaved(columns, args.rounds + 1)
    party.close()
    write(args, {key: [values[0] for values in rounds[1:]] for key, rounds in found.items()})


def _one(party: Any, part: str, ratio: float, number: int) -> list[float]:
    return [party(part, ratio=ratio, seed=1000 * number)]


def write(args: Any, found: dict[tuple[str, str], list[float]]) -> None:
    """JSON, table and page."""
    everything, hidden = WAYS
    rows, goals = [], []
    for part, name in PARTS.items():
        times = [statistics.median(found[part, way]) for way in WAYS]
        gain = times[0] / times[1]
        rows.append([name, *(f"{time:.2f}" for time in times), f"{gain:.2f}x", f"at least {AT_LEAST:g}x"])
        goals.append(harness.goal("C6", f"ViT-MAE, {name}, {hidden}", everything, gain, at_least=AT_LEAST))
    figures = [
        harness.figure("C6", f"ViT-MAE, {PARTS[part]}, {way}", "brainpretrain", "s", values)
        for (part, way), values in found.items()
    ]
    line = (
        f"Patches of {args.patch}^3 in batches of {args.batch}, tokens of 16^3; encoder of width {args.width}, {args.depth}"
        f" blocks; decoder of width {args.light[0]}, {args.light[1]} blocks, over all tokens in both columns."
    )
    table = harness.table(["CPU s", *WAYS, "gain", "goal"], rows)
    facts = harness.facts() | {"command": f"python bench/tokens.py --rounds {args.rounds}"}
    script.finish(args, facts, [line, table], figures, goals)


if __name__ == "__main__":
    main()
