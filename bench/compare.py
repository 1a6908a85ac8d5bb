"""Lists figures that slowed between two results of the benchmarks by more than the noise; the exit code is 1 if there are any.

    make bench-compare OLD=a NEW=b        # two JSONs, or two folders of them

The rule: a figure slowed if its median grew by more than 5 %, and by more than three times the noise of the two medians.
The noise of a median is the standard error that follows from the rounds: 1.4826 times their median absolute deviation, times
1.2533, over the root of their number. A figure with fewer than three rounds on a side has no known noise: it counts from
30 % on. Figures of peers are compared, too, but never counted: if they slowed alike, the machine did, and times of this project
are first divided by that factor (the median over the peers in the same benchmark).
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import harness
import summary

LEAST, NOISES, BLIND = 1.05, 3.0, 1.30
OURS = "brainpretrain"


class Change(NamedTuple):
    """New over old of one figure. `noise` is relative; None if there are too few rounds. `slowed` is the verdict."""

    id: str
    what: str
    party: str
    ratio: float
    noise: float | None
    slowed: bool


def noise(rounds: Sequence[float]) -> float | None:
    """Relative standard error of the median of the rounds; None for fewer than three."""
    if len(rounds) < 3:
        return None
    middle = statistics.median(rounds)
    spread = 1.4826 * statistics.median(abs(value - middle) for value in rounds)
    return 1.2533 * spread / math.sqrt(len(rounds)) / middle if middle else None


def compare(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """Changes of every figure that both results have a median of, benchmark by benchmark."""
    found = []
    for name in sorted(old.keys() & new.keys()):
        pairs = _pairs(old[name], new[name])
        others = [b["median"] / a["median"] for a, b in pairs if not _ours(a) and a["party"] != "floor" and a["unit"] == "s"]
        machine = statistics.median(others) if others else 1.0
        found += [_change(a, b, machine if a["unit"] == "s" else 1.0) for a, b in pairs]
    return found


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    before = {(f["id"], f["what"], f["party"], f["unit"]): f for f in old["figures"] if f["median"]}
    after = [f for f in new["figures"] if f["median"] is not None]
    return [(before[key], f) for f in after if (key := (f["id"], f["what"], f["party"], f["unit"])) in before]


def _ours(figure: Mapping[str, Any]) -> bool:
    return figure["party"].startswith(OURS)


def _change(old: Mapping[str, Any], new: Mapping[str, Any], machine: float) -> Change:
    ratio = new["median"] / old["median"] / (machine if _ours(old) else 1.0)
    noises = noise(old["rounds"]), noise(new["rounds"])
    if None in noises:
        both, limit = None, BLIND
    else:
        both = math.hypot(*noises)  # type: ignore[arg-type]
        limit = max(LEAST, 1 + NOISES * both)
    return Change(old["id"], old["what"], old["party"], ratio, both, _ours(old) and ratio > limit)


def table(changes: Sequence[Change]) -> str:
    """Markdown, the slowest first."""
    rows = [
        [c.id, c.what, c.party, f"{c.ratio:.2f}x", "too few rounds" if c.noise is None else f"{c.noise:.1%}",
         "slowed" if c.slowed else ""]
        for c in sorted(changes, key=lambda c: (not c.slowed, -c.ratio))
    ]  # fmt: skip
    return harness.table(["id", "figure", "party", "new over old", "noise", "verdict"], rows)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Results of a file or of a folder.

    Raises:
        SystemExit: there are none.
    """
    found = (
        summary.read(path) if path.is_dir() else {n: r for n, r in summary.read(path.parent).items() if r["name"] == path.stem}
    )
    if not found:
        raise SystemExit(
            f"error: no results of a benchmark\n  where: {path}\n  fix:   run make bench, or name another file or folder"
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="JSON or folder")
    parser.add_argument("new", type=Path, help="JSON or folder")
    args = parser.parse_args(argv)
    old, new = read(args.old), read(args.new)
    if len(old) == len(new) == 1 and args.old.is_file() and args.new.is_file():  # two files, whatever their names
        new = dict(zip(old, new.values(), strict=True))
    machines = [sorted({result["machine"] for result in side.values()}) for side in (old, new)]
    if machines[0] != machines[1]:
        print(f"not the same machine: {'; '.join(machines[0])} and {'; '.join(machines[1])}")
    changes = compare(old, new)
    if not changes:
        raise SystemExit("error: the two results have no figure in common\n  fix:   compare results of the same benchmarks")
    print(table(changes))
    slowed = [change for change in changes if change.slowed]
    print(f"\n{len(slowed)} of {sum(c.party.startswith(OURS) for c in changes)} figures slowed by more than the noise")
    return int(bool(slowed))


if __name__ == "__main__":
    raise SystemExit(main())
