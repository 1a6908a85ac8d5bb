"""Rows that go on from the fine-tuned network of another row: `init: {row: TITLE}` to the arm that has this title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from brainpretrain.config.sections import Row
from brainpretrain.errors import UserError, nearest
from brainpretrain.plan.runs import Arm
from brainpretrain.plan.table_spec import RowSpec


@dataclass(frozen=True)
class Planned:
    """A row of a table whose start may not be known yet.

    Attributes:
        table: name of its table.
        spec: the row; its init is '' as long as `after` is not resolved.
        entry: the entry that it comes from.
        after: title of the row that it goes on from; '' for all other starts.
    """

    table: str
    spec: RowSpec
    entry: Row
    after: str = ""

    def is_called(self, title: str) -> bool:
        """True if the row or its entry has the title."""
        return title in (self.spec.title, self.entry.title)


def resolved(rows: Sequence[Planned], others: Mapping[str, Sequence[Planned]]) -> list[tuple[RowSpec, Row]]:
    """The rows of a table, each with its full init, and their entries.

    Args:
        rows: of the table.
        others: the rows of all tables of the study, by table.

    Raises:
        UserError: no row, or several, have the title and the backbone; a row goes on from itself; or two rows are one arm.
    """
    found, arms = [], set()
    for row in rows:
        spec = _resolved(row, others, ())
        if spec.arm in arms:  # it would count twice in ranks and in corrections
            raise UserError(f"the row '{spec.title}' occurs twice", where=f"tables.{row.table}.rows", fix="keep one")
        arms.add(spec.arm)
        found.append((spec, row.entry))
    return found


def _resolved(row: Planned, others: Mapping[str, Sequence[Planned]], followers: tuple[Planned, ...]) -> RowSpec:
    """The row with its full init. `followers`: the rows that go on from it, to find a circle."""
    if not row.after:
        return row.spec
    if row in followers:
        circle = " goes on from ".join(f"'{one.spec.title}'" for one in (*followers[followers.index(row) :], row))
        raise UserError(f"no row of a circle can be the first to train: {circle}", where=f"tables.{row.table}.rows", fix="end it")
    before = _resolved(_before(row, others), others, (*followers, row))
    return row.spec.model_copy(update={"init": Arm("", *before.arm).next_init})


def _before(row: Planned, others: Mapping[str, Sequence[Planned]]) -> Planned:
    """The row that `row` goes on from: of its own table, or else of another one."""
    called = [one for one in others[row.table] if one.is_called(row.after)]
    called = called or [one for rows in others.values() for one in rows if one.is_called(row.after)]
    same = [one for one in called if one.spec.backbone == row.spec.backbone]
    exact = [one for one in same if one.spec.title == row.after] or same
    arms = {(one.spec.arm, one.after): one for one in reversed(exact)}  # two tables may show one row
    if len(arms) == 1:
        return next(iter(arms.values()))
    where = f"tables.{row.table}.rows"
    problem = f"the row '{row.spec.title}' goes on from '{row.after}', which is"
    if not called:
        every = [one for rows in others.values() for one in rows]
        titles = sorted({title for one in every for title in (one.entry.title, one.spec.title) if title} - {row.spec.title})
        raise UserError(f"{problem} the title of no row of the study", where=where, fix=nearest(row.after, titles))
    if not same:
        problem += f" no row with the backbone '{row.spec.backbone}'"
        raise UserError(problem, where=where, fix="name a row with the same backbone: a network goes on as it is")
    titles = ", ".join(f"'{one.spec.title}'" for one in arms.values())
    raise UserError(f"{problem} {len(arms)} rows", where=where, fix=f"give the full title of one: {titles}")
