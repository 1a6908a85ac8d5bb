"""What shapes each result. `test_params.py` has the specs of every job of every study on record."""

import json

import pytest

from brainpretrain import config
from brainpretrain.plan import specs, tables
from brainpretrain.plan.runs import Arm, Plan, Pretraining
from helpers import ROOT, edit


@pytest.fixture(scope="module")
def paper():
    return tables.make(config.load(ROOT / "config", {"study": "amaes"}))


def test_a_task_on_a_source_that_is_taken_whole_says_so_to_its_models(paper):
    """model.json holds this recipe, so `predict` takes a case of ISLES22 with negative voxels as the workflow does."""
    arms = {arm.task: arm for arm in (evaluation.arm for evaluation in paper.evaluations)}
    recipe = specs.finetune_run(paper.config, arms["isles22_dwi"], 0).plain()["preprocess"]
    assert recipe["allow_negative"] and recipe["min_size"] == 1
    assert not paper.config.stored_as("amaes")["allow_negative"]


def test_the_same_content_is_the_same_text():
    assert specs.as_json({"b": [1], "a": 0.1}) == specs.as_json({"a": 0.1, "b": [1]}) == '{"a": 0.1, "b": [1]}'


def test_a_pretraining_is_given_what_shapes_it(paper):
    pretraining = Pretraining("brains45k", "amaes", "mednext_l")
    content = specs.pretrain_run(paper.config, pretraining).plain()
    assert content["name"] == "amaes-on-brains45k/mednext_l" and content["recipe"]["global_batch"] == 8
    assert content["recipe"].keys().isdisjoint({"per_backbone", "augmentation", "note"})
    assert content["backbone"].keys() == {"architecture", "options"}
    assert content["policy"] == paper.config.augmentations["amaes"].model_dump(mode="json")


def test_the_arms_of_a_comparison_differ_in_name_and_policy(paper):
    scratch = Arm("wmh_flair", "unet_b", "scratch", "amaes", "20")
    pretrained = Arm("wmh_flair", "unet_b", "amaes-on-brains45k", "amaes", "20")
    first, second = (specs.finetune_run(paper.config, arm, 3).plain() for arm in (scratch, pretrained))
    assert {key for key in first if first[key] != second[key]} == {"name", "policy"}
    assert "inference" not in first["recipe"] and "nsd_tolerance_mm" not in first["task"]


def test_a_decoder_of_the_recipe_takes_the_place_of_the_backbones(paper):
    content = specs.finetune_run(paper.config, Arm("wmh_flair", "unet_b", "scratch", "amaes_linear", "20"), 0).plain()
    assert (content["backbone"]["decoder"], content["backbone"]["decoder_options"]) == ("linear", {})
    assert "decoder" not in content["recipe"]


def test_fields_that_came_later_are_left_out_at_their_default(config_dir):
    old = specs.corpus(config.load(config_dir), "brains45k")
    assert not any("exclude" in source for source in old["sources"])
    edit(config_dir / "corpora.yaml", "dataset: ppmi", "dataset: ppmi, exclude: ['3001']")
    new = specs.corpus(config.load(config_dir), "brains45k")
    assert [source.pop("exclude") for source in new["sources"] if "exclude" in source] == [["3001"]] and new == old


def test_the_parts_of_a_task(paper):
    task = paper.config.tasks["wmh_flair"]
    split = specs.task_split(paper.config, "wmh_flair")
    assert split["split"] == {"seed": 0, "test_fraction": 0, "stratify": "site"} and "block" not in json.dumps(split)
    assert specs.task_split(paper.config, "isles22_dwi")["split"] == {"seed": 859032, "test_fraction": 0.25}
    cohort = {"sequences": ["FLAIR"], "ood": {"dataset": "wmh", "subsets": ["test"]}}
    assert specs.task_ood(paper.config, "wmh_flair", "ood") == cohort
    assert specs.task_prediction(paper.config, "wmh_flair") == {"sequences": ["FLAIR"]}
    assert specs.task_scores(paper.config, "wmh_flair", "ood") == {
        "sequences": ["FLAIR"], "labels": {"wmh": [1]}, "ignore": [2], "nsd_tolerance_mm": 1, "lesions": ["wmh"],
        "empty_masks": "nan", "hd95_missed_mm": None}  # fmt: skip
    assert specs.task_overlays(paper.config, "wmh_flair", "ood").keys() == {"sequences", "labels", "ignore"}
    assert [task.dataset_of(cohort) for cohort in ("val", "ood")] == ["wmh", "wmh"]


def test_own_data_are_described_by_their_options_and_made_data_by_their_module(config_dir):
    with open(config_dir / "datasets.yaml", "a") as stream:
        stream.write("  mine: {module: csv, options: {file: list.csv, n_shards: 2}}\n")
    loaded = config.load(config_dir)
    assert specs.described(loaded, "mine") == {"module": "csv", "options": {"file": "list.csv", "n_shards": 2}}
    assert specs.described(loaded, "phantom") == {"module": "phantom", "options": {}} and specs.options(loaded, "phantom")
    assert (specs.module(loaded, "wmh"), specs.options(loaded, "wmh")) == ("wmh", {})


def test_every_use_of_a_data_set_is_listed(paper):
    uses = specs.dataset_uses(paper)
    assert uses.keys() == set(paper.datasets)
    assert uses["wmh"]["for"] == ["pretraining (brains45k)", "task wmh_flair"] and uses["ppmi"]["for"] == [
        "pretraining (brains45k)"
    ]


def test_only_releases_that_an_arm_starts_from_are_listed(paper):
    released = tables.make(config.load(ROOT / "config", {"study": "released"}))
    assert specs.releases(paper) == {}
    assert specs.releases(released)["amaes_released"].keys() == {"licence", "page", "citation"}


def test_a_cohort_by_site_is_three_columns(paper):
    table = specs.sites_table(paper, "table4")
    assert [(c.title, c.cohort) for c in table.columns] == [
        ("WMH OOD", "ood"), ("WMH OOD, sites seen in training", "ood_seen"), ("WMH OOD, other sites", "ood_unseen")]  # fmt: skip
    assert table.name == "table4_sites" and table.rows == paper.tables["table4"].rows
    assert specs.sites_columns(paper, "table3") == []
    with pytest.raises(LookupError, match="no column of table 'table3'"):
        specs.sites_table(paper, "table3")


def test_every_cohort_that_is_shown_by_site_has_three_columns(config_dir):
    entry = "    ood: {dataset: wmh, subsets: [test], by_site: true}"
    edit(config_dir / "tasks.yaml", entry, f"{entry}\n    cohorts: {{site_b: {{dataset: wmh, subsets: [test], by_site: true}}}}")
    column = "{title: WMH OOD, task: wmh_flair, cohort: ood}"
    edit(config_dir / "tables.yaml", column, f"{column}\n      - {column.replace('ood', 'site_b').replace('OOD', 'B')}")
    table = specs.sites_table(tables.make(config.load(config_dir)), "table4")
    assert [c.cohort for c in table.columns] == ["ood", "ood_seen", "ood_unseen", "site_b", "site_b_seen", "site_b_unseen"]
    assert [c.title for c in table.columns[3:]] == ["WMH B", "WMH B, sites seen in training", "WMH B, other sites"]


def test_an_arm_is_called_as_in_the_tables(paper):
    titles = specs.arm_titles(paper)
    assert len(set(titles.values())) == len(titles) == 37
    assert titles[Arm("wmh_flair", "unet_xl", "scratch", "amaes", "20")] == "WMH: unet_xl, scratch"


def test_equal_titles_get_the_path_of_their_arm(paper):
    table = paper.tables["table4"]
    table = table.model_copy(update={"columns": table.columns[-1:]})
    same = table.model_copy(update={"rows": tuple(row.model_copy(update={"title": "one"}) for row in table.rows[:2])})
    titles = specs.arm_titles(Plan(paper.config, {"same": same}))
    assert set(titles.values()) == {f"WMH OOD: one ({arm.path})" for arm in titles} and len(titles) == 2
