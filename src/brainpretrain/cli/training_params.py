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
    arg("backbones", nargs="*", metavar="BACKBONE", help="entries of the catalogue or the study (default: all)"),
    arg("--config", type=Path, default=Path("config"), metavar="DIR", help="the config folder"),
    arg("--study", help="study whose backbones are counted too"),
    arg("--patch-size", type=int, nargs=3, metavar=("X", "Y", "Z"), help="voxels (default: patch size of the first pretext)"),
    arg("--json", action="store_true", help="rows as JSON"),
)  # fmt: skip
def params(args: argparse.Namespace) -> None:
    """Counts the encoder, the network of each pretext and the segmentation network for several numbers of classes. GFLOP are of
    one forward pass of a patch; a multiply-add counts as two operations.

    Networks have one input channel. `expected` is the published number of parameters in backbones.yaml.
    """
    loaded = config.load(args.config, {"study": args.study} if args.study else {})
    patch_size = args.patch_size or next(iter(loaded.pretexts.values())).patch_size
    rows = [row for name in args.backbones or loaded.backbones for row in counts.rows(loaded, name, patch_size)]
    print(json.dumps(rows, indent=1) if args.json else counts.text(rows, patch_size))
