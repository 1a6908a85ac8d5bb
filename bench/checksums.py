"""What it costs to compare a stored volume with its checksum at every read: CPU time of a random patch, with and without.

    python bench/checksums.py --page docs/benchmarks.md

Real volumes where they are, else phantoms, prepared with the recipe `amaes`. "Without" reads from the file only the pieces that a
patch needs; "with" is how patches are read (`shards.load`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

import harness
from augmentation import phantoms
from brainpretrain import config, shards
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


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of raw volumes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128], help="voxels of a patch")
    parser.add_argument("--page", type=Path, help="page whose section 'checksums' is replaced")
    args = parser.parse_args()
    os.environ |= harness.ONE_THREAD
    lines = []
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        for row in stored(args.data, work, config.load(ROOT / "config")):
            path = work / row["file"]
            whole = path.read_bytes()
            check = [harness.seconds(partial(shards.checksum_of, whole)) for _ in range(9 * args.repeats)]
            for side in args.sides:
                columns = {
                    name: partial(once, read, work, row, side, args.repeats)
                    for name, read in (("without", without), ("with", shards.load))
                }
                times = harness.interleaved(columns, args.rounds)
                ms = {name: 1e3 * harness.summary(samples)["median_of_rounds"] for name, samples in times.items()}
                sizes = [row["shape"].replace(" ", "x"), f"{len(whole) / 1e6:.2f}", str(side)]
                added = ms["with"] - ms["without"]
                lines.append(
                    [
                        *sizes,
                        f"{ms['without']:.2f}",
                        f"{ms['with']:.2f}",
                        f"{added:+.2f}",
                        f"{1e3 * statistics.median(check):.3f}",
                    ]
                )
    header = ["stored volume", "MB", "patch", "CPU ms without", "CPU ms with", "more", "of that the checksum"]
    facts, line = harness.facts(), f"python bench/checksums.py --rounds {args.rounds} --repeats {args.repeats}"
    about = f"`{line}`, {facts['machine']} (load {facts['load']}), {facts['date']}, commit {facts['commit']}."
    text = f"{about}\n\n{harness.table(header, lines)}"
    print(text)
    if args.page:
        harness.write_section(args.page, "checksums", text)


if __name__ == "__main__":
    main()
