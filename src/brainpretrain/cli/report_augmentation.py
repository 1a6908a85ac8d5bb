"""The command `plot-augmentation`. It has its own file, since it imports torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.augment.config import PolicyConfig
from brainpretrain.augment.pictures import pictures
from brainpretrain.cli.arguments import OUT, arg, command, entry
from brainpretrain.preprocess import nifti, sessions
from brainpretrain.report.figures.slices import augmentations


@command(
    "plot-augmentation",
    arg("volume", type=Path, metavar="NIFTI", help="volume to show"),
    arg("--policy", type=entry("augmentations"), required=True, metavar="NAME",
        help="entry of config/augmentations.yaml (or JSON, or @file.yaml)"),
    arg("--preprocess", type=entry("preprocess"), required=True, metavar="NAME",
        help="entry of config/preprocess.yaml (or JSON, or @file.yaml)"),
    arg("--patch-size", type=int, nargs=3, required=True, metavar="N", help="voxels"),
    arg("--seed", type=int, default=0, help="seed of the sample"),
    arg("--title", default="", help="title of the figure"),
    arg("--credit", default="", help="text below the figure: source and licence of the image"),
    OUT,
)  # fmt: skip
def plot_augmentation(args: argparse.Namespace) -> None:
    """Applies each transform alone, with probability 1: the middle axial slice before and after, and the difference."""
    recipe = args.preprocess
    limits = nifti.Limits.of(recipe)
    image = sessions.prepare([(nifti.read_volume(args.volume, limits=limits), None)], recipe)[0].image
    slices = pictures(PolicyConfig.model_validate(args.policy), image, args.patch_size, args.seed)
    augmentations(slices, args.out, args.title, args.credit)
