"""Commands of the stage download: files of a data set are downloaded, checked and listed."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain import datasets
from brainpretrain.cli.arguments import DATASET, OPTIONS, OUT, ROOT, arg, command, folder
from brainpretrain.download.archives import markers
from brainpretrain.download.download import download as download_dataset
from brainpretrain.download.fetch import fetch as fetch_dataset
from brainpretrain.download.index import excluded_lines, scan, to_fetch, with_sizes
from brainpretrain.files import write_json, write_tsv


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
