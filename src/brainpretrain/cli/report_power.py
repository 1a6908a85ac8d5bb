"""The command `power`: what a study can see, before it runs."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

from brainpretrain.cli.arguments import arg, command
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv
from brainpretrain.report import power as reading
from brainpretrain.report.crossed import FEWEST_DRAWS, Components
from brainpretrain.report.metrics import METRICS

SDS = ("draw", "seed", "subject", "rest")


@command(
    "power",
    arg("--draws", type=int, nargs="+", default=[3, 6, 10], metavar="N", help="draws of training cases (folds)"),
    arg("--subjects", type=int, nargs="+", required=True, metavar="N", help="scored subjects"),
    arg("--seeds", type=int, nargs="+", default=[1], metavar="N", help="trainings of each draw and arm, with --sd-seed"),
    arg("--table", type=Path, metavar="TSV", help="<table>.tsv of an earlier study: its measured variances are used"),
    *(arg(f"--sd-{name}", type=float, metavar="X", help=help) for name, help in (
        ("draw", "standard deviation of a difference over draws of training cases, as printed (points of Dice)"),
        ("seed", "of one arm over seeds of its training"),
        ("subject", "of a difference over subjects"),
        ("rest", "of a difference of one subject in one training, apart from these"),
    )),
    arg("--difference", type=float, metavar="X", help="also print how many draws would see this difference"),
)  # fmt: skip
def power(args: argparse.Namespace) -> None:
    """Prints, for each number of draws, subjects and seeds, the difference that 80 % of such studies find at 5 %.

    And the margin within which 80 % of them find equivalence, if there is no difference. The variances are those of an earlier
    study (--table), a line for each of its rows, or given by hand (all four --sd). docs/statistics.md explains the model and has
    examples. All subjects are scored in every draw, and draws share no training case; otherwise it takes more of them.
    """
    if min([*args.draws, FEWEST_DRAWS]) < FEWEST_DRAWS:
        fix = f"give {FEWEST_DRAWS} or more"
        raise UserError(f"fewer than {FEWEST_DRAWS} draws make no statement about another training", where="--draws", fix=fix)
    if min(args.subjects) < 2 or min(args.seeds) < 1:
        raise UserError(
            "a study needs at least two subjects and one seed", where="--subjects, --seeds", fix="give larger numbers"
        )
    if args.difference is not None and not args.difference > 0:
        raise UserError("a difference to be seen is above 0", where="--difference", fix="give its size without sign")
    print(f"{'variances':34} {'draws':>5} {'seeds':>5} {'subjects':>8} {'difference seen':>15} {'margin shown':>12}", end="")
    print("  draws needed" if args.difference else "")
    for name, seeds, parts, scale in _variances(args):
        for draws, subjects in itertools.product(args.draws, args.subjects):
            found = parts.variance(draws, subjects)
            seen, margin = scale * reading.visible(*found), scale * reading.narrowest(*found)
            line = f"{name[:34]:34} {draws:5} {seeds:>5} {subjects:8} {seen:15.2f} {margin:12.2f}"
            if args.difference:
                needed = reading.draws_to_see(parts, subjects, args.difference / scale)
                line += f"  {needed or f'more than {reading.MOST_DRAWS:,}':>12}"
            print(line)


def _variances(args: argparse.Namespace) -> Iterator[tuple[str, str, Components, float]]:
    """Name, seeds, variances in some units, and the factor from these units to printed ones."""
    given = [getattr(args, f"sd_{name}") for name in SDS]
    if (args.table is None) == (given == [None] * len(SDS)) or (args.table is None and None in given):
        options = ", ".join(f"--sd-{name}" for name in SDS)
        raise UserError("the variances are not known", where="power", fix=f"give either --table, or all of {options}")
    if args.table is None:
        if min(given) < 0:
            raise UserError("a standard deviation is negative", where="power", fix="give 0 or more")
        draw, seed, subject, rest = given
        for seeds in args.seeds:
            parts = Components(draw**2 + 2 * seed**2 / seeds, subject**2, rest**2 / seeds)
            yield "given", str(seeds), parts, 1.0
        return
    numbers = ["sd_draw", "sd_subject", "sd_rest"]
    table = read_tsv(args.table)
    if missing := [name for name in [*numbers, "row", "column", "metric"] if name not in table.columns]:
        problem = f"the table lacks the columns {', '.join(missing)}"
        raise UserError(problem, where=args.table, fix="give <table>.tsv, made again by `brainpretrain tables`")
    table = table[table["sd_draw"] != ""]
    if table.empty:
        problem = "no row has measured variances: they need a baseline and at least three draws"
        raise UserError(problem, where=args.table, fix="give another table, or the standard deviations by hand")
    for line in table.to_dict("records"):
        parts = Components(*(float(line[name]) ** 2 for name in numbers))
        yield f"{line['row']}, {line['column']}", "same", parts, METRICS[line["metric"]].scale
