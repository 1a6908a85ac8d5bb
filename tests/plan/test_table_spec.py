from __future__ import annotations

import json
from typing import get_args

import pytest

from brainpretrain.config.sections import MetricName
from brainpretrain.errors import UserError
from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report.metrics import METRICS
from report_fixtures import PRETRAINED, row, spec


def test_a_table_survives_the_command_line() -> None:
    cell = {"backbone": "unet_b", "init": PRETRAINED, "n_train": "20", "column": "Hippocampus", "value": 71.2, "sd": None}
    table = spec(published={"source": "a paper", "notes": ["A misprint."], "cells": [cell | {"differs": ""}]})
    assert TableSpec.read(json.loads(json.dumps(table.model_dump(mode="json")))) == table


def test_numbers_of_training_cases_may_be_written_as_numbers() -> None:
    assert spec(rows=[row("U-Net", "scratch", n_train=20)]).rows[0].n_train == "20"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bootstrp": {}}, r"bootstrp: unknown key; did you mean 'bootstrap'"),
        ({"rows": [row("U-Net", "scratch", inti="scratch")]}, r"rows.0.inti: unknown key; did you mean 'init'"),
        ({"columns": [{"title": "Hippocampus", "task": "hippocampus"}]}, r"columns.0.cohort: missing"),
        ({"folds": ["first"]}, r"folds.0: 'first' is not a whole number"),
        ({"metric": "nds"}, r"metric: [\s\S]*'nsd'[\s\S]*\(found 'nds'\)"),
    ],
)
def test_a_mistake_in_a_table_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        spec(**changes)
    assert error.value.where == "--spec"


def test_baseline_has_the_same_backbone_and_n_train() -> None:
    rows = [
        row("other backbone", "scratch", backbone="unet_xl"),
        row("other n_train", "scratch", n_train="10"),
        row("same", "scratch", n_train=20, recipe="scratch_recipe"),
        row("pretrained", PRETRAINED),
    ]
    table = spec(rows=rows)
    assert table.baseline_of(table.rows[3]) == table.rows[2]
    assert table.baseline_of(table.rows[2]) is None
    without = spec(rows=[*rows[:2], rows[3]])
    assert without.baseline_of(without.rows[2]) is None


def test_among_baselines_the_same_recipe_wins() -> None:
    rows = [row("first", "scratch", recipe="a"), row("same", "scratch", recipe="b"), row("pretrained", PRETRAINED, recipe="b")]
    table = spec(rows=rows)
    assert table.baseline_of(table.rows[2]) == table.rows[1]


def test_a_row_names_its_corpus() -> None:
    assert [part.corpus for part in spec().rows] == ["", "ixi"]


def test_a_curve_needs_an_arm_with_two_budgets() -> None:
    rows = [row("scratch", "scratch"), row("pretrained", PRETRAINED, n_train="40")]
    assert not spec(rows=rows).has_budgets()
    assert spec(rows=[*rows, row("all", "scratch", n_train="all")]).has_budgets()


def test_published_values_hold_for_one_metric() -> None:
    table = spec(published={"source": "a paper", "notes": [], "cells": []})
    assert table.with_metric("nsd") == spec(metric="nsd")


def test_every_metric_of_a_table_is_described() -> None:
    assert list(get_args(MetricName)) == list(METRICS)
