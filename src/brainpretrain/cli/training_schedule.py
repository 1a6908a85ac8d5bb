"""The command `plot-schedule`. It has its own file, since it draws without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain import config
from brainpretrain.cli.arguments import OUT, arg, command
from brainpretrain.report.figures import learning_rates


@command(
    "plot-schedule",
    arg("recipes", nargs="*", metavar="RECIPE", help="entries of config/finetune.yaml (default: all)"),
    arg("--pretexts", nargs="+", default=[], metavar="NAME", help="entries of config/pretext.yaml to draw too"),
    arg("--config", type=Path, default=Path("config"), metavar="DIR", help="the config folder"),
    arg("--study", help="study whose recipes are available too"), OUT,
)  # fmt: skip
def plot_schedule(args: argparse.Namespace) -> None:
    """A panel per recipe: warm-up, decay, and the parts of the network that are frozen."""
    loaded = config.load(args.config, {"study": args.study} if args.study else {})
    names = args.recipes or ([] if args.pretexts else list(loaded.finetune))
    entries = [(name, loaded.get("finetune", name, "command line")) for name in names]
    entries += [(f"pretext {name}", loaded.get("pretexts", name, "command line")) for name in args.pretexts]
    learning_rates.recipes({name: entry.phases for name, entry in entries}, args.out)
