import pytest

from brainpretrain import config
from brainpretrain.plan import tables
from brainpretrain.plan.runs import Arm, Evaluation, Plan, Pretraining
from brainpretrain.plan.table_spec import fold_name, read_fold_name
from helpers import ROOT


@pytest.fixture(scope="module")
def paper():
    return tables.make(config.load(ROOT / "config", {"study": "amaes"}))


def test_paths_can_be_read_back(paper):
    arm = Arm("wmh_flair", "unet_b", "amaes-on-brains45k", "amaes", "20")
    assert arm.path == "finetune/wmh_flair/unet_b/amaes-on-brains45k/amaes/n20"
    assert arm.pretraining == Pretraining("brains45k", "amaes", "unet_b")
    assert Evaluation(arm, 3, "ood").path == f"{arm.path}/fold3/ood"
    assert Evaluation(arm, 3, "ood", 7).path == f"{arm.path}/fold3-seed7/ood"
    assert [read_fold_name(fold_name(*pair)) for pair in ((3, None), (12, 0))] == [(3, None), (12, 0)]
    assert Arm("t", "b", "scratch", "r", "all").pretraining is None
    assert Arm("t", "b", "amaes_released", "r", "all").pretraining is None


def test_a_table_knows_its_own_evaluations(paper):
    of_table4 = paper.table_evaluations(paper.tables["table4"])
    assert len(of_table4) == 11 * 4 * 6 and {e.cohort for e in of_table4} == {"test", "val", "ood"}


def test_runs_are_shared_between_tables(paper):
    # tables 2 and 3 share one arm, tables 3 and 4 another, which each scores in a cohort of its own
    arms = {evaluation.arm for evaluation in paper.evaluations}
    assert len(arms) == 11 * 3 + 4
    assert len(paper.evaluations) == 6 * (11 * 4 + 5)
    assert {f.backbone for f in paper.pretrainings if f.pretext == "amaes"} == {"unet_xl", "unet_b", "mednext_m", "mednext_l"}


def test_a_plan_knows_what_it_reads_and_scores(paper):
    assert ("brats21", "amaes") in paper.preprocessed and {name for name, _ in paper.preprocessed} == set(paper.datasets)
    assert paper.cohorts == [
        ("brats21_flair", "test"),
        ("brats21_flair", "val"),
        ("isles22_dwi", "val"),
        ("wmh_flair", "ood"),
        ("wmh_flair", "val"),
    ]
    assert paper.draws("wmh_flair") == [("20", "ood"), ("20", "val")]
    assert paper.label_values("wmh") == [1, 2] and paper.label_values("ppmi") == []


def test_a_plan_knows_what_is_aligned(paper):
    assert paper.aligned == []
    recipes = paper.config.preprocess
    moved = recipes | {"amaes": recipes["amaes"].model_copy(update={"session": ["DWI", "FLAIR"], "align": "rigid"})}
    plan = Plan(paper.config.model_copy(update={"preprocess": moved}), paper.tables)
    assert plan.aligned == plan.preprocessed == paper.preprocessed


def test_a_table_knows_its_pretrainings(paper):
    assert [p.pretext for p in paper.table_pretrainings(paper.tables["table2"])] == [
        "amaes_noaug", "amaes_skips_noaug", "amaes_standard_noaug"]  # fmt: skip
    assert len(paper.table_pretrainings(paper.tables["table4"])) == 5
