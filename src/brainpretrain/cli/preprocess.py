"""Commands of the stage preprocess: from raw volumes to stored arrays."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import INDEX, OUT, ROOT, arg, command, entry, integers, joined, mapping, progress
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv, write_tsv
from brainpretrain.preprocess import repair as module
from brainpretrain.preprocess import shards


@command(
    "shard",
    INDEX, ROOT,
    arg("--recipe", type=mapping, required=True, metavar="JSON", help="preprocess entry (JSON, or @file.yaml)"),
    arg("--shard", type=int, required=True, metavar="N", help="number of this shard, from 0"),
    arg("--n-shards", type=int, required=True, metavar="N", help="shards of the data set"),
    arg("--workers", type=int, default=1, help="processes"),
    arg("--max-rejected", type=float, required=True, metavar="SHARE", help="more rejected volumes than this (0..1) are an error"),
    arg("--labels", type=integers, default=[], metavar="N,N", help="values that a label may hold beside 0 (any, without it)"),
    OUT,
)  # fmt: skip
def shard(args: argparse.Namespace) -> None:
    """Stores float16 images and integer labels in <folder of OUT>/volumes, and a row per volume in OUT.

    A volume that cannot be used is a row 'rejected' with a reason; what is odd about an accepted one is a remark in its row.
    A killed shard continues where it was.
    """
    if interrupted := shards.interrupted(args.out.parent, args.shard):
        print(f"an earlier attempt was killed while preprocessing {', '.join(interrupted)}; finished volumes are kept")
    rows = read_tsv(args.index).to_dict("records")
    table = shards.build(
        rows, args.root, args.out.parent, args.recipe, args.shard, args.n_shards, args.workers, progress("volume"), args.labels
    )
    rejected = table[table["status"] == "rejected"]
    for row in table.to_dict("records"):
        if row["status"] == "rejected":
            print(f"rejected {row['path']}: {row['reason']} ({row['detail']})")
        elif row["detail"]:
            print(f"remark on {row['path']}: {row['detail']}")
    shards.check_rejected(table, args.max_rejected)
    write_tsv(args.out, table)
    print(f"shard {args.shard}: {len(table) - len(rejected)} volumes stored, {len(rejected)} rejected")


@command(
    "volumes",
    arg("tables", type=Path, nargs="+", metavar="TSV", help="tables of all its shards, in one folder"), OUT,
)  # fmt: skip
def volumes(args: argparse.Namespace) -> None:
    """Joins the tables; a data set of which every volume is rejected is an error that counts the reasons.

    OUT belongs into the folder of the shards, since the rows name their files by their place in it."""
    if odd := [path for path in args.tables if path.parent.absolute() != args.out.parent.absolute()]:
        problem = f"its rows name files of {odd[0].parent}, and would be looked for in {args.out.parent}"
        raise UserError(problem, where=odd[0], fix=f"--out {odd[0].parent / args.out.name}")
    kept, given = args.out.parent / shards.RECIPE, len(set(args.tables))
    if kept.exists() and (made := read_json(kept)["n_shards"]) != given:
        raise UserError(f"tables of {given} shards, the data set has {made}", where=args.out.parent, fix="name each table once")
    table = joined(args.tables)
    shards.check_any_stored(table, "this data set", args.out.parent)
    write_tsv(args.out, table)


@command(
    "repair",
    arg("folder", type=Path, metavar="FOLDER", help="a preprocessed data set: results/data/<data set>/<recipe>"),
    arg("--root", type=Path, metavar="DIR", help="folder of the raw files (where `fetch` found them)"),
    arg("--recipe", type=entry("preprocess"), metavar="NAME",
        help="entry of config/preprocess.yaml (or JSON, or @file.yaml), if recipe.json is lost"),
)  # fmt: skip
def repair(args: argparse.Namespace) -> None:
    """Compares every stored volume with its checksum. What is not whole is made anew from its raw file, with the same bytes, so
    that no training has to run again. A table of a shard that is missing or cut is put together again from the records, and a
    damaged volumes.tsv from these tables.

    Exit code 2 if something could not be made anew; the rest is.
    """
    outcome = module.repair(args.folder, args.root, args.recipe, progress("shard"))
    for line in outcome.repaired:
        print(line)
    print(
        f"{outcome.volumes} stored volumes looked at: {len(outcome.repaired) or 'nothing'} repaired, {len(outcome.failed)} left"
    )
    if outcome.failed:
        raise UserError(
            f"{len(outcome.failed)} could not be repaired:\n    " + "\n    ".join(outcome.failed),
            where=args.folder,
            fix="put the raw files back, or say where they are (--root), and repair again; what was repaired stays",
        )
