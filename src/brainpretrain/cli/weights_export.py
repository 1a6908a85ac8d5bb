"""The command `export`. It has its own file, since the workflow writes a model card for every pretraining, without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import ENCODER, arg, command
from brainpretrain.weights import cards


@command(
    "export",
    ENCODER,
    arg("--format", choices=["nnunet", "nnssl", "hub", "card"], required=True,
        help="a checkpoint for nnU-Net; a folder in nnssl's layout; a folder for a hub; or Markdown"),
    arg("--in-channels", type=int, metavar="N", help="input channels in nnU-Net; a stem of one channel is repeated"),
    arg("--seed", type=int, default=0, help="seed of the decoder, which nnU-Net expects in the file"),
    arg("--out", type=Path, required=True, metavar="PATH", help="file to write; of nnssl and hub, the folder"),
)  # fmt: skip
def export(args: argparse.Namespace) -> None:
    """nnunet: FILE is for `nnUNetv2_train -pretrained_weights`; FILE.json, to be merged into nnU-Net's plans, and FILE.md are
    written next to it.
    nnssl: the folder has checkpoint_final.pth and adaptation_plan.json, for nnU-Net's `nnUNetv2_train_pretrained`.
    hub: the folder has encoder.safetensors, encoder.json and README.md, and can be uploaded as it is. Terms that stand in the way
    of passing the encoder on are printed.

    The model card repeats encoder.json and run.json; whatever they lack is called unknown.
    """
    path = args.out
    if args.format == "hub":
        from brainpretrain.weights import hub

        for line in hub.export_hub(args.encoder, args.out):
            print(f"before you share it: {line}")
        return
    if args.format == "nnssl":
        from brainpretrain.weights import exporting  # imports torch

        exporting.export_nnssl(args.encoder, args.out, args.seed)
        path = args.out / "README.md"
        print(f"{args.out}: checkpoint_final.pth and adaptation_plan.json, for nnUNetv2_train_pretrained")
    if args.format == "nnunet":
        from brainpretrain.weights import exporting  # imports torch

        exporting.export_nnunet(args.encoder, args.out, args.in_channels, args.seed)
        path = args.out.with_suffix(".md")
        print(f"{args.out}: encoder and a fresh decoder; {args.out.with_suffix('.json')}: the configuration for nnU-Net's plans")
    cards.write_card(args.encoder, path)
