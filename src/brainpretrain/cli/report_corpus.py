"""Commands of the stage report about data: parts of a corpus, rejected volumes, shared subjects, licences."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain import datasets
from brainpretrain.cli.arguments import (
    CORPUS,
    DATA,
    NAMED_VOLUMES,
    OUT,
    OUT_FILES,
    VOLUMES,
    arg,
    command,
    mapping,
    pairs,
)
from brainpretrain.cohorts.copies import read_pictures
from brainpretrain.cohorts.filters import FILTERED
from brainpretrain.files import read_json, read_tsv, write_tsv
from brainpretrain.preprocess.stored import read_stored, read_stored_of
from brainpretrain.report import printers
from brainpretrain.report.composition import composition_grid, count_sources
from brainpretrain.report.figures import alignments
from brainpretrain.report.figures import composition as composition_figure
from brainpretrain.report.licences import licence_table
from brainpretrain.report.pages import audits as audit_pages
from brainpretrain.report.pages import html, rejected


@command(
    "composition",
    CORPUS,
    arg("--name", required=True, metavar="CORPUS", help="its name"),
    NAMED_VOLUMES, DATA,
    arg("--modules", type=mapping, required=True, metavar="JSON", help="data set -> module, and options of own data"),
    OUT_FILES,
)  # fmt: skip
def composition(args: argparse.Namespace) -> None:
    """Counts subjects, sessions, volumes, sequences, spacing, intensity and rejected volumes of each source: Table 1 of AMAES."""
    modules = {name: datasets.describe(entry["module"], entry["options"]) for name, entry in args.modules.items()}
    counts = count_sources(read_tsv(args.corpus), read_stored_of(args.volumes, args.data), modules)
    grid = composition_grid(counts, args.name)
    for path in args.out:
        printers.write(path, counts, grid)
    print(printers.text(grid))


@command(
    "licences",
    arg("--uses", type=mapping, required=True, metavar="JSON", help="data set -> module, options, and what it is used for"),
    arg("--releases", type=mapping, default={}, metavar="JSON", help="release of weights -> licence, page, citation"),
    OUT,
    arg("--page", type=Path, required=True, metavar="FILE", help="HTML page to write"),
)  # fmt: skip
def licences(args: argparse.Namespace) -> None:
    """Writes a row per data set and release. Needs no data."""
    uses = [(name, datasets.describe(use["module"], use["options"]), use["for"]) for name, use in args.uses.items()]
    rows = licence_table(uses, [{"name": name, **release} for name, release in args.releases.items()])
    write_tsv(args.out, rows)
    html.write(args.page, audit_pages.licences_page(rows))


@command("plot-composition", CORPUS, NAMED_VOLUMES, DATA, OUT)
def plot_composition(args: argparse.Namespace) -> None:
    """Volumes by source and sequence, spacing, intensity, rejected volumes."""
    composition_figure.draw(read_tsv(args.corpus), read_stored_of(args.volumes, args.data), args.out)


@command(
    "plot-alignments",
    VOLUMES,
    arg("--atlas", default="", help="atlas of the preprocess recipe, if it has one"), OUT,
)  # fmt: skip
def plot_alignments(args: argparse.Namespace) -> None:
    """The four volumes that cover least of what they were aligned to: beside it, and in a checkerboard with it."""
    alignments.draw(*read_stored(args.volumes), args.out, args.atlas or None)


@command(
    "page-rejected",
    NAMED_VOLUMES, DATA,
    arg("--corpora", type=Path, nargs="*", default=[], metavar="TSV", help="corpus.tsv of the corpora that have filters"), OUT,
)  # fmt: skip
def page_rejected(args: argparse.Namespace) -> None:
    """An HTML page: the reason for each rejected volume, counts of accepted ones, and what the filters of corpora leave out."""
    left_out = {path.parent.name: read_tsv(path.with_name(FILTERED)) for path in args.corpora}
    html.write(args.out, rejected.page(read_stored_of(args.volumes, args.data), left_out))


@command(
    "page-overlap",
    pairs("--audits", "CORPUS=TSV", help="overlap.tsv of each corpus, next to its pairs.tsv and pairs.npz"),
    pairs("--protocols", "CORPUS=PROTOCOL", help="the protocol of each corpus"),
    pairs("--splits", "TASK=JSON", help="output of `split` for each task"),
    arg("--near", type=float, required=True, metavar="R", help="as given to `overlap`"), OUT,
)  # fmt: skip
def page_overlap(args: argparse.Namespace) -> None:
    """An HTML page: for each corpus, task and cohort the shared subjects, and the pairs of equal images."""
    protocols = dict(args.protocols)
    audits = {
        corpus: (protocols[corpus], read_tsv(path), read_tsv(Path(path).with_name("pairs.tsv"))) for corpus, path in args.audits
    }
    splits = {task: read_json(path) for task, path in args.splits}
    pictures = {corpus: read_pictures(Path(path).with_name("pairs.npz")) for corpus, path in args.audits}
    html.write(args.out, audit_pages.overlap_page(audits, args.near, splits, pictures))
