"""Commands of the stage report that make tables of results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from brainpretrain import config
from brainpretrain.cli.arguments import (
    OUT_FILES,
    SCORES,
    SPEC,
    arg,
    command,
    pairs,
)
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv, read_tsvs
from brainpretrain.plan import tables as plans
from brainpretrain.report import layouts, printers, results
from brainpretrain.report.sites import by_site, overlap_by_site, sites_of_pool
from brainpretrain.report.write import write_table

OVERLAPS = pairs("--overlaps", "CORPUS=TSV", help="audits (overlap.tsv) of the corpora that the table uses")


OUT_FOLDER = arg("--out", type=Path, required=True, metavar="DIR", help="folder to write into")


RUNS = arg("--runs", type=Path, nargs="*", default=[], metavar="JSON", help="run.json of the pretrainings, for hours")


PRETRAININGS = arg(
    "--pretrainings", type=Path, nargs="*", default=[], metavar="CSV", help="log.csv of the pretrainings, for warnings"
)


@command("table", SCORES, SPEC, OVERLAPS, RUNS, PRETRAININGS, OUT_FOLDER)
def table(args: argparse.Namespace) -> None:
    """Writes <name>, <name>_labels, <name>_metrics and <name>_ranks, each as .tsv|md|tex|html|txt, and a plot of the ranks.

    Cells with missing runs are marked. docs/statistics.md explains how each number is computed.
    """
    audits = {corpus: read_tsv(path) for corpus, path in args.overlaps}
    runs = {str(path): read_json(path) for path in args.runs}
    print(printers.text(write_table(args.out, read_tsvs(args.scores), args.spec, audits, runs, args.pretrainings)))


@command(
    "tables",
    arg("--study", required=True, metavar="NAME", help="its name in config/studies/, or a path"),
    SCORES,
    arg("--config", type=Path, default=Path("config"), metavar="DIR", help="the config folder"),
    OVERLAPS, OUT_FOLDER,
)  # fmt: skip
def tables(args: argparse.Namespace) -> None:
    """Writes the same files as the workflow in results/<study>/tables, byte for byte, in seconds.

    Audits of transductive corpora are taken from --overlaps, or else from the folder corpora/ next to the scores, and hours of
    pretrainings and their logs from the folder pretrain/ there.
    """
    plan = plans.make(config.load(args.config, {"study": args.study}))
    files = args.overlaps or [(path.parent.name, path) for path in args.scores[0].parent.glob("corpora/*/overlap.tsv")]
    missing = {name: None for name in plan.corpora if plan.config.corpora[name].protocol == "amaes"}
    audits = missing | {corpus: read_tsv(path) for corpus, path in sorted(files)}
    scores = read_tsvs(args.scores)
    runs = {str(path): read_json(path) for path in sorted(args.scores[0].parent.glob("pretrain/*/*/*/run.json"))}
    logs = sorted(args.scores[0].parent.glob("pretrain/*/*/*/log.csv"))
    for name, spec in plan.tables.items():
        write_table(args.out, scores, spec, audits, runs, logs)
        print(f"{args.out / name}.html")


def _of_cohorts(name: str, form: str, what: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """An argument with a file for each cohort of a table by site, in the order of its columns."""
    return arg(name, type=Path, nargs="+", required=True, metavar=form, help=f"{what}; one for each cohort of --spec")


@command(
    "table-sites",
    SCORES, SPEC, OVERLAPS,
    _of_cohorts("--index", "TSV", "index of the cohort's data set"),
    _of_cohorts("--task-index", "TSV", "index of the data set that the task trains on"),
    _of_cohorts("--subjects", "JSON", "output of `split` for the task"),
    OUT_FILES,
)  # fmt: skip
def table_sites(args: argparse.Namespace) -> None:
    """The spec has three columns of each cohort: the cohort, <cohort>_seen, <cohort>_unseen."""
    for name, files in (("--index", args.index), ("--task-index", args.task_index), ("--subjects", args.subjects)):
        if 3 * len(files) != len(args.spec.columns):
            problem = f"{len(files)} files for the {len(args.spec.columns)} columns of the table"
            raise UserError(problem, where=name, fix="give one file for every three columns of --spec")
    scores, parts = read_tsvs(args.scores), []
    for column, index, task_index, subjects in zip(
        args.spec.columns[::3], args.index, args.task_index, args.subjects, strict=True
    ):
        rows = scores[(scores["task"] == column.task) & (scores["cohort"] == column.cohort)]
        parts.append(by_site(rows, read_tsv(index), sites_of_pool(read_tsv(task_index), read_json(subjects))))
    audits = {corpus: overlap_by_site(read_tsv(path)) for corpus, path in args.overlaps}
    cells = results.build(pd.concat(parts, ignore_index=True), args.spec, audits)
    grid = layouts.results_grid(cells, args.spec)
    for path in args.out:
        printers.write(path, cells, grid)
    print(printers.text(grid))
