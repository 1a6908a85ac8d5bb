"""Curves of trainings that are still going on, from their log.csv. A second look reads only what was added."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("loss", "val_loss", "val_dice")
POINTS = 400  # of a curve that are kept


@dataclass
class Curve:
    """Points (step, value) by column, in the order of the steps; `last`: the last value of each column."""

    points: dict[str, list[tuple[int, float]]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    last: dict[str, float] = field(default_factory=dict)

    def add(self, row: dict[str, str]) -> None:
        """A row of log.csv; values that are missing or not finite are left out."""
        if not (row.get("step") or "").isdigit():
            return
        for name in COLUMNS:
            try:
                value = float(row.get(name) or "nan")
            except ValueError:
                continue
            if math.isfinite(value):
                self.last[name] = value
                self.points[name].append((int(row["step"]), value))
                if len(self.points[name]) > 2 * POINTS:
                    del self.points[name][1::2]


class Curves:
    """Curves by path of log.csv."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], list[str], Curve]] = {}

    def read(self, path: Path) -> Curve:
        """The curve so far; an empty one if there is no log or no row yet."""
        try:
            with open(path, "rb") as stream:
                return self._read(path, stream)
        except OSError:
            return Curve()

    def _read(self, path: Path, stream: io.BufferedReader) -> Curve:
        size, number = stream.seek(0, io.SEEK_END), Path(path).stat().st_ino
        (inode, offset), header, curve = self._known.get(path, ((number, 0), [], Curve()))
        if inode != number or size < offset:  # written again
            offset, header, curve = 0, [], Curve()
        stream.seek(offset)
        whole = stream.read().rpartition(b"\n")[0]
        rows = list(csv.reader(io.StringIO(whole.decode("utf-8", errors="replace")))) if whole else []
        if rows and not header:
            header, rows = rows[0], rows[1:]
        for row in rows:
            if len(row) == len(header):
                curve.add(dict(zip(header, row, strict=True)))
        self._known[path] = ((number, offset + (len(whole) + 1 if whole else 0)), header, curve)
        return curve
