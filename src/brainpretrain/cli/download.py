"""Commands of the stage download: from a host to files that are in place and listed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from brainpretrain import config, datasets
from brainpretrain.cli.arguments import DATASET, OPTIONS, OUT, ROOT, arg, command, folder
from brainpretrain.download import check as checks
from brainpretrain.download import listing
from brainpretrain.download.archives import markers
from brainpretrain.download.download import download as download_dataset
from brainpretrain.download.fetch import fetch as fetch_dataset
from brainpretrain.download.index import excluded_lines, scan, to_fetch, with_sizes
from brainpretrain.errors import UserError
from brainpretrain.files import write_json, write_tsv
from brainpretrain.words import count


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


@command(
    "check",
    arg("folder", type=Path, metavar="FOLDER", help="folder of volumes, or a CSV that lists them"),
    arg("--json", action="store_true", help="as JSON"),
)  # fmt: skip
def check(args: argparse.Namespace) -> None:
    """Prints format, subjects, sequences, labels, spacing, problems, and the YAML that makes the folder a data set of the config.

    The command recognises the data sets of datasets/, BIDS, nnU-Net's raw data, and a CSV with the columns subject, sequence and
    path.
    """
    facts = checks.check(args.folder)
    print(json.dumps(facts, indent=2) if args.json else checks.report(facts))
    if facts["problems"]:
        problem = f"{count(len(facts['problems']), 'problem')}, listed above"
        raise UserError(problem, where=args.folder, fix="correct them, then check again")


@command(
    "fetch",
    DATASET, ROOT, OPTIONS, OUT,
)  # fmt: skip
def fetch(args: argparse.Namespace) -> None:
    """Writes facts about the files: absolute folder, layout, number of volumes. Generates embedded data sets; converts NRRD."""
    described = datasets.describe(args.dataset, args.options)
    facts = fetch_dataset(described, args.root, **({} if args.dataset in datasets.TEMPLATES else args.options))
    write_json(args.out, facts | {"archives": markers(args.root)})
    print(f"{args.dataset}: {facts['volumes']} volumes in {facts['root']}")
    if facts["unexpected"]:
        print(f"files that the data set does not use ({facts['unexpected_files']}): {', '.join(facts['unexpected'])}")
    if facts["left_out"]:
        print(f"{facts['left_out']} volumes left out by the selection of series")
    if facts["dangling"]:
        print(to_fetch(facts["dangling"]))
    if facts["note"]:
        print(facts["note"])


@command("index", DATASET, ROOT, OPTIONS, OUT)
def index(args: argparse.Namespace) -> None:
    """Writes index.tsv: volume, subject, patient, session, sequence, subset, site, path, label, channel, source_bytes.

    Volumes that are left out by their names, if any, are listed in index.left_out.tsv next to it: path, reason.
    """
    files = scan(datasets.describe(args.dataset, args.options), args.root)
    rows = with_sizes(files.rows, args.root)
    left_out = args.out.with_name(f"{args.out.stem}.left_out.tsv")
    left_out.unlink(missing_ok=True)
    if files.excluded:
        write_tsv(left_out, [{"path": path, "reason": reason} for path, reason in sorted(files.excluded.items())])
    write_tsv(args.out, rows)
    for line in excluded_lines(files.by_reason()):
        print(line)
    if files.dangling:
        print(to_fetch(files.dangling))
    print(f"{args.dataset}: {len(rows)} volumes of {len({row['subject'] for row in rows})} subjects")


@command(
    "download",
    DATASET,
    ROOT,
    arg("--incoming", type=Path, metavar="DIR",
        help="folder of archives, placed by you or downloaded (default: incoming/<data set> next to the folder of raw files)"),
    arg("--mirror", type=folder, metavar="DIR", help="folder that is searched for archives before anything is downloaded"),
    arg("--out", type=Path, metavar="FILE", help="JSON file to write with facts about the files"),
)  # fmt: skip
def download(args: argparse.Namespace) -> None:
    """Continues an interrupted download. Files that are in place are checked and left as they are.

    Credentials are read from the environment: SYNAPSE_AUTH_TOKEN; XNAT_USER and XNAT_PASSWORD; HF_TOKEN; ATLAS_PASSWORD.
    """
    incoming = args.incoming or args.root.absolute().parent / "incoming" / args.dataset
    facts = download_dataset(datasets.load(args.dataset), args.root, incoming, args.mirror)
    if args.out:
        write_json(args.out, facts)
    print(f"{args.dataset}: {facts['volumes']} volumes in {facts['root']}")
    if facts["note"]:
        print(facts["note"])
