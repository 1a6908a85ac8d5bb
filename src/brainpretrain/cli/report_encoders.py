"""The command of the stage report that shows what became of the encoders of a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import OUT_FILES, SPEC, arg, command
from brainpretrain.files import read_tsv
from brainpretrain.report import encoders, printers
from brainpretrain.report.figures import encoders as figure


@command(
    "table-encoders",
    arg("--compared", type=Path, nargs="+", required=True, metavar="TSV", help="output of `compare-encoders` for its arms"),
    SPEC, OUT_FILES,
)  # fmt: skip
def table_encoders(args: argparse.Namespace) -> None:
    """CKA and change of the features of each encoder by level, as a table; an .svg or .png among the outputs is the figure."""
    found = {encoders.key_of(str(path)): read_tsv(path, numbers=encoders.NUMBERS) for path in args.compared}
    lines = encoders.build(args.spec, found)
    shown = encoders.grid(lines, args.spec)
    for path in args.out:
        if path.suffix in (".svg", ".png"):
            figure.draw(lines, args.spec, path)
        else:
            printers.write(path, lines, shown)
    print(printers.text(shown))
