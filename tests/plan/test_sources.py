"""Tasks over several data sets, and rows that go on from another row: what is planned, and what is refused when planning."""

import pytest

import two_sources
from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.plan import specs, tables
from brainpretrain.plan.runs import Arm
from helpers import ROOT

ROW = "      - {title: on from there, backbone: unet_micro, init: {row: 0 masks}, n_train: 1}\n"


def plan_of(folder, *edits):
    """The plan of the study with the edits (old, new), each of a text that is there once."""
    text = two_sources.STUDY
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "studies" / "two.yaml").write_text(text)
    return tables.make(config.load(folder, {"study": "two"}))


def rows(text):
    return ROW, ROW + "".join(f"      - {line}\n" for line in text)


def test_a_row_goes_on_from_the_network_of_another_in_each_fold(config_dir):
    plan = plan_of(config_dir, ("folds: 1", "folds: 2\nseeds: [3, 4]"))
    first, after = (Arm("tissue", *row.arm) for row in plan.tables["phantom_table3"].rows)
    assert after.before == first and after.chain == [after, first] and first.before is None
    assert after.start == "scratch" and after.init == "scratch--source--n0"
    assert len(plan.trainings) == 8 and plan.datasets == ["phantom_source", "phantom_target"]
    assert plan.draws("tissue") == [("0", "test"), ("1", "test")]


def test_a_chain_needs_the_pretraining_of_its_first_row_and_runs_rows_that_no_table_shows(config_dir):
    other = "  more:\n    title: T\n    columns: [{title: c, task: tissue, cohort: test}]\n    corpus: hippocampus\n    recipe: target\n"
    other += "    n_train: 2\n    rows: [{title: third, backbone: unet_micro, init: {row: on from there}}]\n"
    plan = plan_of(
        config_dir,
        (ROW, ROW + other),
        ("build: [phantom_table3]", "build: [phantom_table3, more]"),
        ("    preprocess: coarse_4mm", "    preprocess: amaes"),
        ("title: 0 masks, ", "title: 0 masks, init: amaes, "),
    )
    third = Arm("tissue", *plan.tables["more"].rows[0].arm)
    assert third.init == "amaes-on-brains45k--source--n0--target--n1"
    assert third.pretraining == plan.pretrainings[0] and plan.pretrainings[0].corpus == "brains45k"
    assert [arm.n_train for arm in third.chain] == ["2", "1", "0"]
    assert {arm.path for arm in third.chain} <= {path.rsplit("/", 1)[0] for path in plan.trainings}


def test_a_training_is_given_its_sources_with_their_label_maps(config_dir):
    plan = plan_of(config_dir, rows(["{title: few, backbone: unet_micro, n_train: 2, recipe: few}"]), two_sources.MATCHED)
    first, after, few = (Arm("tissue", *row.arm) for row in plan.tables["phantom_table3"].rows)
    given = specs.finetune_run(plan.config, first, 0).plain()["sources"]
    assert given == [{"dataset": "phantom_source", "n": "all", "labels": {"brain": [1, 2], "lesion": [3]}, "ignore": []}]
    assert "sources" not in specs.finetune_run(plan.config, after, 0).plain()
    assert specs.finetune_run(plan.config, few, 0).sources[0].n == "matched"
    assert list(given[0]["labels"]) == ["brain", "lesion"]  # the order of the task, which is that of the classes


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([("row: 0 masks", "row: on from there")], "no row of a circle .*'on from there' goes on from 'on from there'"),
        ([("row: 0 masks", "row: 0 mask")], "title of no row of the study[\\s\\S]*did you mean '0 masks'"),
        (
            [("title: 0 masks, backbone: unet_micro", "title: 0 masks, backbone: [unet_micro, unet_tiny]"),
             ("there, backbone: unet_micro", "there, backbone: unet_b")],
            "no row with the backbone 'unet_b'",
        ),
        ([("title: 0 masks, ", "title: 0 masks, init: [scratch, amaes], ")], "is 2 rows[\\s\\S]*'0 masks, scratch, n=0, source'"),
        (
            [rows(["{title: a, backbone: unet_micro, init: {row: b}}", "{title: b, backbone: unet_micro, init: {row: a}}"])],
            "no row of a circle can be the first to train",
        ),
        ([rows(["{title: x, backbone: unet_micro, init: {row: 0 masks}}"])], "the row 'x' occurs twice"),
        ([("n_train: 1}", "n_train: 0}")], "n_train 0 of task 'tissue' trains on nothing: the recipe 'target' has 'sources: none'"),
        ([("sources: none\n", "sources: matched\n"), ("n_train: 1}", "n_train: 0}")], "trains on nothing"),
        ([("lesion: [3], brain", "lesion: [], brain")], "no training case of task 'tissue' has the class 'lesion'"),
        ([("{lesion: [3], brain: [1, 2]}", "{lesion: [3]}")], "needs labels with the class names of the task"),
        ([("{lesion: [3], brain: [1, 2]}", "{lesion: [4], brain: [1, 2]}")], "does not have: 4"),
        ([("{lesion: [3], brain: [1, 2]}", "{lesion: [], brain: []}")], "none of the classes of the task"),
        ([("[{dataset: phantom_source,", "[{dataset: phantom_target,")], "'phantom_target' of task 'tissue' is its target"),
        (
            [("    sources: [", "    ood: {dataset: phantom_source, subsets: [train]}\n    sources: ["),
             ("columns: [", "columns: [{title: o, task: tissue, cohort: ood}, "),
             ("[{dataset: phantom_source,", "[{dataset: phantom_source, subsets: [train],")],
            "every subject of the source 'phantom_source' is scored, in the cohort 'ood'",
        ),
        ([("[{dataset: phantom_source,", "[{dataset: phantom_sauce,")], "no data set 'phantom_sauce'"),
        ([("[{dataset: phantom_source,", "[{dataset: phantom_source, subsets: [tran],")], "no subsets tran"),
        ([("sources: all", "sources: 3"), ("[{dataset: phantom_source,", "[{dataset: phantom_source, n: 2,")], "limits them to 2"),
        ([("sources: none\n", "sources: none\n    stem: repeat\n")], "goes on from a fine-tuned network, whose stem"),
        ([("sources: none\n", "sources: none\n    decoder: linear\n"), ("like: target", "like: target, decoder: null")],
         "has another decoder"),
    ],
)  # fmt: skip
def test_what_cannot_train_is_refused_when_planning(config_dir, edits, message):
    with pytest.raises(UserError, match=message):
        plan_of(config_dir, *edits)


def test_a_task_without_sources_takes_no_recipe_that_counts_them(config_dir):
    text = ("    sources: [{dataset: phantom_source, labels: {lesion: [3], brain: [1, 2]}}]\n", "")
    with pytest.raises(UserError, match="'mixing: balanced', and task 'tissue' has no sources"):
        plan_of(config_dir, text)
    with pytest.raises(UserError, match="n_train 0 of task 'tissue' trains on nothing: the task has no sources"):
        plan_of(config_dir, text, (", mixing: balanced", ""))


@pytest.fixture(scope="module")
def zhang():
    return tables.make(config.load(ROOT / "config", {"study": "zhang"}))


def test_table_iii_has_the_published_values_and_every_control(zhang):
    spec = zhang.tables["zhang_33_published"]
    assert spec.metric == "dice_with_background" and zhang.tables["zhang_33"].published is None
    of_row = {(cell.backbone, cell.init, cell.n_train): cell.value for cell in spec.published.cells}
    first = next(row for row in spec.rows if row.title.startswith("UNETR, 0 masks"))
    after = Arm("", *first.arm).next_init
    assert of_row["unetr_mae", first.init, "0"] == 75.8 and of_row["unetr_mae", after, "600"] == 89.0
    assert of_row["swinunetr", "scratch", "all"] == 90.9 and len(of_row) == len(spec.published.cells) == 8 + 1 + 7 + 1
    assert [hours.value for hours in spec.published.training_hours] == [109.28, 165.6]
    kinds = {(row.start == "scratch", "--" in row.init) for row in spec.rows if row.n_train == "10"}
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


@pytest.mark.parametrize("study", ["zhang", "pretrain_once"])
def test_scratch_and_pretrained_arms_are_trained_alike(study):
    plan = tables.make(config.load(ROOT / "config", {"study": study}))
    for recipe in {evaluation.arm.recipe for evaluation in plan.evaluations}:
        assert plan.config.finetune[recipe].policy(True) == plan.config.finetune[recipe].policy(False)
    for name in [name for name in plan.tables if "table4" not in name and "figure8" not in name]:
        arms = {row.arm for row in plan.tables[name].rows}
        controls = {(backbone, init.replace(init.split("--")[0], "scratch", 1), *rest) for backbone, init, *rest in arms}
        assert controls <= arms and len(controls) < len(arms)
