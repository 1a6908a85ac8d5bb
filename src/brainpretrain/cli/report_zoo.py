"""The command `page-zoo`: one page about the published encoders of a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import OUT_FILES, SPEC, arg, command, mapping
from brainpretrain.files import read_tsv
from brainpretrain.report import printers, zoo


@command(
    "page-zoo",
    arg("--verdicts", type=Path, nargs="+", required=True, metavar="TSV", help="verdicts of the tables of the study"),
    arg("--costs", type=Path, nargs="+", required=True, metavar="TSV", help="costs of the same tables"),
    arg("--releases", type=mapping, required=True, metavar="JSON", help="release of weights -> licence, page, citation"),
    SPEC, OUT_FILES,
)  # fmt: skip
def page_zoo(args: argparse.Namespace) -> None:
    """Writes which encoder helps, hurts or is undecided, by how much, with hours and licence. --spec: one of the tables."""
    verdicts, costs = ([read_tsv(path) for path in paths] for paths in (args.verdicts, args.costs))
    table = zoo.build(verdicts, costs, args.releases)
    grid = zoo.grid(table, args.spec)
    for path in args.out:
        printers.write(path, table, grid)
    print(printers.text(grid))
