"""The command `plot-pretext`. It has its own file, since it imports torch."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from brainpretrain import backbones, pretext, scales
from brainpretrain.augment.boxes import crop_box
from brainpretrain.backbones.base import Encoder
from brainpretrain.cli.arguments import OUT, arg, command, entry
from brainpretrain.preprocess import nifti, volumes
from brainpretrain.pretext.about import PICTURES
from brainpretrain.report.figures.slices import corruptions
from brainpretrain.scales import UNIT, Rule

SHOWN = {
    "reconstruction": ("masked",),
    "corruption": ("masked",),
    "classes": ("masked", "target"),
    "overlaps": ("masked", "target"),
}
PLACES = ("input", "masked", "output", "target")


@command(
    "plot-pretext",
    arg("volumes", type=Path, nargs="+", metavar="NIFTI", help="volumes to show; some pretexts mix the first with the second"),
    arg("--pretext", type=entry("pretexts"), required=True, metavar="NAME",
        help="entry of config/pretext.yaml (or JSON, or @file.yaml)"),
    arg("--preprocess", type=entry("preprocess"), required=True, metavar="NAME",
        help="entry of config/preprocess.yaml (or JSON, or @file.yaml)"),
    arg("--patch-size", type=int, nargs=3, required=True, metavar="N", help="voxels"),
    arg("--seed", type=int, default=0, help="seed of the first draw"),
    arg("--draws", type=int, default=5, help="number of draws"),
    arg("--title", default="", help="title of the figure"),
    arg("--credit", default="", help="text below the figure: source and licence of the images"),
    OUT,
)  # fmt: skip
def plot_pretext(args: argparse.Namespace) -> None:
    """Draws the middle axial slice of a patch, and what a pretext makes of it in several draws; where the network names classes,
    also the right answer. No network is trained.
    """
    rule = Rule(args.pretext.get("intensity", UNIT))
    pairs = [_patch(path, args.preprocess, args.patch_size, rule) for path in args.volumes]
    patches, scale = torch.stack([patch for patch, _ in pairs]), pairs[0][1]
    method, picture = args.pretext["method"], pretext.about(args.pretext["method"]).picture
    options = args.pretext["options"]
    task = pretext.build(method, _encoder(method, options, args.patch_size), 1, **options).eval()
    middle = args.patch_size[2] // 2
    draws = []
    for seed in range(args.seed, args.seed + args.draws):
        found = task.reconstruct(patches, patches, [seed + 1000 * number for number in range(len(patches))])
        shown = {name: array[:1].float() for name, array in found.items()}
        shown |= {name: scales.undo(shown[name], scale) for name in ("input", "masked")}
        draws.append({name: array[0, 0, :, :, middle].numpy() for name, array in shown.items()})
    titles = dict(zip(PLACES, PICTURES[picture], strict=False))
    rows = [("patch", [scales.undo(patch, own)[0, :, :, middle].numpy() for patch, own in pairs])]
    rows += [(titles[name], [np.clip(draw[name], 0, 1) for draw in draws]) for name in SHOWN[picture]]
    corruptions(rows, args.out, args.title, args.credit)


def _encoder(method: str, options: dict, size: list[int]) -> Encoder:
    """A small network that the task takes; what a picture shows does not depend on it, but for the side of tokens."""
    if pretext.about(method).takes("unet"):
        return backbones.build("unet", 1, width=4, levels=3, convs_per_stage=1)
    blocks = {"image_size": size, "width": 12, "depth": 4, "num_heads": 2, "mlp_width": 12}
    if options.get("decoder") == "primus":
        return backbones.build("primus", 1, token=8, **blocks)
    return backbones.build("unetr", 1, **blocks)


def _patch(path: Path, recipe: dict, size: list[int], rule: Rule) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The patch in the middle of a preprocessed volume, as a network sees it (1 x y z), and the scale of its intensities."""
    image, _, _, facts = volumes.preprocess(nifti.read_volume(path, limits=nifti.Limits.of(recipe)), None, recipe)
    found = rule.of_moments([(facts["mean"], facts["std"])])
    scale = None if found is None else torch.from_numpy(found)
    start = [(n - p) // 2 for n, p in zip(image.shape, size, strict=True)]
    box, padding = crop_box(start, tuple((0, n) for n in size), image.shape)
    return scales.apply(torch.from_numpy(np.pad(image[box], padding).astype(np.float32))[None], scale), scale
