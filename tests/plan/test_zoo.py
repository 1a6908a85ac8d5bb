"""The study of published encoders on one's own labelled data, and the page that it ends in."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from brainpretrain import cli, config
from brainpretrain.errors import UserError
from brainpretrain.files import write_json
from brainpretrain.plan import checks, fairness, specs, tables, zoo
from brainpretrain.report import printers
from brainpretrain.report import zoo as page
from helpers import ROOT

SHARED = {"corpus": "brains45k"}
NAMES = [("openmind_mae", "resenc_l"), ("openmind_s3d", "resenc_l"), ("openmind_mae", "primus_m"), ("amaes_released", "unet_b"),
         ("brainsegfounder", "swinunetr"), ("monai_swinunetr", "swinunetr")]  # fmt: skip


@pytest.fixture(scope="module")
def entries():
    return config.load(ROOT / "config")


def study(entries, names=NAMES, pool=40, largest=(180.0, 220.0, 90.0)):
    return zoo.study(entries, {"like": "hippocampus"}, names, pool, largest, SHARED)


def test_every_encoder_is_compared_with_its_network_on_its_own_terms(entries, tmp_path):
    content, left = study(entries)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    plan = tables.make(config.load(ROOT / "config", {"study": str(path)}))
    fairness.check(plan)
    checks.check(plan)
    assert specs.zoo_tables(plan) == ["zoo_openmind", "zoo_amaes"]
    for table in plan.tables.values():
        assert {row.n_train for row in table.rows} == {"5", "10", "20"} and len(table.seeds) == len(table.folds) == 3
        for row in table.rows:
            if row.init != "scratch":
                release, task, recipe = (
                    plan.config.weights[row.init],
                    plan.config.tasks[table.columns[0].task],
                    plan.config.finetune[row.recipe],
                )
                assert (task.preprocess, recipe.intensity) == (release.preprocess, release.intensity)
                assert table.baseline_of(row).init == "scratch" and not row.besides
    assert content["finetune"]["zoo_resenc_l_openmind"]["patch_size"] == [160, 160, 96]  # cut to the volumes, in steps of 32
    assert [line.partition(":")[0] for line in left] == ["brainsegfounder", "monai_swinunetr"]


def test_few_cases_and_no_encoder_are_refused(entries):
    content, _ = study(entries, pool=12)
    assert {n for row in content["tables"]["zoo_amaes"]["rows"] for n in row["n_train"]} == {5, 10}
    with pytest.raises(UserError, match="the smallest budget needs 7"):
        study(entries, pool=6)
    with pytest.raises(UserError, match=r"none is at hand[\s\S]*encoders --get"):
        study(entries, names=[])
    with pytest.raises(
        UserError, match=r"no encoder can be compared on these data:\s+brainsegfounder: reads T1w and T2w together"
    ):
        study(entries, names=[("brainsegfounder", "swinunetr")])


def test_the_study_of_the_repository_is_what_the_command_writes(entries):
    written = yaml.safe_load((ROOT / "config" / "studies" / "zoo.yaml").read_text())
    names = [("amaes_released", "unet_b"), ("openmind_mae", "resenc_l"), ("openmind_mae", "primus_m"), ("fomo300k", "resenc_l")]
    content, _ = zoo.study(entries, {"like": "hippocampus"}, names, 156, (43.0, 59.0, 47.0), SHARED)
    assert content == written


def test_the_command_reads_labelled_data_of_ones_own(tmp_path, capsys):
    folder, out = tmp_path / "Dataset001_Mine", tmp_path / "zoo.yaml"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    voxels = np.arange(20**3, dtype=np.int16).reshape(20, 20, 20) % 7
    for number in range(12):
        nib.save(nib.Nifti1Image(voxels + number, np.eye(4)), folder / "imagesTr" / f"case_{number:03d}_0000.nii.gz")
        nib.save(nib.Nifti1Image((voxels > 5).astype(np.uint8), np.eye(4)), folder / "labelsTr" / f"case_{number:03d}.nii.gz")
    facts = {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "lesion": 1}, "numTraining": 12, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", facts)
    line = [
        "zoo",
        "--data",
        str(folder),
        "--config-folder",
        str(ROOT / "config"),
        "--encoders",
        "openmind_mae/resenc_l",
        "--out",
        str(out),
    ]
    assert cli.main(line) == 0, capsys.readouterr().err
    tables.make(config.load(ROOT / "config", {"study": str(out)}))


# ------------------------------------------------------------------------------------ the page


def frames(**changes):
    arm = {"task": "t", "cohort": "test", "backbone": "resenc_l", "recipe": "r"}
    verdict = {"delta": 0.02, "delta_low": 0.01, "delta_high": 0.03, "verdict": "helps", "to_decide": ""}
    lines = [
        arm | {"init": "openmind_mae", "n_train": 20} | verdict,
        arm | {"init": "fomo25", "n_train": 20} | verdict | {"delta": 0.03} | changes,
        arm | {"init": "fomo25", "n_train": 5} | verdict | {"delta": 0.09},
        arm | {"init": "other-on-mine", "n_train": 20} | verdict | {"delta": 0.5},
    ]
    cost = {"finetune_hours": 1.5, "tuning_hours": 3.0, "hardware": "GPU"}
    return pd.DataFrame(lines), pd.DataFrame([{k: line[k] for k in (*arm, "init", "n_train")} | cost for line in lines])


def test_the_page_names_the_winner_its_interval_and_its_licence(entries):
    releases = {
        n: entries.weights[n].model_dump(mode="json", include={"licence", "page", "citation", "forbids"})
        for n in ("fomo25", "openmind_mae")
    }
    spec = next(iter(tables.make(config.load(ROOT / "config", {"study": "zoo"})).tables.values()))
    judged, costs = frames()
    table = page.build([judged], [costs], releases)
    assert list(table["encoder"]) == ["fomo25", "fomo25", "openmind_mae"] and set(table["finetune_hours"]) == {1.5}
    said = page.answer(table, spec)
    assert (
        "'fomo25' (resenc_l) helps most, with 20 labelled cases: +3.00" in said and "+1.00" in said and "commercial use" in said
    )
    text = printers.markdown(page.grid(table, spec))
    assert said in text.replace("\\", "") and "choosing the rate" in text and "nothing" in text
    judged, costs = frames(verdict="undecided", to_decide="about 9 draws")
    said = page.answer(page.build([judged], [costs], releases), spec)
    assert said.startswith("'openmind_mae'") and "Its licence: CC BY 4.0." in said
    nothing = judged.assign(verdict="undecided")
    assert "No encoder is shown to help" in page.answer(page.build([nothing], [costs], releases), spec)
