import os
import signal
import subprocess
import sys

import pytest
from safetensors.torch import load_file

import tiny
from brainpretrain.errors import UserError
from brainpretrain.files import read_json
from commands import Command, end_all
from trainings import line_of, pretrain_here


@pytest.fixture(scope="module")
def encoder(cohort, tmp_path_factory):
    return pretrain_here(cohort, tmp_path_factory.mktemp("pretrained"), tiny.pretrain_config(10))


def killed_at_a_checkpoint(line, folder):
    """A training that gets SIGKILL once it has a checkpoint."""
    command = Command(line, folder / "said")
    command.until(lambda: list(folder.glob("work/*/step-*")))
    command.signal(signal.SIGKILL)
    command.ended()
    end_all()


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
    line = [*line_of(cohort, tmp_path, config, 4), "--execution", "channels_last"]
    killed_at_a_checkpoint(line, tmp_path)
    again = Command(line, tmp_path / "again")
    assert again.ended() == 0 and "resuming from" in again.said, again.said
    straight = pretrain_here(cohort, tmp_path / "straight", config, execution=["channels_last"])
    assert (tmp_path / "out" / "encoder.safetensors").read_bytes() == (straight / "encoder.safetensors").read_bytes()


def test_an_edited_recipe_starts_anew(cohort, tmp_path):
    killed_at_a_checkpoint(line_of(cohort, tmp_path, tiny.pretrain_config(500), 2), tmp_path)
    out = pretrain_here(cohort, tmp_path, tiny.pretrain_config(4))
    assert read_json(out / "run.json")["resumed_from"] == ""


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
    line = [sys.executable, "-m", "brainpretrain.cli", *line_of(cohort, tmp_path, tiny.pretrain_config(6), 100)]
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
