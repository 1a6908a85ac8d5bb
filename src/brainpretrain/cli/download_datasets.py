"""The command `datasets`. It has its own file, since it imports the config."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from brainpretrain import config, datasets
from brainpretrain.cli.arguments import arg, command
from brainpretrain.download import listing


@command(
    "datasets",
    arg("--config-folder", type=Path, default=Path("config"), metavar="DIR",
        help="config with the folders of raw files and with own data sets"),
    arg("--data-root", metavar="DIR", help="folder of the raw files, instead of the one in the config"),
    arg("--json", action="store_true", help="as JSON, with title, page, citation and problems of the files"),
    arg("--markdown", action="store_true", help="as the table of docs/download.md, without a look at any file"),
)  # fmt: skip
def list_datasets(args: argparse.Namespace) -> None:
    """Prints every module in datasets/ and every data set of the config.

    The columns of subjects and volumes count the complete release; BRAINS-45K counts the volumes that the data set contributes to
    that corpus. Whether files are in place is judged by their names; no file is opened. In a pipe the table is 200 columns wide,
    unless the variable COLUMNS is set.
    """
    if args.markdown:
        print(listing.markdown(datasets.names()), end="")
        return
    settings = config.load(args.config_folder, {"data_root": args.data_root, "data_roots": {}} if args.data_root else None)
    modules = {name: (name, {}) for name in datasets.names()}
    modules |= {name: (entry.module, entry.options) for name, entry in settings.datasets.items()}
    places = {name: (datasets.describe(*entry), Path(settings.data_root(name))) for name, entry in modules.items()}
    rows = listing.listing(places)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
    console.print(listing.table(rows, console.width))
