"""The cost of comparing a stored volume with its checksum at every read: CPU time of a random patch, with and without.

    make bench-checksums

Real volumes if they are available, else phantoms, preprocessed with the recipe `amaes`. "Without" reads only the
pieces of the file that a patch needs; "with" is how patches are read (`frames.load`).
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

import harness
import script
from augmentation import phantoms
from brainpretrain import config
from brainpretrain.preprocess import frames, shards
from harness import ROOT
from preprocessing import REAL


def stored(data: Path, work: Path, settings: config.Config) -> list[dict[str, Any]]:
    """Rows of a shard of real volumes, or of phantoms."""
    paths = [data / name for name in REAL if (data / name).exists()] or phantoms(work, settings)
    columns = dict.fromkeys(shards.INDEX_COLUMNS, "")
    rows = [columns | {"volume": f"v{n}", "subject": f"v{n}", "path": str(path)} for n, path in enumerate(paths)]
    table = shards.build(rows, Path("/"), work, settings.stored_as("amaes") | {"allow_negative": True}, 0, 1)
    return table[table["status"] == "ok"].to_dict("records")


def without(folder: Path, row: Mapping[str, Any], box: tuple[slice, ...]) -> np.ndarray:
    """The box, unchecked."""
    return blosc2.open(str(folder / row["file"]), mode="r", dparams={"nthreads": 1})[box]


def once(read: Any, folder: Path, row: Mapping[str, Any], side: int, repeats: int, number: int) -> list[float]:
    """CPU seconds of `repeats` random boxes, the same ones for both ways."""
    rng, found = np.random.default_rng(number), []
    for _ in range(repeats):
        starts = [int(rng.integers(0, max(1, int(n) - side + 1))) for n in row["shape"].split()]
        box = tuple(slice(start, start + side) for start in starts)
        found.append(harness.seconds(lambda box=box: read(folder, row, box)))
    return found


def measured(work: Path, row: Mapping[str, Any], side: int, rounds: int, repeats: int) -> dict[str, list[float]]:
    """CPU seconds per round of reading a patch without and with its check, and of the checksum of the file alone."""
    ways = {"without": without, "with": frames.load}
    columns = {name: partial(once, read, work, row, side, repeats) for name, read in ways.items()}
    found = {name: [*map(harness.mean, times)] for name, times in harness.interleaved(columns, rounds).items()}
    whole = (work / row["file"]).read_bytes()
    alone = [[harness.seconds(partial(frames.checksum_of, whole)) for _ in range(repeats)] for _ in range(rounds)]
    return found | {"checksum": [*map(harness.mean, alone)]}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = script.parser(__doc__, "checksums", rounds=9, parties=False)
    parser.add_argument("--repeats", type=int, default=8, help="patches per round")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128], help="voxels of a patch")
    args = parser.parse_args(argv)
    os.environ |= harness.ONE_THREAD
    lines, figures = [], []
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        for row in stored(args.data, work, config.load(ROOT / "config")):
            shape, size = row["shape"].replace(" ", "x"), (work / row["file"]).stat().st_size
            for side in args.sides:
                found = measured(work, row, side, args.rounds, args.repeats)
                ms = {name: 1e3 * statistics.median(times) for name, times in found.items()}
                more = ms["with"] - ms["without"]
                cells = [f"{ms['without']:.2f}", f"{ms['with']:.2f}", f"{more:+.2f}", f"{ms['checksum']:.3f}"]
                lines.append([shape, f"{size / 1e6:.2f}", str(side), *cells])
                what = f"patch of {side} from {'/'.join(Path(row['path']).parts[-2:])}"
                figures += [harness.figure("B6", f"{what}, {way}", "brainpretrain", "s", times) for way, times in found.items()]
    header = ["stored volume", "MB", "patch", "CPU ms without", "CPU ms with", "more", "the checksum alone"]
    facts = harness.facts() | {"command": f"python bench/checksums.py --rounds {args.rounds} --repeats {args.repeats}"}
    script.finish(args, facts, [harness.table(header, lines)], figures, [])


if __name__ == "__main__":
    main()
