"""Commands of the stage weights: encoders from elsewhere and for elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from brainpretrain import config
from brainpretrain.cli.arguments import ENCODER, OUT, arg, command, entry, mapping
from brainpretrain.evaluation import inference
from brainpretrain.weights import importing


@command(
    "import",
    arg("file", type=Path, metavar="FILE", help="safetensors, or .pth, .pt, .ckpt with nothing but tensors and plain values"),
    arg("--backbone", type=entry("backbones"), metavar="NAME",
        help="entry of config/backbones.yaml (or JSON, or @file.yaml; default: the network that the names of tensors show)"),
    arg("--preprocess", type=entry("preprocess"), metavar="NAME",
        help="how its volumes were prepared: entry of config/preprocess.yaml (or JSON, or @file.yaml)"),
    arg("--intensity", choices=("unit", "zscore"),
        help="what its network saw: intensities from 0 to 1, or z-scores (default: of the release or the JSON, else unit)"),
    arg("--release", type=mapping, metavar="JSON", help="facts about the file (default: found in config/ by its name)"),
    arg("--part", default="", metavar="PREFIX", help="tensors to import, where the file holds several networks of one layout"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for encoder.safetensors|json, import.tsv, card.md"),
)  # fmt: skip
def import_weights(args: argparse.Namespace) -> None:
    """Reads tensors only, and imports all tensors of the encoder or none. No code in the file is run.

    The command recognises this project's own files, those of AMAES, nnssl (OpenMind), asparagus (FOMO300K), nnU-Net and
    BrainSegFounder, and MONAI's SwinUNETR release. Wrappers such as `model.` are removed from names; decoders are
    not imported, but counted. An adaptation plan of nnssl in the file or beside it is held against the file and its entry.
    """
    release = args.release or _release_of(args.file)
    facts = importing.import_encoder(args.file, args.out, args.backbone, args.preprocess, release, args.intensity, args.part)
    origin = f", known as {release['release']} by its name" if release and not args.release else ""
    print(f"imported an encoder of {facts['encoder_parameters']:,} parameters, all of its tensors, from {args.file}{origin}")
    for name, part in facts["source"]["left"].items():
        print(f"left in the file: {name}, {part['tensors']} tensors of {part['values']:,} values")
    if copies := facts["source"]["copies"]:
        print(f"copies in the file: {copies} tensors have the values of imported ones under other names")
    if stale := facts["source"]["stale"]:
        print(f"untrained in the file: {stale} tensors are initial values of imported ones; import.tsv lists them as stale")
    if facts["preprocess"] is None:
        print("not known how its volumes were prepared: give --preprocess, or fine-tuning will refuse it")


def _release_of(file: Path) -> dict | None:
    """The release in `config/` that has a file of this name (and folder), if there is a config in the current folder."""
    return config.load().release_of_file(file) if Path("config/weights.yaml").exists() else None


@command(
    "features",
    arg("input", type=Path, metavar="FILE", help="NIfTI, or an array (x y z), (c x y z) or (b c x y z) as .npy"),
    ENCODER,
    arg("--raw", action="store_true", help="use the values unchanged; otherwise a NIfTI is prepared as the encoder's corpus was"),
    arg("--threads", type=int, default=1, help="CPU threads"),
    OUT,
)  # fmt: skip
def features(args: argparse.Namespace) -> None:
    """Writes an .npz with one array (b c x y z) per level, level0 the finest.

    Axes whose length is no multiple of the encoder's divisor are padded with 0 at their end; an axis of n voxels gives
    ceil(n / stride) values. The network is applied to the whole volume at once.
    """
    torch.set_num_threads(args.threads)
    shapes = inference.write_features(args.encoder, args.input, args.raw, args.out)
    print("  ".join(f"level{level} {'x'.join(map(str, shape))}" for level, shape in enumerate(shapes)))
