"""Plans whose fine-tunings are validated: on subjects that neither train nor count in a table."""

from __future__ import annotations

import json

import pytest
import yaml

from brainpretrain import config
from brainpretrain.cohorts import VALIDATION, splits
from brainpretrain.errors import UserError
from brainpretrain.plan import fairness, specs, tables, validating

RULE = {"subjects": 0.2, "every_steps": 100}


def planned(config_dir, cohort="test", n_train=20, study=None, **recipe):
    """A study of one recipe on the task hippocampus_s3d, from scratch and from another backbone's start."""
    content = {
        **{"title": "t", "seed": 0, "folds": 3, "build": ["one"]} | (study or {}),
        "finetune": {"watched": {"like": "amaes", "note": "no paper", "validation": RULE} | recipe},
        "tables": {
            "one": {
                "title": "t", "columns": [{"title": "Hippocampus", "task": "hippocampus_s3d", "cohort": cohort}], "n_train": n_train,
                "recipe": "watched", "rows": [{"backbone": "unet_b", "init": "scratch"}], "corpus": "brains45k",
            }
        },
    }  # fmt: skip
    (config_dir / "studies" / "watched.yaml").write_text(yaml.safe_dump(content))
    return tables.make(config.load(config_dir, {"study": "watched"}))


def test_the_plan_says_where_the_subjects_come_from(config_dir):
    plan = planned(config_dir, select="best", patience=5)
    run = json.loads(specs.as_json(specs.finetune_run(plan.config, plan.evaluations[0].arm, 0)))
    assert run["recipe"]["validation"] == RULE | {"taken_from": "training", "patches": 8}
    assert (run["recipe"]["select"], run["recipe"]["patience"]) == ("best", 5)
    words = validating.described(plan.config.finetune["watched"])
    assert words == (
        "validated every 100 steps on 20 % of the subjects of n_train, which then do not train, weights of the best pseudo-Dice,"
        " ended after 5 validations without a better one"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation": RULE | {"subjects": 20}}, "20 of the 20 subjects of n_train are to validate, which leaves none"),
        ({"n_train": 1}, "1 of the 1 subjects of n_train"),
        ({"n_train": "all", "validation": RULE | {"taken_from": "pool"}}, "n_train 'all' of task 'hippocampus_s3d' leaves no"),
        ({"cohort": "val", "validation": RULE | {"taken_from": "pool"}}, "validated on are scored in the column 'Hippocampus'"),
        ({"validation": RULE | {"every_steps": 250, "patches": 0}}, "patches"),
        ({"validation": RULE | {"every_steps": 125}}, "every_steps 125 is no multiple of log_every_steps 100"),
        ({"validation": RULE | {"every_steps": 1000}}, "every_steps 1000 does not divide the 2500 steps"),
        ({"patience": 25}, "never ends the last phase of 2500 steps early"),
        ({"validation": None, "select": "best"}, "'select: best' needs a 'validation'"),
    ],
)
def test_what_cannot_work_is_refused(config_dir, changes, words):
    with pytest.raises(UserError, match=words):
        planned(config_dir, **changes)


def test_validation_cases_count_in_the_size_of_the_pool(config_dir):
    pool = {"pool": [f"s{n}" for n in range(22)], "test": ["t"]}
    plan = planned(config_dir, validation=RULE | {"taken_from": "pool"})
    assert ("24", VALIDATION) in plan.draws("hippocampus_s3d")
    with pytest.raises(UserError, match="training and validation need 24 subjects, but the pool has 22"):
        splits.check_sizes(pool, plan.draws("hippocampus_s3d"), "place")
    splits.check_sizes(pool, planned(config_dir).draws("hippocampus_s3d"), "place")
    few = planned(config_dir, n_train="all", validation=RULE | {"subjects": 22})
    with pytest.raises(UserError, match="training and validation need 23 subjects"):
        splits.check_sizes(pool, few.draws("hippocampus_s3d"), "place")


def test_compared_arms_share_their_validation(config_dir):
    recipes = planned(config_dir).config.finetune
    watched = recipes["watched"]
    found = fairness._recipe_differences(watched, watched.model_copy(update={"validation": None, "select": "best"}))
    assert found == ["validation", "select (last, not best)"]


def test_no_subject_and_no_patient_is_on_two_sides():
    names = [f"s{n:02d}" for n in range(12)]
    order = {"dataset": "d", "fold": 0, "order": names, "patients": {"s01": "p", "s09": "p", "s10": "q", "s11": "q"}}
    train, val = splits.validation_subjects(order, set(names), "10", lambda n: 2, "training")
    assert (train, val) == ([*names[:1], *names[2:8]], ["s01", "s08", "s09"])  # s01 is the patient s09
    fewer, _ = splits.validation_subjects(order, set(names[:8]), "6", lambda n: 2, "training")
    assert set(fewer) <= {*train, "s01"}
    train, val = splits.validation_subjects(order, set(names), "8", lambda n: 2, "pool")
    assert (train, val) == (names[:8], ["s08", "s10"])
    with pytest.raises(UserError, match="the pool has 3 usable subjects besides the 8 that train, and 4 are to validate"):
        splits.validation_subjects(order, set(names), "8", lambda n: 4, "pool")
