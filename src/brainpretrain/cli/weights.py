"""Commands of the stage weights: encoders from elsewhere and for elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainpretrain.cli.arguments import OUT, arg, command, entry, mapping
from brainpretrain.evaluation import inference
from brainpretrain.files import atomic, read_json
from brainpretrain.weights import cards, importing
from brainpretrain.weights import store as weights

ENCODER = arg("--encoder", type=Path, required=True, metavar="DIR", help="folder of encoder.safetensors and encoder.json")


@command(
    "import",
    arg("file", type=Path, metavar="FILE", help="safetensors, or .pth, .pt, .ckpt with nothing but tensors and plain values"),
    arg("--backbone", type=entry("backbones"), metavar="NAME", help="entry of config/backbones.yaml (or JSON, or @file.yaml)"),
    arg("--preprocess", type=entry("preprocess"), metavar="NAME",
        help="how its volumes were prepared: entry of config/preprocess.yaml (or JSON, or @file.yaml)"),
    arg("--release", type=mapping, metavar="JSON", help="what is known of the file; without it, found in config/ by its name"),
    arg("--out", type=Path, required=True, metavar="DIR", help="folder for encoder.safetensors|json, import.tsv, card.md"),
)  # fmt: skip
def import_weights(args: argparse.Namespace) -> None:
    """Reads tensors only, and takes every tensor of the encoder or none. Nothing in the file is run.

    Known are this project's own files, the AMAES checkpoints and MONAI's SwinUNETR release. Wrappers such as `model.` and
    `_orig_mod.` are dropped from names; decoders are left and counted.
    """
    release = args.release or _release_of(args.file.name)
    facts = importing.import_encoder(args.file, args.out, args.backbone, args.preprocess, release)
    left = facts["source"]["left"]
    known = f", known as {release['release']} by its name" if release and not args.release else ""
    print(f"imported an encoder of {facts['encoder_parameters']:,} parameters, all of its tensors, from {args.file}{known}")
    for name, part in left.items():
        print(f"left in the file: {name}, {part['tensors']} tensors of {part['values']:,} values")
    if facts["preprocess"] is None:
        print("not known how its volumes were prepared: give --preprocess, or fine-tuning will refuse it")


def _release_of(file: str) -> dict[str, Any] | None:
    """The release in `config/` that has a file of this name, if there is a config here."""
    if not Path("config/weights.yaml").exists():
        return None
    from brainpretrain import config

    entries = config.load()
    named = [
        (name, backbone)
        for name, release in entries.weights.items()
        for backbone, found in release.files.items()
        if found.file == file
    ]
    return entries.release(*named[0]) if named else None


@command(
    "features",
    arg("input", type=Path, metavar="FILE", help="NIfTI, or an array (x y z), (c x y z) or (b c x y z) as .npy"),
    ENCODER,
    arg("--raw", action="store_true", help="take the values as they are; a NIfTI is else prepared as the encoder's corpus was"),
    arg("--threads", type=int, default=1, help="CPU threads"),
    OUT,
)  # fmt: skip
def features(args: argparse.Namespace) -> None:
    """Writes an .npz with one array (b c x y z) per level, level0 the finest.

    Sides that are no multiple of the encoder's divisor are padded with 0 at the far side; a side of n voxels gives
    ceil(n / stride). The whole volume goes through the network in one piece.
    """
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds the inputs of convolutions to 10 bits
    encoder, facts = weights.encoder(args.encoder)
    image = inference.read_image(args.input, facts, args.raw)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    maps = inference.features(encoder.to(device), image.to(device))
    with atomic(args.out) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **{f"level{level}": found.cpu().numpy() for level, found in enumerate(maps)})
    print("  ".join(f"level{level} {'x'.join(map(str, found.shape))}" for level, found in enumerate(maps)))


@command(
    "export",
    ENCODER,
    arg("--format", choices=["nnunet", "card"], required=True, help="a checkpoint for nnU-Net, or Markdown"),
    arg("--in-channels", type=int, metavar="N", help="input channels that nnU-Net will have; a stem of one channel is repeated"),
    arg("--seed", type=int, default=0, help="draws the decoder that nnU-Net wants in the file"),
    OUT,
)  # fmt: skip
def export(args: argparse.Namespace) -> None:
    """nnunet: FILE is for `nnUNetv2_train -pretrained_weights`; beside it FILE.json, to merge into nnU-Net's plans, and FILE.md.

    The model card says what encoder.json and run.json say, and calls the rest unknown.
    """
    path, run = args.out, args.encoder / "run.json"
    if args.format == "nnunet":
        from brainpretrain.weights import exporting

        exporting.export_nnunet(args.encoder, args.out, args.in_channels, args.seed)
        path = args.out.with_suffix(".md")
        print(f"{args.out}: encoder and a fresh decoder; {args.out.with_suffix('.json')}: the configuration for nnU-Net's plans")
    with atomic(path) as temporary:
        text = cards.card(read_json(args.encoder / "encoder.json"), read_json(run) if run.exists() else None)
        temporary.write_text(text, encoding="utf-8")
