"""The command `export`. It has its own file, since the workflow writes a model card for every pretraining, without torch."""

from __future__ import annotations

import argparse

from brainpretrain.cli.arguments import ENCODER, OUT, arg, command
from brainpretrain.weights import cards


@command(
    "export",
    ENCODER,
    arg("--format", choices=["nnunet", "card"], required=True, help="a checkpoint for nnU-Net, or Markdown"),
    arg("--in-channels", type=int, metavar="N", help="input channels in nnU-Net; a stem of one channel is repeated"),
    arg("--seed", type=int, default=0, help="seed of the decoder, which nnU-Net expects in the file"),
    OUT,
)  # fmt: skip
def export(args: argparse.Namespace) -> None:
    """nnunet: FILE is for `nnUNetv2_train -pretrained_weights`; FILE.json, to be merged into nnU-Net's plans, and FILE.md are
    written next to it.

    The model card repeats encoder.json and run.json; whatever they lack is called unknown.
    """
    path = args.out
    if args.format == "nnunet":
        from brainpretrain.weights import exporting  # imports torch

        exporting.export_nnunet(args.encoder, args.out, args.in_channels, args.seed)
        path = args.out.with_suffix(".md")
        print(f"{args.out}: encoder and a fresh decoder; {args.out.with_suffix('.json')}: the configuration for nnU-Net's plans")
    cards.write_card(args.encoder, path)
