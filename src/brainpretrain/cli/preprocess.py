"""Commands of the stage preprocess: from raw volumes to stored arrays."""

from __future__ import annotations

import argparse
from pathlib import Path

from brainpretrain.cli.arguments import INDEX, OUT, ROOT, WORKERS, arg, command, entry, integers, mapping, progress
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv, write_tsv
from brainpretrain.preprocess import rejections, shards
from brainpretrain.preprocess import repair as repairs


@command(
    "shard",
    INDEX, ROOT,
    arg("--recipe", type=mapping, required=True, metavar="JSON", help="preprocess entry (JSON, or @file.yaml)"),
    arg("--shard", type=int, required=True, metavar="N", help="number of this shard, from 0"),
    arg("--n-shards", type=int, required=True, metavar="N", help="number of shards of the data set"),
    WORKERS,
    arg("--max-rejected", type=float, required=True, metavar="SHARE",
        help="share of rejected volumes (0..1) above which the command fails"),
    arg("--labels", type=integers, default=[], metavar="N,N", help="values that a label may have besides 0 (default: any)"),
    OUT,
)  # fmt: skip
def shard(args: argparse.Namespace) -> None:
    """Stores float16 images and integer labels in <folder of OUT>/volumes, and a row per volume in OUT.

    A volume that cannot be used has a row with the status 'rejected' and a reason; unusual features of an accepted volume are
    noted in its row. The same command continues a shard that was killed.
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
    rejections.check_rejected(table, args.max_rejected)
    write_tsv(args.out, table)
    print(f"shard {args.shard}: {len(table) - len(rejected)} volumes stored, {len(rejected)} rejected")


@command(
    "volumes",
    arg("tables", type=Path, nargs="+", metavar="TSV", help="tables of all shards of the data set, in one folder"), OUT,
)  # fmt: skip
def volumes(args: argparse.Namespace) -> None:
    """OUT must be in the folder of the shards, since the rows name files relative to that folder.

    A data set of which every volume is rejected is an error that counts the reasons.
    """
    write_tsv(args.out, shards.join(args.tables, args.out))


@command(
    "repair",
    arg("folder", type=Path, metavar="FOLDER", help="a preprocessed data set: results/data/<data set>/<recipe>"),
    arg("--root", type=Path, metavar="DIR", help="folder of the raw files (default: the one that `fetch` recorded)"),
    arg("--recipe", type=entry("preprocess"), metavar="NAME",
        help="entry of config/preprocess.yaml (or JSON, or @file.yaml), needed if recipe.json is lost"),
)  # fmt: skip
def repair(args: argparse.Namespace) -> None:
    """Compares every stored volume with its checksum. A damaged or missing volume is computed again from its raw file, and must
    have the same bytes, so that no training has to run again. A missing or cut table of a shard is restored from the records of
    its volumes, and a damaged volumes.tsv from the tables of the shards.

    Exit code 2 if something could not be restored; everything else is restored.
    """
    outcome = repairs.repair(args.folder, args.root, args.recipe, progress("shard"))
    for line in outcome.repaired:
        print(line)
    print(f"{outcome.volumes} stored volumes checked: {len(outcome.repaired) or 'nothing'} repaired, {len(outcome.failed)} left")
    if outcome.failed:
        raise UserError(
            f"{len(outcome.failed)} could not be repaired:\n    " + "\n    ".join(outcome.failed),
            where=args.folder,
            fix="put the raw files back, or give their folder with --root, and repair again; repaired volumes are kept. To take"
            " changed raw files up, which trains again: snakemake <your options> --forcerun fetch -- <targets>",
        )
