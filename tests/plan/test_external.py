"""Rows of other programs: what a plan makes of them, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.plan import external, specs, tables
from brainpretrain.plan.runs import Plan
from helpers import ROOT, edit

ROW = "init: swinunetr}"


def planned(folder: Path, row: str) -> Plan:
    """The study amaes with one more row in its Table 4."""
    edit(folder / "tables.yaml", ROW, ROW + f"\n      - {row}")
    return tables.make(config.load(folder, {"study": "amaes"}))


def test_another_program_is_scored_and_nothing_of_it_is_trained(config_dir: Path) -> None:
    before = tables.make(config.load(ROOT / "config", {"study": "amaes"}))
    plan = planned(config_dir, "{title: SynthSeg 2, init: {external: 'there/{dataset}', others: background}}")
    assert plan.evaluations == before.evaluations and plan.trainings == before.trainings and plan.tasks == before.tasks
    more = set(plan.scored) - set(before.scored)
    assert {(e.arm.backbone, e.arm.init, e.arm.recipe, e.seed) for e in more} == {("external", "synthseg_2", "external", None)}
    # in `val` each fold chooses the cases; any other cohort is the same in all folds
    columns = [(column.task, column.cohort) for column in plan.tables["table4"].columns]
    folds = {key: sorted(e.fold for e in more if (e.arm.task, e.cohort) == key) for key in columns}
    assert all(folds[key] == (list(range(6)) if key[1] == "val" else [0]) for key in columns), folds
    assert {cohort for _, cohort in columns} == {"val", "test", "ood"}
    task, cohort = next(key for key in columns if key[1] == "ood")
    assert external.folder_of(plan, task, cohort, "synthseg_2") == f"there/{plan.config.tasks[task].dataset_of(cohort)}"
    row = plan.tables["table4"].rows[-1]
    assert row.external and row.n_train == "20" and plan.tables["table4"].baseline_of(row) is None
    # no param of the study's trainings changes
    for e in before.evaluations[:3]:
        assert specs.finetune_run(plan.config, e.arm, e.fold) == specs.finetune_run(before.config, e.arm, e.fold)


def test_a_trained_row_may_be_compared_with_another_program(config_dir: Path) -> None:
    plan = planned(
        config_dir,
        "{title: Theirs, init: {external: there}}\n      - {title: ours, backbone: unet_b, n_train: 5, baseline: Theirs}",
    )
    rows = {row.title: row for row in plan.tables["table4"].rows}
    ours = rows["ours, n=5"]
    assert plan.tables["table4"].baseline_of(ours) == rows["Theirs"] and ours.besides == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{init: {external: there}}", "needs a 'title'"),
        ("{title: T, backbone: unet_b, init: {external: there}}", "leave out backbone"),
        ("{title: T, recipe: amaes, init: {external: there}}", "leave out recipe"),
        ("{title: T, init: scratch}", "needs a 'backbone'"),
        ("{title: T, init: {external: there, labels: {lezion: [1]}}}", "no values for"),
        ("{title: T, init: {external: there, labels: synthseg}}", "names structures, and the task's class"),
        ("{title: T, init: {external: there}}\n      - {title: t, n_train: 5, init: {external: elsewhere}}", "one name in paths, and other files"),
        ("{title: T, init: {external: there}}\n      - {title: T, init: {external: there}}", "occurs twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_when_planning(config_dir: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned(config_dir, row)
