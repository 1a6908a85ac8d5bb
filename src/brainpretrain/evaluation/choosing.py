"""The learning rate of an arm, chosen by the scores of its candidates on validation cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from brainpretrain.errors import UserError


def score(scores: pd.DataFrame) -> float:
    """Mean over labels of the mean Dice over cases, without undefined scores; NaN if none is defined."""
    dice = pd.to_numeric(scores["dice"], errors="coerce")
    return float(dice.groupby(scores["label"]).mean().mean())


def choose(grid: Sequence[float], tables: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """The learning rate whose candidate has the highest Dice; of equal ones the smallest.

    Args:
        grid: learning rates.
        tables: scores of the candidates, in the same order, on the same cases.

    Returns:
        lr, grid, dice (of each candidate; None where no score is defined), cases, at_edge: the best of the grid is its smallest
        or largest, so that a better one may lie outside.

    Raises:
        UserError: the candidates are not scored on the same cases, or none has a score.
    """
    cases = [set(table["volume"]) for table in tables]
    if any(other != cases[0] for other in cases[1:]):
        raise UserError("candidates are scored on different cases", where="--scores", fix="run their evaluations again")
    dice = [score(table) for table in tables]
    order = sorted(range(len(grid)), key=lambda i: (-dice[i], grid[i]) if dice[i] == dice[i] else (float("inf"), grid[i]))
    best = order[0]
    if dice[best] != dice[best]:
        raise UserError("no candidate has a defined Dice", where="--scores", fix="give the task other validation cases")
    return {
        "lr": grid[best],
        "grid": list(grid),
        "dice": [round(value, 6) if value == value else None for value in dice],
        "cases": len(cases[0]),
        "at_edge": len(grid) > 1 and grid[best] in (min(grid), max(grid)),
    }
