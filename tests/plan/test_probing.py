"""Tables of linear probes beside those that ask for them."""

import pytest

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.plan import specs, tables

STUDY = """title: t
seed: 0
folds: 3
protocol: PROTOCOL
build: [demo]
finetune:
  mine: {like: fair, deep_supervision: finest, augmentation_scratch: amaes_finetune}
tables:
  demo:
    title: Demo
    columns: [{title: BraTS, task: brats21_flair, cohort: test}]
    corpus: brains45k
    recipe: mine
    n_train: 20
    probe: true
    margin: 1
    rows:
      - {title: small, backbone: unet_b, n_train: N_TRAIN}
      - {title: pretrained, backbone: unet_b, init: amaes, n_train: N_TRAIN, baseline: small}
"""


def made(config_dir, protocol="paper", n_train="[10, 20, all]", **more):
    text = STUDY.replace("PROTOCOL", protocol).replace("N_TRAIN", n_train)
    for old, new in more.values():
        assert old in text
        text = text.replace(old, new)
    (config_dir / "studies/mine.yaml").write_text(text)
    return tables.make(config.load(config_dir, {"study": "mine"}))


def test_a_probe_is_a_table_of_frozen_encoders_with_a_linear_readout(config_dir):
    plan = made(config_dir)
    spec = plan.tables["demo_probe"]
    assert [row.arm for row in spec.rows] == [
        ("unet_b", init, "mine_probe", "20") for init in ("scratch", "amaes-on-brains45k")
    ] and spec.rows[1].against == spec.rows[0].arm  # fmt: skip
    assert (spec.title, spec.probe, spec.margin) == ("Demo: linear probe of the frozen encoder", True, 1)
    assert not any(row.besides for row in spec.rows)  # though the fine-tunings are augmented as in the paper
    run = specs.finetune_run(plan.config, plan.table_evaluations(spec)[0].arm, 0).plain()
    (phase,) = run["recipe"]["phases"]
    assert (phase["steps"], phase["lr"], phase["train"]) == (2500, 1e-2, "decoder")
    assert run["backbone"]["decoder"] == "linear" and "deep_supervision" not in run["recipe"]
    assert specs.has_encoders(plan, "demo") and not specs.has_encoders(plan, "demo_probe")


def test_without_the_switch_nothing_is_added(config_dir):
    plan = made(config_dir, a=("    probe: true\n", ""))
    assert (
        list(plan.tables) == ["demo"]
        and not specs.has_encoders(plan, "demo")
        and "probe" not in specs.as_json(plan.tables["demo"])
    )


def test_rates_of_probes_are_chosen_where_those_of_fine_tunings_are(config_dir):
    plan = made(config_dir, a=("augmentation_scratch: amaes_finetune", "lr_grid: [1, 2]"), protocol="fair")
    assert specs.grids(plan, "demo_probe") == {"mine_probe": [0.0033, 0.01, 0.03]}
    assert plan.tables["demo_probe"].seeds == (0, 1, 2) and specs.has_encoders(plan, "demo")


@pytest.mark.parametrize(("n_train", "probed"), [("[10, 40]", "40"), ("all", "all"), ("[all, 5]", "5")])
def test_a_probe_has_the_rows_of_one_number_of_cases(config_dir, n_train, probed):
    plan = made(config_dir, n_train=n_train, a=("like: fair,", "like: amaes,"))
    assert {row.n_train for row in plan.tables["demo_probe"].rows} == {probed}


def test_names_of_probes_are_taken(config_dir):
    with pytest.raises(UserError, match=r"'mine_probe' has the name of a probe of the table 'demo'"):
        made(config_dir, a=("finetune:\n", "finetune:\n  mine_probe: {like: amaes}\n"))
