"""The command `params`. It has its own file, since it imports torch."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from brainpretrain import config
from brainpretrain.cli.arguments import arg, command
from brainpretrain.training import counts


@command(
    "params",
    arg("backbones", nargs="*", metavar="BACKBONE", help="entries of the catalogue or the study (all, if none is named)"),
    arg("--config", type=Path, default=Path("config"), metavar="DIR", help="the config folder"),
    arg("--study", help="a study whose backbones are counted too"),
    arg("--patch-size", type=int, nargs=3, metavar=("X", "Y", "Z"), help="voxels (that of the first pretext, if not given)"),
    arg("--json", action="store_true", help="rows as JSON"),
)  # fmt: skip
def params(args: argparse.Namespace) -> None:
    """Encoder alone, network of a pretext, network for so many classes; GFLOP of one patch forward, a multiply-add is two.

    On one input channel. `expected` is what the entry in backbones.yaml says of the published network.
    """
    loaded = config.load(args.config, {"study": args.study} if args.study else {})
    patch_size = args.patch_size or next(iter(loaded.pretexts.values())).patch_size
    rows = [row for name in args.backbones or loaded.backbones for row in counts.rows(loaded, name, patch_size)]
    print(json.dumps(rows, indent=1) if args.json else counts.text(rows, patch_size))
