"""Rules of intensities from pretraining to scores: training, prediction of the workflow and of files see the same values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from brainpretrain import cli, scales
from brainpretrain.augment.policy import Policy
from brainpretrain.cohorts.cases import label_lookup, labelled_cases
from brainpretrain.config.sections import FinetuneRecipe
from brainpretrain.decoders import build_network
from brainpretrain.errors import UserError
from brainpretrain.evaluation.images import prepare
from brainpretrain.evaluation.inference import sliding_window
from brainpretrain.evaluation.model import scaling
from brainpretrain.files import read_json, read_tsv, write_json
from brainpretrain.training.finetune import intensity_rule
from brainpretrain.training.modules import Finetuning
from brainpretrain.training.samples import FinetunePatches, PretrainPatches, collate
from brainpretrain.weights.cards import card
from models import WINDOW, labels_of, predict
from pairs import run
from trainings import finetune_here, pretrain_here

LOOKUP = label_lookup({"ball": [1]}, [])


def case_of(cohort, name):
    (case,) = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])[name]
    return case


@pytest.fixture(scope="module")
def encoder(cohort, tmp_path_factory):
    return pretrain_here(cohort, tmp_path_factory.mktemp("zscored"), tiny.pretrain_config(2, intensity="zscore"))


@pytest.fixture(scope="module")
def model(cohort, encoder, tmp_path_factory):
    config = tiny.finetune_config(2, intensity="zscore")
    return finetune_here(cohort, tmp_path_factory.mktemp("model"), config, encoder / "encoder.safetensors")


@pytest.mark.parametrize("name", ["zscore", "ct"])
@pytest.mark.parametrize("patch", [[24, 20, 24], [16, 16, 16]], ids=["padded", "inside"])
def test_training_and_prediction_see_the_same_values_voxel_by_voxel(cohort, name, patch):
    case = case_of(cohort, "s0")
    rule = intensity_rule([case], [LOOKUP], name)
    patches = FinetunePatches([case], [LOOKUP], patch, Policy({}), 0.0, 0, rule)
    recipe = FinetuneRecipe.model_validate(tiny.finetune_config(1)["recipe"])
    module = Finetuning(build_network(tiny.BACKBONE, 1, 2), recipe, Policy({}), [])
    trained, _ = module.augmented(collate([patches[0]]))

    seen = []

    def remember(x):
        seen.append(x.clone())
        return x

    network = build_network(tiny.BACKBONE, 1, 2)
    network.forward = remember
    image = torch.from_numpy(case.image().astype(np.float32))[None]
    sliding_window(scaling(network, rule.of_rows(case.rows, case.folder)), image, patch, 0.95, "constant", 1, [])
    windows = [window for batch in seen for window in batch]
    assert any(torch.equal(window, trained[0]) for window in windows)
    background = scales.apply(torch.zeros(1, 1, 1, 1), torch.from_numpy(rule.of_rows(case.rows, case.folder)))
    assert background.item() < -0.5  # where a patch reaches out of the volume there is its background, not 0
    assert patch[0] < 24 or (trained[0, 0, 0] == background.item()).all()


def test_a_file_is_scaled_as_its_stored_volume(cohort):
    facts = tiny.finetune_config(1, intensity="zscore")
    case = case_of(cohort, "s2")
    image, _, _, scale = prepare([cohort.raw / "s2_T1w.nii.gz"], facts)
    rule = scales.Rule("zscore")
    np.testing.assert_array_equal(scale, rule.of_rows(case.rows, case.folder))
    np.testing.assert_array_equal(image, case.image())
    seen = scales.apply(torch.from_numpy(image), torch.from_numpy(scale)).double()
    assert abs(seen.mean()) < 1e-3 and abs(seen.std() - 1) < 1e-3


def test_a_corpus_without_moments_takes_them_from_the_records(cohort):
    rows = read_tsv(cohort.corpus)
    assert "mean" not in rows
    items = PretrainPatches(rows, cohort.data, [16] * 3, Policy({}), 0, scales.Rule("zscore"))
    table = read_tsv(cohort.table).set_index("volume")
    for number in range(3):
        volume = items[number]["volume"].split("/")[-1]
        wanted = [0, 1, float(table.loc[volume, "mean"]), float(table.loc[volume, "std"])]
        np.testing.assert_array_equal(items[number]["scale"], np.array([wanted], np.float32))
    assert "scale" not in PretrainPatches(rows, cohort.data, [16] * 3, Policy({}), 0)[0]


@pytest.mark.parametrize(
    "record",
    [{"mean": "", "std": ""}, {}, {"mean": 0.3, "std": 0}, {"mean": "nan", "std": 1}, {"mean": 0.3, "std": 0.1, "checksum": "d"}],
)
def test_a_volume_without_moments_is_refused_with_the_command_that_helps(tmp_path, record):
    write_json(tmp_path / "d" / "volumes" / "a.json", {"record": {"checksum": "c"} | record})
    with pytest.raises(UserError, match=r"mean and deviation are not on record[\s\S]*brainpretrain repair .*d,"):
        scales.Rule("zscore").of_rows([{"volume": "a", "file": "d/volumes/a.b2nd", "checksum": "c"}], tmp_path)


def test_ct_is_scaled_by_the_foreground_of_all_training_cases():
    rng = np.random.default_rng(0)
    images = [(rng.random((2, 6, 5, 4)).astype(np.float16), rng.random((6, 5, 4)) < 0.4) for _ in range(3)]
    found = scales.of_foreground(images, "test")
    for channel in range(2):
        values = np.concatenate([image[channel][inside] for image, inside in images]).astype(np.float64)
        wanted = [*np.percentile(values, [0.5, 99.5]), values.mean(), values.std()]
        np.testing.assert_allclose(found[channel], wanted, rtol=1e-5)
    image = torch.from_numpy(images[0][0])
    lower, upper, mean, std = found[1]
    seen = scales.apply(image, torch.tensor(found))
    np.testing.assert_allclose(seen[1], (images[0][0][1].astype(np.float64).clip(lower, upper) - mean) / std, atol=1e-5)
    with pytest.raises(UserError, match="no training case has a labelled voxel"):
        scales.of_foreground([(images[0][0], np.zeros((6, 5, 4), bool))], "test")
    with pytest.raises(UserError, match="all labelled voxels have one intensity"):
        scales.of_foreground([(np.full((1, 6, 5, 4), 0.5, np.float16), np.ones((6, 5, 4), bool))], "test")


def test_a_zscored_encoder_says_so_everywhere(encoder, tmp_path):
    facts = read_json(encoder / "encoder.json")
    assert facts["intensity"] == "zscore" and "z-scores" in card(facts, None)
    assert "z-scores" not in card({key: value for key, value in facts.items() if key != "intensity"}, None)
    line = ["export", "--encoder", str(encoder), "--format", "nnunet", "--out", str(tmp_path / "small.pth")]
    assert cli.main(line) == 0
    (configuration,) = read_json(tmp_path / "small.json")["configurations"].values()
    assert configuration["normalization_schemes"] == ["ZScoreNormalization"]
    assert cli.main(["import", str(encoder / "encoder.safetensors"), "--out", str(tmp_path / "again")]) == 0
    assert read_json(tmp_path / "again" / "encoder.json")["intensity"] == "zscore"
    assert cli.main(["import", str(encoder / "encoder.safetensors"), "--intensity", "unit", "--out", str(tmp_path / "unit")]) == 0
    assert "intensity" not in read_json(tmp_path / "unit" / "encoder.json")
    with np.load(encoder / "reconstruction.npz") as saved:  # shown in stored intensities
        assert saved["target"].min() + 1e-5 >= 0 and saved["target"].max() < 1 + 1e-5


def test_an_encoder_of_another_rule_is_refused_unless_it_is_meant(cohort, encoder, tmp_path):
    with pytest.raises(UserError, match="pretrained with 'intensity: zscore', the task trains with 'intensity: unit'"):
        finetune_here(cohort, tmp_path / "a", tiny.finetune_config(1), encoder / "encoder.safetensors")
    finetune_here(cohort, tmp_path / "b", tiny.finetune_config(1, encoder_intensity="any"), encoder / "encoder.safetensors")


def test_from_pretraining_to_scores_with_z_scores(cohort, model, tmp_path):
    assert read_json(model / "model.json")["recipe"]["intensity"] == "zscore"
    of = ["--volumes", cohort.table, "--split", cohort.split, "--task", tiny.TASK, "--n-train", "2", "--cohort", "val"]
    of += ["--root", cohort.raw]
    out = tmp_path / "predictions"
    words = ["predict-cohort", "--model", model / "model.safetensors", *of, "--inference", WINDOW, "--out", out]
    assert run(*map(_word, words)) == 0
    image = cohort.raw / "s3_T1w.nii.gz"
    assert (
        predict(
            model,
            tmp_path / "files",
            image,
            options=["--overlap", "0.5", "--weights", "gaussian", "--batch", "2", "--mirror", "none"],
        )
        == 0
    )
    np.testing.assert_array_equal(labels_of(tmp_path / "files" / "s3_T1w_dseg.nii.gz"), labels_of(out / "s3.nii.gz"))
    names = dict.fromkeys(("study", "task", "cohort", "backbone", "init", "recipe", "n_train", "fold"), "x")
    words = ["evaluate", "--predictions", out, *of, "--run", names, "--out", tmp_path / "scores.tsv"]
    assert run(*map(_word, words)) == 0
    assert sorted(read_tsv(tmp_path / "scores.tsv")["subject"].unique()) == ["s2", "s3", "s4", "s5"]


def _word(word):
    return word if isinstance(word, dict) else str(word)
