"""Grids of learning rates, and the protocol of fair comparisons."""

import pytest

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.plan import fairness, specs, tables, tuning
from helpers import ROOT

STUDY = """title: t
seed: 0
folds: 3
HEAD
build: [demo]
finetune:
  mine: {like: fair, phases: [{steps: 5, warmup_steps: 1, lr: 2.0e-4, decay: constant}, {steps: 9, lr: 1.0e-4, decay: cosine}]}
  mine_papers: {like: amaes}
tables:
  demo:
    title: d
    columns: [{title: BraTS, task: brats21_flair, cohort: COHORT}]
    corpus: brains45k
    recipe: mine
    n_train: 20
    rows:
      - {backbone: unet_b, init: [scratch, amaes], n_train: [10, 40, all]}
      ROW
"""


def made(config_dir, head="", cohort="test", row="", **changes):
    text = STUDY.replace("HEAD", head).replace("COHORT", cohort).replace("ROW", row)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    (config_dir / "studies/mine.yaml").write_text(text)
    return tables.make(config.load(config_dir, {"study": "mine"}))


def test_each_arm_and_fold_has_a_candidate_for_each_rate(config_dir):
    plan = made(config_dir, head="protocol: free\nseeds: [3, 4]")
    arm = next(e.arm for e in plan.evaluations if e.arm.init == "scratch" and e.arm.n_train == "10")
    found = plan.candidates(arm, 1)
    assert [(e.arm.recipe, e.arm.n_train, e.fold, e.cohort, e.seed) for e in found] == [
        (f"mine_lr{i}", "10", 1, "val", 3) for i in range(3)
    ]
    everything = next(e.arm for e in plan.evaluations if e.arm.init == "scratch" and e.arm.n_train == "all")
    assert [e.arm.n_train for e in plan.candidates(everything, 0)] == ["40"] * 3
    assert len(plan.tunings) == 2 * 2 * 3 * 3  # arms with a number of cases, folds, rates: 'all' has those of 40
    assert len(plan.trainings) == 2 * 3 * 3 * 2 + len(plan.tunings)
    assert ("10", "val") in plan.draws("brats21_flair") and ("all", "val") not in plan.draws("brats21_flair")


def test_candidates_differ_in_their_rates_alone(config_dir):
    plan = made(config_dir)
    arm = next(e.arm for e in plan.evaluations)
    chosen = specs.finetune_run(plan.config, arm, 0).plain()
    peaks = []
    for candidate in plan.candidates(arm, 0):
        run = specs.finetune_run(plan.config, candidate.arm, 0).plain()
        rates = [phase.pop("lr") for phase in run["recipe"]["phases"]]
        peaks.append(rates[0])
        assert rates[1] == pytest.approx(rates[0] / 2)
        assert {k: v for k, v in run.items() if k != "name"} == {
            k: v for k, v in (chosen | {"recipe": chosen["recipe"] | {"phases": run["recipe"]["phases"]}}).items() if k != "name"
        }
    assert peaks == plan.config.finetune["mine"].lr_grid == [1e-4, 3e-4, 1e-3]
    scaled = tuning.scaled(plan.config.finetune["mine"].phases, 1e-3)
    assert [phase.lr for phase in scaled] == pytest.approx([1e-3, 5e-4]) and scaled[0].warmup_steps == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "protocol: paper", "cohort": "val", "a": ("[10, 40, all]", "10")}, r"chosen on cases that the column 'BraTS' scores[\s\S]*mine.lr_grid"),
        ({"head": "protocol: paper", "a": ("[10, 40, all]", "all")}, r"n_train 'all' leaves no case to choose the learning rate"),
        ({"a": ("[10, 40, all]", "all")}, r"n_train 'all' alone leaves no case[\s\S]*\n    n_train: \[10, all\]"),
        ({"a": ("mine_papers:", "mine_lr1:")}, "has the name of a candidate"),
        ({"a": ("{like: fair,", "{like: fair, lr_grid: [1.0e-3],")}, "at least two different learning rates"),
        ({"a": ("folds: 3", "folds: 2")}, r"2 folds: fewer than 3 draws[\s\S]*\n    folds: 3"),
        ({"head": "seeds: [5, 0]"}, r"2 seeds: fewer than 3[\s\S]*\n    seeds: \[5, 0, 1\]"),
        ({"a": ("recipe: mine\n", "recipe: mine_papers\n")}, r"differs from its baseline in more than the encoder: augmentation[\s\S]*in finetune.mine_papers: augmentation_scratch: spatial"),
        ({"a": ("recipe: mine\n", "recipe: amaes\n")}, r"write these lines, or 'protocol: free'[\s\S]*finetune: {amaes: {like: amaes, augmentation_scratch: spatial}}"),
        ({"cohort": "val", "a": ("[10, 40, all]", "10"), "b": ("{like: fair,", "{like: fair, lr_grid: [],")}, r"chosen on cases that the column 'BraTS' scores[\s\S]*'protocol: free'[\s\S]*\n    cohort: test in the column, and in tasks.brats21_flair: split: {test_fraction"),
    ],
)  # fmt: skip
def test_what_would_not_be_a_fair_choice_is_refused(config_dir, changes, message):
    with pytest.raises(UserError, match=message):
        made(config_dir, **changes)


def test_a_fair_study_is_planned_also_with_a_control_that_names_its_baseline(config_dir):
    row = "- {title: longer, backbone: unet_b, n_train: 10, recipe: twice, baseline: 'unet_b, scratch, n=10'}"
    plan = made(
        config_dir,
        row=row,
        a=("  mine_papers: {like: amaes}", "  twice: {like: mine, phases: [{steps: 9, lr: 1, decay: cosine}]}"),
    )
    spec = plan.tables["demo"]
    assert [row.besides for row in spec.rows] == [()] * 6 + [("phases",)]
    assert specs.grids(plan, "demo").keys() == {"mine", "twice"}


def test_a_study_that_says_nothing_is_fair_and_what_it_leaves_open_is_filled_in(config_dir):
    plan = made(config_dir, a=("{like: fair,", "{like: fair, lr_grid: [],"))
    assert plan.config.study.seeds == [0, 1, 2] == list(plan.tables["demo"].seeds)
    assert specs.grids(plan, "demo") == {"mine": [6.7e-5, 2e-4, 6e-4]}
    assert fairness.said(plan) == (
        "protocol: fair: 3 draws with seeds 0, 1, 2; learning rates to choose from: 6.7e-05, 0.0002, 0.0006 (mine);"
        f" {2 * 3 * 3 * 3 + 2 * 2 * 3 * 3} fine-tunings, {2 * 2 * 3 * 3} of them to choose rates (docs/statistics.md)"
    )


def test_what_the_protocol_refuses_is_planned_with_the_lines_that_it_prints(config_dir):
    """One refusal has all of the problems; its lines, written where it says, make the study a fair one."""
    changes = {"head": "seeds: [7]", "a": ("folds: 3", "folds: 1"), "b": ("recipe: mine\n", "recipe: mine_papers\n")}
    with pytest.raises(UserError) as refused:
        made(config_dir, **changes)
    lines = [line.strip() for line in str(refused.value).partition("says:\n")[2].splitlines()]
    assert lines == ["folds: 3", "seeds: [7, 0, 1]", "in finetune.mine_papers: augmentation_scratch: spatial"]
    changes |= {"head": lines[1], "a": ("folds: 3", lines[0])}
    plan = made(config_dir, **changes, c=("{like: amaes}", f"{{like: amaes, {lines[2].partition(': ')[2]}}}"))
    assert plan.config.study.seeds == [7, 0, 1] and not any(row.besides for row in plan.tables["demo"].rows)


@pytest.mark.parametrize("head", ["protocol: free", "protocol: paper"])
def test_without_the_protocol_nothing_is_demanded_or_filled_in(config_dir, head):
    plan = made(config_dir, head=head, a=("folds: 3", "folds: 1"), b=("recipe: mine\n", "recipe: mine_papers\n"))
    assert plan.config.study.seeds == [] and plan.tunings == [] and fairness.said(plan) == ""
    assert plan.tables["demo"].free is (head == "protocol: free")


def test_a_study_that_compares_nothing_is_not_affected(config_dir):
    """The first study on own data: one row from scratch, one fold, all cases."""
    rows = ("init: [scratch, amaes], n_train: [10, 40, all]", "init: scratch, n_train: [10, all]")
    plan = made(config_dir, a=("folds: 3", "folds: 1"), b=rows, c=("{like: fair,", "{like: amaes,"))
    assert plan.config.study.seeds == [] and plan.tunings == [] and fairness.said(plan) == ""


def test_what_the_arms_of_a_paper_differ_in_is_noted():
    plan = tables.make(config.load(ROOT / "config", {"study": "amaes"}))
    noted = {row.title: row.besides for row in plan.tables["table4"].rows if row.besides}
    assert set(noted.values()) == {("augmentation (spatial, not amaes_finetune)",)} and len(noted) == 5
    assert plan.tunings == []


def test_a_recipe_without_a_policy_for_scratch_augments_both_arms_alike(config_dir):
    plan = made(
        config_dir, a=("  mine_papers:", "  mine_papers: {like: mine, augmentation: none, augmentation_scratch: null}\n  other:")
    )
    recipe = plan.config.finetune["mine_papers"]
    assert recipe.policy(True) == recipe.policy(False) == "none"
    assert fairness.differences(plan.config, *plan.tables["demo"].rows[:2]) == ["n_train (10, not 40)"]
