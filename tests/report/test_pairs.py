from __future__ import annotations

import pytest

from brainpretrain.report import pairs
from report_fixtures import row, spec, two_arms


def compared(table, **changes):
    ((base, arm),) = pairs.compared(spec(**changes))
    return pairs.pair(pairs.scaled(table, spec(**changes)), spec().columns[0], base, arm, spec(**changes))


def test_a_pair_uses_the_folds_that_both_arms_have() -> None:
    table = two_arms()
    pair = compared(table[(table["init"] == "scratch") | (table["fold"] == "1")])
    assert pair.values.round(2).values.tolist() == [[70, 80], [70, 80]]
    assert pair.means.tolist() == pytest.approx([70, 80]) and pair.change == pytest.approx(10)
    assert pair.better.tolist() == [True, True]


def test_folds_that_the_table_does_not_have_are_left_out() -> None:
    assert compared(two_arms(), folds=[1]).values.round(2).values.tolist() == [[70, 80], [70, 80]]


def test_a_pair_of_missing_runs_is_empty() -> None:
    table = two_arms()
    assert compared(table[table["init"] == "scratch"]).values.empty


def test_only_rows_with_a_baseline_are_compared() -> None:
    assert pairs.compared(spec(rows=[row("alone", "scratch")])) == []


def test_the_axis_of_a_share_ends_at_100_and_others_begin_at_0() -> None:
    assert pairs.limits([63.0, 88.0], spec()) == (60, 100)
    assert pairs.limits([100.0], spec()) == (90, 100)
    assert pairs.limits([], spec()) == (0, 100)
    assert pairs.limits([2.0, 8.0], spec(metric="hd95_mm")) == (0, 8)
