"""The command `encoders`. It has its own file, since it imports the config."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from brainpretrain import config
from brainpretrain.cli.arguments import arg, command, folder
from brainpretrain.download import encoders
from brainpretrain.report.licences import release_forbids


@command(
    "encoders",
    arg("--get", metavar="NAME", help="put the files of an entry in place: NAME, or NAME/BACKBONE for one of its files"),
    arg("--mirror", type=folder, metavar="DIR", help="folder that is searched before anything is downloaded"),
    arg("--config-folder", type=Path, default=Path("config"), metavar="DIR", help="config with the entries"),
    arg("--json", action="store_true", help="as JSON, with page, citation and repository"),
    arg("--markdown", action="store_true", help="as the table of docs/weights.md, without a look at any file"),
)  # fmt: skip
def list_encoders(args: argparse.Namespace) -> None:
    """Prints every published encoder of config/weights.yaml: network, licence and what it forbids, corpus, and whether its
    file is at hand.

    Files are expected in <data_root>/weights. --get looks into the mirror first, and continues an interrupted download. The
    variable HF_TOKEN, if it is set, is sent to Hugging Face.
    """
    settings = config.load(args.config_folder)
    root = Path(settings.data_root("weights"))
    if args.get:
        _get(settings, args.get, root, args.mirror)
        return
    releases = {name: release.model_dump(mode="json") for name, release in settings.weights.items()}
    rows = encoders.rows(releases, root, {name: release_forbids(release) for name, release in releases.items()})
    if args.markdown:
        print(encoders.markdown(rows), end="")
    elif args.json:
        print(json.dumps(rows, indent=2))
    else:
        _show(rows, root)


def _get(settings: config.Config, name: str, root: Path, mirror: Path | None) -> None:
    entry, _, backbone = name.partition("/")
    release = settings.get("weights", entry, "--get")
    chosen = [backbone] if backbone else list(release.files)
    facts = [settings.release(entry, one) for one in chosen]
    terms = release_forbids(facts[0])
    print(f"{entry}: licence {release.licence or 'not known'}{f'; it forbids: {terms}' if terms else ''} ({release.page})")
    for file in facts:
        for line in encoders.get(file, root, mirror):
            print(line, flush=True)


def _show(rows: list[dict], root: Path) -> None:
    table = Table(box=SIMPLE_HEAD, header_style="")
    for title in ("encoder", "network", "at hand", "licence", "it forbids", "pretrained on"):
        table.add_column(title, overflow="fold")
    before = None
    for row in rows:
        corpus = row["corpus"].partition(":")[0]
        name, *shared = [row["encoder"], row["licence"], row["forbids"], corpus] if row["encoder"] != before else [""] * 4
        table.add_row(name, row["network"], "yes" if row["at_hand"] else "no", *shared)
        before = row["encoder"]
    Console(width=None if Console().is_terminal else 200).print(table)
    if not any(row["at_hand"] for row in rows):
        print(f"none is in {root}; brainpretrain encoders --get NAME downloads one")
