import shutil

import pytest
import torch
from safetensors.torch import load_file

import tiny
from brainpretrain import decoders
from brainpretrain.config.runs import finetune_run
from brainpretrain.errors import UserError
from brainpretrain.evaluation.model import load_model
from brainpretrain.files import read_tsv
from brainpretrain.training.finetune import load_decoder
from brainpretrain.training.log import read_log
from brainpretrain.weights import store as weights
from trainings import assert_same_training, finetune_here, pretrain_here, with_processes


@pytest.fixture(scope="module")
def encoder(cohort, tmp_path_factory):
    return pretrain_here(cohort, tmp_path_factory.mktemp("pretrained"), tiny.pretrain_config(10))


def test_both_arms_differ_by_the_encoder_alone(cohort, tmp_path, encoder):
    config = tiny.finetune_config(1, phases=[tiny.phase(1, lr=1e-12)])  # as good as the initial weights
    scratch = load_file(finetune_here(cohort, tmp_path / "a", config) / "model.safetensors")
    pretrained_out = finetune_here(cohort, tmp_path / "b", config, encoder / "encoder.safetensors")
    pretrained = load_file(pretrained_out / "model.safetensors")
    wanted = load_file(encoder / "encoder.safetensors")
    report = read_tsv(pretrained_out / "transfer.tsv")
    assert sorted(report["tensor"]) == sorted(wanted) and set(report["status"]) == {"loaded"}
    for name, tensor in pretrained.items():
        source = wanted[name.removeprefix("encoder.")] if name.startswith("encoder.") else scratch[name]
        assert torch.allclose(tensor, source, atol=1e-6), name
    assert not torch.allclose(scratch["encoder.stages.0.0.conv.weight"], pretrained["encoder.stages.0.0.conv.weight"])


def test_an_encoder_of_other_spacing_is_refused(cohort, tmp_path, encoder):
    config = tiny.finetune_config(1)
    config["preprocess"] = tiny.PREPROCESS | {"spacing_mm": [2, 2, 2]}
    with pytest.raises(
        UserError, match=r"pretrained with spacing_mm \[1.0, 1.0, 1.0\], the task is prepared with \[2.0, 2.0, 2.0\]"
    ):
        finetune_here(cohort, tmp_path, config, encoder / "encoder.safetensors")


def test_a_decoder_is_transferred_but_for_its_last_layer(tmp_path):
    run = finetune_run(tiny.finetune_config(1, transfer="encoder_decoder"), "test")
    network = decoders.build_network(tiny.BACKBONE, 1, 2)
    pretrained = decoders.build("unet", network.encoder, 1, convs_per_stage=1, skips=True)
    wanted, own = pretrained.state_dict(), {name: tensor.clone() for name, tensor in network.decoder.state_dict().items()}
    weights.save(tmp_path / "decoder", wanted, {})
    report = load_decoder(network, tmp_path / "decoder", run)
    assert {row["tensor"] for row in report if row["status"] == "new"} == {"decoder.head.weight", "decoder.head.bias"}
    for name, tensor in network.decoder.state_dict().items():
        assert torch.equal(tensor, own[name] if name.startswith("head.") else wanted[name]), name


def test_a_decoder_that_does_not_fit_or_is_not_there_is_refused(cohort, tmp_path, encoder):
    config = tiny.finetune_config(1, transfer="encoder_decoder")
    with pytest.raises(UserError, match=r"the decoder was not loaded, 2 of [\s\S]* other shape: stages.0.convs.0.conv.weight"):
        finetune_here(cohort, tmp_path, config, encoder / "encoder.safetensors")  # pretrained without skip connections
    for suffix in (".safetensors", ".json"):
        shutil.copy(encoder / f"encoder{suffix}", tmp_path)
    with pytest.raises(UserError, match="the pretraining left no decoder"):
        finetune_here(cohort, tmp_path, config, tmp_path / "encoder.safetensors")


def test_a_decoder_phase_leaves_the_encoder_alone(cohort, tmp_path, encoder):
    config = tiny.finetune_config(3, phases=[tiny.phase(3, train="decoder")])
    out = finetune_here(cohort, tmp_path, config, encoder / "encoder.safetensors")
    model, wanted = load_file(out / "model.safetensors"), load_file(encoder / "encoder.safetensors")
    assert all(torch.equal(model[f"encoder.{name}"], tensor) for name, tensor in wanted.items())


def test_finetuning_learns_the_ball(cohort, tmp_path):
    out = finetune_here(cohort, tmp_path, tiny.finetune_config(100))
    rows = read_log(out / "log.csv")
    assert len(rows) == 20 and float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    _, facts = weights.load(out / "model")
    assert facts["train_subjects"] == ["s0", "s1"] and facts["task"]["labels"] == {"ball": [1]} and facts["classes"] == ["ball"]


def test_two_processes_finetune_as_one_does(tmp_path):
    cohort = tiny.make(tmp_path / "cohort", ring=True)
    settings = tiny.finetune_config(6, optimizer=tiny.OPTIMIZER | {"eps": 1e-3}, phases=[tiny.phase(6, lr=1e-3)])
    settings["recipe"]["validation"] = {"subjects": 1, "taken_from": "pool", "patches": 5, "every_steps": 3}
    settings["task"] = tiny.SEGMENTATION | {"ignore": [2]}  # so that samples differ in the number of voxels that count
    one = finetune_here(cohort, tmp_path / "one", settings, log_every=3)
    two = with_processes(cohort, tmp_path / "two", settings, 2, "finetune")
    assert_same_training(one, two, "model.safetensors")
    dice = [[float(row["val_dice"]) for row in read_log(out / "log.csv")] for out in (one, two)]
    assert dice[0] == pytest.approx(dice[1], abs=2e-3)  # of 20,000 voxels few have two classes that are nearly even


def test_deep_supervision_trains_every_output_and_predicts_with_one(cohort, tmp_path):
    config = tiny.finetune_config(40)
    config["backbone"] = tiny.BACKBONE | {"decoder_options": {"convs_per_stage": 1, "skips": True, "heads": 3}}
    out = finetune_here(cohort, tmp_path, config)
    rows = read_log(out / "log.csv")
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    network, _ = load_model(out / "model")
    assert network(torch.rand(1, 1, 16, 16, 16, device=next(network.parameters()).device)).shape == (1, 2, 16, 16, 16)
    assert {f"decoder.{name}.weight" for name in ("head", "coarse_heads.0", "coarse_heads.1")} <= set(network.state_dict())
