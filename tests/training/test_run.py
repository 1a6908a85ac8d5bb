import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tiny
from brainpretrain import config, pretext
from brainpretrain.errors import UserError
from brainpretrain.evaluation.model import load_model
from brainpretrain.files import read_json, read_tsv
from brainpretrain.training import run as training
from brainpretrain.training.callbacks import read_log
from brainpretrain.weights import store as weights
from helpers import ROOT


def run_of(folder, **changes):
    options = {
        "devices": 1,
        "nodes": 1,
        "threads": 1,
        "workers": 0,
        "save_every": 1000,
        "tensorboard": False,
        "max_idle": 3,
    } | changes
    return training.Run(folder / "out", folder / "work", **options)


def pretrain_here(cohort, folder, config, **changes):
    training.pretrain(cohort.corpus, cohort.data, config, run_of(folder, **changes))
    return folder / "out"


def finetune_here(cohort, folder, config, init=None):
    training.finetune(read_tsv(cohort.table), cohort.folder, cohort.split, init, config, run_of(folder, log_every=5))
    return folder / "out"


def command(cohort, folder, config, save_every):
    return [
        sys.executable, "-m", "brainpretrain.cli", "pretrain", "--corpus", str(cohort.corpus), "--data", str(cohort.data),
        "--config", json.dumps(config), "--save-every", str(save_every), "--work", str(folder / "work"), "--out", str(folder / "out"),
    ]  # fmt: skip


def start_and_wait_for_step(cohort, folder, config, save_every, step):
    """A training in a process of its own, once it has a checkpoint at or behind `step`."""
    process = subprocess.Popen(
        command(cohort, folder, config, save_every), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 90
    while not any(int(path.name[5:]) >= step for path in folder.glob("work/*/step-*")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    return process


@pytest.fixture(scope="module")
def encoder(cohort, tmp_path_factory):
    return pretrain_here(cohort, tmp_path_factory.mktemp("pretrained"), tiny.pretrain_config(10))


def test_pretraining_leaves_all_its_results_and_no_work(encoder):
    names = sorted(path.name for path in encoder.iterdir() if path.name != "runs")
    assert names == [
        "config.yaml",
        "encoder.json",
        "encoder.safetensors",
        "history.jsonl",
        "log.csv",
        "reconstruction.npz",
        "run.json",
        "schedule.tsv",
    ]
    assert not any((encoder.parent / "work").iterdir())
    run = read_json(encoder / "run.json")
    kept = encoder / "runs" / run["fingerprint"]
    assert sorted(path.name for path in kept.iterdir()) == names
    assert all((kept / name).samefile(encoder / name) for name in names)
    assert {"commit", "torch", "hardware", "seconds", "peak_memory_gb", "parameters", "patches_per_s", "data_wait"} <= set(run)
    assert (run["steps"], run["volumes"], run["val_volumes"], run["subjects"]) == (10, 5, 1, 6)
    assert read_json(encoder / "encoder.json")["datasets"] == {"tiny": {"subjects": 6, "volumes": 6}}
    with np.load(encoder / "reconstruction.npz") as panels:
        assert panels["input"].shape == (1, 16, 16) and panels["hidden"].dtype == bool and list(panels["names"]) == ["s5_T1w"]


def test_the_log_has_a_row_per_epoch_with_baselines_and_validation(encoder):
    rows = read_log(encoder / "log.csv")
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10]  # 5 training volumes, batch 2: 2 steps per epoch
    assert {"loss", "val_loss", "loss_zero", "loss_mean", "lr", "patches_per_s", "data_wait", "peak_memory_gb"} <= set(rows[0])
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])


def test_columns_of_validation_stand_from_the_first_row_on(cohort, tmp_path):
    pretrain_here(cohort, tmp_path, tiny.pretrain_config(8, val_every_epochs=2))
    rows = read_log(tmp_path / "out" / "log.csv")
    assert [row["val_loss"] != "" for row in rows] == [False, True, False, True]


def test_validation_sees_the_same_patches_and_masks_in_every_epoch(encoder):
    """What guesses without learning has the same error each time; in training it has not."""
    rows = read_log(encoder / "log.csv")
    for name in ("loss_zero", "loss_mean"):
        assert len({row[f"val_{name}"] for row in rows}) == 1 < len({row[name] for row in rows})


def test_the_same_training_gives_the_same_bits_whatever_the_machine_does(cohort, tmp_path, encoder):
    again = pretrain_here(cohort, tmp_path, tiny.pretrain_config(10), workers=1, save_every=3)
    assert (again / "encoder.safetensors").read_bytes() == (encoder / "encoder.safetensors").read_bytes()


def test_activation_checkpointing_gives_the_same_bits(cohort, tmp_path, encoder):
    again = pretrain_here(cohort, tmp_path, tiny.pretrain_config(10), execution=["checkpointing"])
    assert (again / "encoder.safetensors").read_bytes() == (encoder / "encoder.safetensors").read_bytes()
    assert read_json(again / "run.json")["execution"] == ["checkpointing"]


def test_channels_last_trains_alike(cohort, tmp_path, encoder):
    again = pretrain_here(cohort, tmp_path, tiny.pretrain_config(10), execution=["channels_last"])
    found, wanted = (load_file(folder / "encoder.safetensors") for folder in (again, encoder))
    for name, tensor in wanted.items():
        if name.endswith("conv.weight"):  # a bias in front of a norm has no effect, so its updates are rounding
            assert (found[name] - tensor).abs().max() < 1e-3, name  # after 10 steps of about 1e-2


def test_channels_last_survives_an_interruption(cohort, tmp_path):
    """The state of a fused optimiser comes back in another memory layout than that of the weights."""
    config = tiny.pretrain_config(60)
    line = [*command(cohort, tmp_path, config, 4), "--execution", "channels_last"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("work/*/step-*")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert "resuming from" in subprocess.run(line, capture_output=True, text=True, check=True).stdout
    straight = pretrain_here(cohort, tmp_path / "straight", config, execution=["channels_last"])
    assert (tmp_path / "out" / "encoder.safetensors").read_bytes() == (straight / "encoder.safetensors").read_bytes()


def test_an_edited_recipe_starts_anew(cohort, tmp_path):
    process = start_and_wait_for_step(cohort, tmp_path, tiny.pretrain_config(500), save_every=2, step=4)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    out = pretrain_here(cohort, tmp_path, tiny.pretrain_config(4))
    assert read_json(out / "run.json")["resumed_from"] == ""


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
    with pytest.raises(UserError, match=r"pretrained with spacing_mm \[1, 1, 1\], the task is prepared with \[2, 2, 2\]"):
        finetune_here(cohort, tmp_path, config, encoder / "encoder.safetensors")


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


def with_processes(cohort, folder, config, count, kind="pretrain"):
    """A training of `count` processes, started as by hand; its output folder."""
    if kind == "pretrain":
        line = command(cohort, folder, config, 1000)
    else:
        line = [sys.executable, "-m", "brainpretrain.cli", *tiny.finetune_line(cohort, config, folder, "--log-every", "3")]
    done = subprocess.run([*line, "--devices", str(count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(folder / "out" / "run.json")["devices"] == count
    return folder / "out"


def assert_same_training(one, two, weights_file):
    """Up to the order of sums in floating point."""
    rows = [read_log(out / "log.csv") for out in (one, two)]
    assert len(rows[0]) == len(rows[1]) > 1
    names = [name for name in rows[0][0] if "loss" in name]
    for left, right in zip(*rows, strict=True):
        assert [float(left[name]) for name in names] == pytest.approx([float(right[name]) for name in names], rel=1e-4)
    tensors = [load_file(out / weights_file) for out in (one, two)]
    for name, tensor in tensors[0].items():
        assert torch.allclose(tensor, tensors[1][name], rtol=0, atol=2e-4), name


@pytest.mark.parametrize("method", pretext.names())
def test_two_processes_pretrain_as_one_does(cohort, tmp_path, method):
    options = next(dict(entry.options) for entry in config.load(ROOT / "config").pretexts.values() if entry.method == method)
    optimizer = tiny.OPTIMIZER | {"eps": 1e-3}  # Adam's first steps would blow up differences in the last digit
    recipe = {"method": method, "options": options, "optimizer": optimizer, "phases": [tiny.phase(4, lr=1e-3)]}
    one, two = (with_processes(cohort, tmp_path / str(count), tiny.pretrain_config(4, **recipe), count) for count in (1, 2))
    assert_same_training(one, two, "encoder.safetensors")


def test_two_processes_finetune_as_one_does(cohort, tmp_path):
    settings = tiny.finetune_config(6, optimizer=tiny.OPTIMIZER | {"eps": 1e-3}, phases=[tiny.phase(6, lr=1e-3)])
    settings["task"] = tiny.TASK | {"labels": {"ball": [1]}, "ignore": [0]}  # so that samples differ in what counts
    one, two = (with_processes(cohort, tmp_path / str(count), settings, count, "finetune") for count in (1, 2))
    assert_same_training(one, two, "model.safetensors")


def test_deep_supervision_trains_every_output_and_predicts_with_one(cohort, tmp_path):
    config = tiny.finetune_config(40)
    config["backbone"] = tiny.BACKBONE | {"decoder_options": {"convs_per_stage": 1, "skips": True, "heads": 3}}
    out = finetune_here(cohort, tmp_path, config)
    rows = read_log(out / "log.csv")
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    network, _ = load_model(out / "model")
    assert network(torch.rand(1, 1, 16, 16, 16, device=next(network.parameters()).device)).shape == (1, 2, 16, 16, 16)
    assert {f"decoder.{name}.weight" for name in ("head", "coarse_heads.0", "coarse_heads.1")} <= set(network.state_dict())


def test_fewer_processes_than_devices_are_an_error(cohort, tmp_path, monkeypatch):
    # a Slurm step with one task: Lightning then trains with one process, whatever `devices` says
    for name, value in {
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "x",
        "SLURM_JOB_ID": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((UserError, ValueError), match=r"1 process\(es\) run, but 2|devices"):
        pretrain_here(cohort, tmp_path, tiny.pretrain_config(2), devices=2)


@pytest.mark.parametrize(
    ("precision", "patch", "stride", "message"),
    [("16-mixed", 128, 16, "needs a GPU"), ("bf16-mixed", 32, 16, "wrong for a coarsest feature map of 2 voxels")],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes both")
def test_what_a_cpu_cannot_compute_is_refused(precision, patch, stride, message):
    with pytest.raises(UserError, match=message):
        training.check_precision(precision, [patch] * 3, stride)
    training.check_precision("32-true", [patch] * 3, stride)
    training.check_precision("bf16-mixed", [64] * 3, 16)


@pytest.mark.parametrize("size", [3, 4])
def test_bf16_convolutions_are_right_where_they_are_allowed(size):
    torch.manual_seed(0)
    conv, x = torch.nn.Conv3d(64, 64, 3, padding=1), torch.randn(2, 64, size, size, size)
    gradients = []
    for enabled in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = conv(x)
        y.backward(torch.ones_like(y))
        gradients.append(conv.weight.grad.clone())
    assert torch.allclose(*gradients, rtol=0, atol=0.03 * gradients[0].abs().max())


def test_tensorboard_is_one_switch(cohort, tmp_path):
    out = pretrain_here(cohort, tmp_path, tiny.pretrain_config(4), tensorboard=True)
    (events,) = (out / "tensorboard").glob("events.*")
    assert events.stat().st_size > 200


def test_a_terminal_gets_a_progress_bar_and_no_lines(cohort, tmp_path):
    """In a pseudo-terminal, as a user at a shell sees it."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    line = command(cohort, tmp_path, tiny.pretrain_config(6), save_every=100)
    process = subprocess.Popen(line, stdout=slave, stderr=slave, env=os.environ | {"TERM": "xterm"})
    os.close(slave)
    said = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        said += piece
    assert process.wait() == 0, said.decode()
    assert "Epoch 2: 100%" in said.decode() and "loss=0." in said.decode()
    assert "epoch 1  step" not in said.decode()
