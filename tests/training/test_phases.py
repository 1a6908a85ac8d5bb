"""Phases of a fine-tuning: what is frozen stays as it is, bit by bit; and what else a recipe says of stem, decoder and loss."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import tiny
from brainpretrain import decoders
from brainpretrain.files import read_json, read_tsv
from brainpretrain.training import checkpoints, losses, modules
from brainpretrain.training.log import read_log
from brainpretrain.weights import store as weights
from trainings import assert_same_training, finetune_here, pretrain_here, with_processes

ADAMW = tiny.OPTIMIZER | {"weight_decay": 1.0}  # a step of decay alone would show
SGD = {"name": "sgd", "weight_decay": 1.0, "momentum": 0.9, "nesterov": True}
STEM = "encoder.stages.0.0.conv."


@pytest.fixture(scope="module")
def encoder(cohort, tmp_path_factory):
    return pretrain_here(cohort, tmp_path_factory.mktemp("pretrained"), tiny.pretrain_config(10))


def parts(model):
    """Bytes of stem, rest of the encoder, and decoder of a state dict."""
    kinds = {name: "stem" if name.startswith(STEM) else name.split(".")[0] for name in model}
    assert set(kinds.values()) == {"stem", "encoder", "decoder"}
    return {
        kind: [model[name].cpu().numpy().tobytes() for name in sorted(model) if kinds[name] == kind]
        for kind in set(kinds.values())
    }


@pytest.mark.parametrize("optimizer", [ADAMW, SGD], ids=["adamw", "sgd"])
@pytest.mark.parametrize(
    ("train", "frozen"),
    [("decoder", {"stem", "encoder"}), ("decoder_and_stem", {"encoder"}), ("all_but_stem", {"stem"}), ("all", set())],
)
def test_neither_momentum_nor_decay_moves_what_is_frozen(cohort, tmp_path, monkeypatch, optimizer, train, frozen):
    """Frozen after a phase that left gradients, momentum and moments behind."""
    step, border = modules.Finetuning.training_step, {}

    def seen(self, batch, batch_idx):
        if self.global_step == 3:
            border.update(parts(self.network.state_dict()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(modules.Finetuning, "training_step", seen)
    phases = [tiny.phase(3, decay="constant", lr=1e-3), tiny.phase(3, decay="constant", lr=1e-3, train=train)]
    out = finetune_here(cohort, tmp_path, tiny.finetune_config(6, phases=phases, optimizer=optimizer))
    after = parts(load_file(out / "model.safetensors"))
    assert {kind for kind in border if border[kind] == after[kind]} == frozen


def sawtooth(**recipe):
    phases = [
        tiny.phase(4, warmup_steps=2, decay="poly", exponent=0.9, train="decoder"),
        tiny.phase(4, warmup_steps=4, decay="constant"),
        tiny.phase(4, decay="poly", exponent=0.9),
    ]
    return tiny.finetune_config(12, phases=phases, **recipe)


@pytest.mark.parametrize("optimizer", [ADAMW, SGD], ids=["adamw", "sgd"])
@pytest.mark.parametrize("step", [2, 4, 6])  # in the frozen phase, at its end, and behind it
def test_a_change_of_phase_survives_an_interruption(cohort, tmp_path, monkeypatch, encoder, optimizer, step):
    settings, init = sawtooth(optimizer=optimizer), encoder / "encoder.safetensors"
    straight = finetune_here(cohort, tmp_path / "straight", settings, init)
    train = modules.Finetuning.training_step

    def stopped(self, batch, batch_idx):
        if self.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, batch, batch_idx)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(modules.Finetuning, "training_step", stopped)
        finetune_here(cohort, tmp_path / "again", settings, init)
    again = finetune_here(cohort, tmp_path / "again", settings, init)
    assert read_json(again / "run.json")["resumed_from"] == checkpoints.name(step)
    assert (again / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    assert (again / "schedule.tsv").read_bytes() == (straight / "schedule.tsv").read_bytes()


def test_the_planned_learning_rates_stand_beside_the_logged_ones(cohort, tmp_path, encoder):
    out = finetune_here(cohort, tmp_path, sawtooth(), encoder / "encoder.safetensors")
    planned = read_tsv(out / "schedule.tsv", numbers=["step", "lr", "phase"])
    assert [*planned["step"]] == [*range(12)]
    assert [*planned["phase"]] == [1] * 4 + [2] * 4 + [3] * 4
    assert [*planned["train"]] == ["decoder"] * 4 + ["all"] * 8
    assert [*planned["lr"][:6]] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2 * 0.5**0.9, 2e-3, 4e-3], rel=1e-5)
    by_step = dict(zip(planned["step"], planned["lr"], strict=True))
    logged = {int(row["step"]): float(row["lr"]) for row in read_log(out / "log.csv")}  # after so many steps, so of the next one
    assert logged == pytest.approx({5: by_step[5], 10: by_step[10], 12: 0}, rel=1e-3)
    pretrained = read_tsv(encoder / "schedule.tsv", numbers=["step"])
    assert [*pretrained["step"]] == [*range(10)] and set(pretrained["train"]) == {"all"}


@pytest.mark.parametrize("stem", ["divide", "repeat", "random"])
def test_a_recipe_says_how_the_stem_is_repeated_over_sequences(cohort, tmp_path, encoder, stem):
    config = tiny.finetune_config(1, phases=[tiny.phase(1, train="decoder")], **({} if stem == "divide" else {"stem": stem}))
    config["task"] = tiny.SEGMENTATION | {"sequences": ["T1w", "FLAIR"]}
    table = read_tsv(cohort.table)
    other = table.assign(sequence="FLAIR", volume=table["volume"].str.replace("T1w", "FLAIR"), label_file="")
    both = pd.concat([table, other], ignore_index=True)
    out = finetune_here(cohort, tmp_path, config, encoder / "encoder.safetensors", log_every=1, table=both)
    status = read_tsv(out / "transfer.tsv").set_index("tensor")["status"]
    wanted = {"divide": "repeated, divided by 2", "repeat": "repeated", "random": "random"}[stem]
    assert {name: told for name, told in status.items() if told != "loaded"} == {"stages.0.0.conv.weight": wanted}
    found = load_file(out / "model.safetensors")[STEM + "weight"]
    one = load_file(encoder / "encoder.safetensors")["stages.0.0.conv.weight"]
    if stem == "random":
        scratch = load_file(
            finetune_here(cohort, tmp_path / "scratch", config, None, log_every=1, table=both) / "model.safetensors"
        )
        assert torch.equal(found, scratch[STEM + "weight"]) and not torch.equal(found[:, 0], one[:, 0])
    else:
        assert torch.equal(found, one.repeat(1, 2, 1, 1, 1) / (2 if stem == "divide" else 1))


def test_a_linear_probe_learns_what_a_frozen_encoder_shows(cohort, tmp_path, encoder):
    settings = tiny.finetune_config(60, phases=[tiny.phase(60, lr=0.1, train="decoder")])
    settings["backbone"] = tiny.BACKBONE | {"decoder": "linear", "decoder_options": {}}
    out = finetune_here(cohort, tmp_path, settings, encoder / "encoder.safetensors")
    rows = read_log(out / "log.csv")
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    tensors, facts = weights.load(out / "model")
    network = decoders.build_network(facts["backbone"], facts["in_channels"], 2)
    network.load_state_dict(tensors, strict=True)
    wanted = load_file(encoder / "encoder.safetensors")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.encoder.state_dict().items())


def test_every_loss_of_a_recipe_trains(cohort, tmp_path):
    first = [
        float(
            read_log(
                finetune_here(cohort, tmp_path / name, tiny.finetune_config(5, loss={"name": name, "smooth": 1e-3})) / "log.csv"
            )[0]["loss"]
        )
        for name in losses.KINDS
    ]
    assert len(set(first)) == len(losses.KINDS) and all(np.isfinite(first))


def test_two_processes_freeze_as_one_does(cohort, tmp_path):
    """An encoder that is frozen, freed, and frozen but for its stem for one step or for three."""
    phases = [tiny.phase(2, lr=1e-3, decay="constant", train=train) for train in ("decoder", "all")]
    short, long = (
        tiny.finetune_config(
            4,
            phases=[*phases, tiny.phase(steps, lr=1e-3, decay="constant", train="decoder_and_stem")],
            optimizer=ADAMW | {"eps": 1e-3},
        )
        for steps in (1, 3)
    )
    two = with_processes(cohort, tmp_path / "two", long, 2, "finetune")
    shorter = with_processes(cohort, tmp_path / "shorter", short, 2, "finetune")
    before, after = (parts(load_file(out / "model.safetensors")) for out in (shorter, two))
    assert {kind for kind in before if before[kind] == after[kind]} == {"encoder"}
    one = finetune_here(cohort, tmp_path / "one", long, log_every=3)
    assert_same_training(one, two, "model.safetensors")
