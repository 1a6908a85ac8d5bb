"""Commands of the stage report that make tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from brainpretrain import config, datasets
from brainpretrain.cli.arguments import (
    DATA,
    INDEX,
    NAMED_VOLUMES,
    OUT,
    SCORES,
    SPEC,
    arg,
    command,
    joined,
    mapping,
    stored_by_dataset,
)
from brainpretrain.files import read_json, read_tsv, write_tsv
from brainpretrain.plan import tables as plan
from brainpretrain.report import layouts, printers, results
from brainpretrain.report.composition import composition_grid, count_sources
from brainpretrain.report.licences import licence_table
from brainpretrain.report.pages import audits as audit_pages
from brainpretrain.report.pages import html
from brainpretrain.report.sites import by_site, overlap_by_site
from brainpretrain.report.write import write_table

OVERLAPS = arg(
    "--overlaps", nargs="*", default=[], metavar="CORPUS=TSV", help="audits (overlap.tsv) of the corpora behind the table"
)


TABLES_OUT = arg("--out", type=Path, required=True, metavar="DIR", help="folder to write into")


def _audits(pairs: list[str]) -> dict[str, Any]:
    return {corpus: read_tsv(path) for corpus, path in (pair.split("=", 1) for pair in pairs)}


@command("table", SCORES, SPEC, OVERLAPS, TABLES_OUT)
def table(args: argparse.Namespace) -> None:
    """Writes <name>, <name>_labels, <name>_metrics and <name>_ranks, each as .tsv|md|tex|html|txt, and a plot of the ranks.

    A cell whose runs are missing says so. docs/statistics.md says how each number comes about.
    """
    print(printers.text(write_table(args.out, joined(args.scores), args.spec, _audits(args.overlaps))))


@command(
    "tables",
    arg("--study", required=True, metavar="NAME", help="its name in config/studies/, or a path"),
    SCORES,
    arg("--config", type=Path, default=Path("config"), metavar="DIR", help="the config folder"),
    OVERLAPS, TABLES_OUT,
)  # fmt: skip
def tables(args: argparse.Namespace) -> None:
    """Writes what the workflow writes into results/<study>/tables, byte for byte, in seconds.

    Audits of transductive corpora are taken from --overlaps, else from the folder corpora/ beside the scores.
    """
    made = plan.make(config.load(args.config, {"study": args.study}))
    beside = [f"{path.parent.name}={path}" for path in sorted(args.scores[0].parent.glob("corpora/*/overlap.tsv"))]
    lacking = {name: None for name in made.corpora if made.config.corpora[name].protocol == "amaes"}
    scores, overlaps = joined(args.scores), lacking | _audits(args.overlaps or beside)
    for name, spec in made.tables.items():
        write_table(args.out, scores, spec, overlaps)
        print(f"{args.out / name}.html")


@command(
    "table-sites",
    SCORES, SPEC, OVERLAPS, INDEX,
    arg("--task-index", type=Path, required=True, metavar="TSV", help="index of the data set that the task trains on"),
    arg("--subjects", type=Path, required=True, metavar="JSON", help="what `split` wrote of the task"),
    arg("--out", type=Path, nargs="+", required=True, metavar="FILE", help="files to write; the suffix says in which form"),
)  # fmt: skip
def table_sites(args: argparse.Namespace) -> None:
    """--index is that of the cohort's data set. The spec has three columns: the cohort, <cohort>_seen, <cohort>_unseen."""
    pool, trained = set(read_json(args.subjects)["pool"]), read_tsv(args.task_index)
    sites = set(trained.loc[trained["subject"].isin(pool), "site"])
    overlaps = {corpus: overlap_by_site(audit) for corpus, audit in _audits(args.overlaps).items()}
    cells = results.build(by_site(joined(args.scores), read_tsv(args.index), sites), args.spec, overlaps)
    grid = layouts.results_grid(cells, args.spec)
    for path in args.out:
        printers.write(path, cells, grid)
    print(printers.text(grid))


@command(
    "composition",
    arg("--corpus", type=Path, required=True, metavar="TSV", help="corpus.tsv"),
    arg("--name", required=True, metavar="CORPUS", help="its name"),
    NAMED_VOLUMES,
    DATA, arg("--modules", type=mapping, required=True, metavar="JSON", help="data set -> module, and options of own data"),
    arg("--out", type=Path, nargs="+", required=True, metavar="FILE", help="files to write; the suffix says in which form"),
)  # fmt: skip
def composition(args: argparse.Namespace) -> None:
    """Subjects, sessions, volumes, sequences, spacing, intensity and rejected volumes of each source: Table 1 of AMAES."""
    modules = {name: datasets.describe(known["module"], known["options"]) for name, known in args.modules.items()}
    found = count_sources(read_tsv(args.corpus), stored_by_dataset(args.volumes, args.data), modules)
    grid = composition_grid(found, args.name)
    for path in args.out:
        printers.write(path, found, grid)
    print(printers.text(grid))


@command(
    "licences",
    arg("--uses", type=mapping, required=True, metavar="JSON", help="data set -> module, options, and what it is used for"),
    arg("--releases", type=mapping, default={}, metavar="JSON", help="release of weights -> licence, page, citation"),
    OUT, arg("--page", type=Path, required=True, metavar="FILE", help="HTML page to write"),
)  # fmt: skip
def licences(args: argparse.Namespace) -> None:
    """Writes a row per data set and release. Needs no data."""
    used = [(name, datasets.describe(use["module"], use["options"]), use["for"]) for name, use in args.uses.items()]
    found = licence_table(used, [{"name": name, **release} for name, release in args.releases.items()])
    write_tsv(args.out, found)
    html.write(args.page, audit_pages.licences_page(found))
