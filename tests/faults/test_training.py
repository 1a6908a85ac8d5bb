"""Faults of trainings: each is a real training that ends in a bad way, and the next one, which must end as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.faults import processes

import tiny
import workflow_fixture
from brainpretrain import cli
from brainpretrain.files import read_json, read_tsv, write_tsv
from brainpretrain.preprocess import frames
from brainpretrain.training import checkpoints, history, modules
from brainpretrain.training.callbacks import exit_code
from brainpretrain.training.log import read_log
from commands import PATIENCE_S, Command, end_all
from helpers import edit

STEPS, EVERY = 16, 4
CONFIG = tiny.pretrain_config(STEPS)


def arguments(cohort, folder, *options, config=CONFIG, every=EVERY, corpus=None) -> list[str]:
    return [
        "pretrain", "--corpus", str(corpus or cohort.corpus), "--data", str(cohort.data), "--config", json.dumps(config),
        "--save-every", str(every), "--work", str(folder / "work"), "--out", str(folder / "out"), *options,
    ]  # fmt: skip


def start(cohort, folder, *options, before=None, **changes) -> Command:
    return Command(arguments(cohort, folder, *options, **changes), folder / f"said{len(list(folder.glob('said*')))}", before)


def train(cohort, folder, capsys, *options, code=0, **changes) -> str:
    """The same here; what it printed."""
    capsys.readouterr()
    found = cli.main(arguments(cohort, folder, *options, **changes))
    said = "".join(capsys.readouterr())
    assert found == code, said
    return said


def saved(folder) -> list[int]:
    """Steps of the checkpoints; nothing half written lies beside them."""
    assert not list(folder.glob("work/*/.*.part.*"))
    return sorted(int(path.name[5:]) for path in folder.glob("work/*/step-*"))


def work_of(folder) -> Path:
    ((work),) = (folder / "work").iterdir()
    return work


def state_at_the_end(cohort, folder, capsys, **changes) -> dict:
    """Trains to the last step; its checkpoint. The results cannot be written, so that the checkpoint stays."""
    (folder / "out").write_text("a file where the results should go")
    with pytest.raises(OSError):
        cli.main(arguments(cohort, folder, **changes))
    (folder / "out").unlink()
    steps = changes.get("config", CONFIG)["recipe"]["phases"][0]["steps"]
    return checkpoints.SafeCheckpoints({}).load_checkpoint(work_of(folder) / checkpoints.name(steps))


def plain(node):
    """A tree that == compares, tensors bit for bit."""
    if isinstance(node, torch.Tensor):
        return str(node.dtype), tuple(node.shape), node.contiguous().numpy().tobytes()
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    return [plain(item) for item in node] if isinstance(node, list | tuple) else node


def assert_same(one: dict, two: dict) -> None:
    """Step, weights, optimiser, scheduler, and what is logged of an epoch, bit for bit."""
    for part in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers"):
        assert plain(one[part]) == plain(two[part]), part
    meters = [state["callbacks"]["Trace"]["meter"] for state in (one, two)]
    assert meters[0] == meters[1]


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    end_all()


@contextmanager
def limited(size: int):
    """No file that is written here grows beyond so many bytes."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


@pytest.fixture(scope="module")
def straight(cohort, tmp_path_factory):
    """The training that nothing happens to: folder with its results, and the state at its end."""
    folder = tmp_path_factory.mktemp("straight")
    (folder / "out").write_text("")
    with pytest.raises(OSError):
        cli.main(arguments(cohort, folder, every=STEPS))
    (folder / "out").unlink()
    state = checkpoints.SafeCheckpoints({}).load_checkpoint(work_of(folder) / checkpoints.name(STEPS))
    assert cli.main(arguments(cohort, folder, every=STEPS)) == 0
    return folder, state


@pytest.fixture
def finishes(cohort, straight, tmp_path, capsys):
    """Gives the same command again, and sees that all ends as without the fault. Returns what it said."""

    def again(folder=tmp_path, **changes) -> str:
        said = train(cohort, folder, capsys, **changes)
        wanted = straight[0] / "out"
        assert (folder / "out" / "encoder.safetensors").read_bytes() == (wanted / "encoder.safetensors").read_bytes()
        told = [
            [
                [value for name, value in row.items() if "loss" in name or name in ("epoch", "step", "lr")]
                for row in read_log(out / "log.csv")
            ]
            for out in (folder / "out", wanted)
        ]
        assert told[0] == told[1] and len(told[0]) == STEPS // 2
        assert not any((folder / "work").iterdir()) and not list((folder / "out").glob(".*"))
        return said

    return again


@pytest.fixture(scope="module")
def stopped(cohort, tmp_path_factory):
    """A training that was stopped with checkpoints of steps 4 and 8. Tests copy it."""
    folder = tmp_path_factory.mktemp("stopped")
    command = start(cohort, folder, before=partial(processes.signalled, 8, signal.SIGTERM))
    assert command.ended() == 143, command.said
    assert saved(folder) == [4, 8]
    return folder


@pytest.fixture
def copy(stopped, tmp_path):
    return Path(shutil.copytree(stopped, tmp_path / "copy"))


# ------------------------------------------------------------------------------------ killed


def test_32_killed_at_a_random_step_it_ends_in_the_same_state(cohort, straight, tmp_path, finishes, capsys):
    step = random.SystemRandom().randint(EVERY + 1, STEPS)
    command = start(cohort, tmp_path, before=partial(processes.signalled, step, signal.SIGKILL))
    assert command.ended() == -signal.SIGKILL, command.said
    last = (step - 1) // EVERY * EVERY
    assert saved(tmp_path)[-1] == last, f"killed at step {step}"
    assert_same(state_at_the_end(cohort, tmp_path, capsys), straight[1])
    said = capsys.readouterr().out
    assert re.search(
        rf"attempt 2: attempt 1 ended without a word at step \d+ \(killed.*; resuming from {checkpoints.name(last)}", said
    )
    finishes()
    run = read_json(tmp_path / "out" / "run.json")
    assert run["attempts"] == 3 and 0 <= run["redone_steps"] < EVERY


def test_32_what_a_network_draws_by_itself_is_drawn_again(cohort, tmp_path, monkeypatch, capsys):
    """Dropout knows no seed but that of torch."""
    step, interrupt = modules.Pretraining.training_step, []

    def with_dropout(self, batch, number):
        if interrupt and self.global_step == interrupt[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch | {"image": [F.dropout(image.float()) for image in batch["image"]]}, number)

    monkeypatch.setattr(modules.Pretraining, "training_step", with_dropout)
    config = tiny.pretrain_config(7)
    for name in ("straight", "again"):
        (tmp_path / name).mkdir()
    wanted = state_at_the_end(cohort, tmp_path / "straight", capsys, config=config, every=7)
    interrupt.append(4)
    with pytest.raises(SystemExit):
        cli.main(arguments(cohort, tmp_path / "again", config=config, every=7))
    interrupt.clear()
    torch.rand(3)  # another process would be elsewhere, too
    assert_same(state_at_the_end(cohort, tmp_path / "again", capsys, config=config, every=7), wanted)


@pytest.mark.parametrize("place", ["tensors", "json", "rename"])
def test_33_killed_while_it_saves_the_checkpoint_before_is_used(cohort, tmp_path, finishes, place):
    command = start(cohort, tmp_path, before=partial(processes.killed_while_saving, 8, place))
    assert command.ended() == -signal.SIGKILL, command.said
    (part,) = tmp_path.glob("work/*/.*.part.*")
    assert part.name.endswith(checkpoints.name(8)) and (part / "state.safetensors").exists()
    assert [path.name for path in tmp_path.glob("work/*/step-*")] == [checkpoints.name(4)]
    said = finishes()
    assert f"resuming from {checkpoints.name(4)}" in said and "damaged" not in said


# ------------------------------------------------------------------------------------ full disk


def test_34_a_disk_that_is_full_at_a_checkpoint_costs_this_checkpoint(cohort, tmp_path, finishes):
    command = start(cohort, tmp_path, before=partial(processes.limited_files, 20_000, step=7))
    assert command.ended() == 2
    place = work_of(tmp_path) / checkpoints.name(8)
    assert re.search(
        rf"error: disk full: it needs [\d.]+ kB, [\d.]+ [kMG]?B[ytes]* are free \(File too large\)\n  where: {place}",
        command.said,
    )
    assert "fix:   make room" in command.said and "Traceback" not in command.said
    assert saved(tmp_path) == [4]
    assert history.read(work_of(tmp_path))[-1]["line"].startswith("disk full")
    assert f"resuming from {checkpoints.name(4)}" in finishes()


def test_34_a_disk_that_is_full_at_the_log_ends_the_training_in_order(cohort, tmp_path, finishes, monkeypatch, capsys):
    step = modules.Pretraining.training_step

    def filled(self, batch, number):
        if self.global_step == 4:
            limits.enter_context(limited((work_of(tmp_path) / "log.csv").stat().st_size + 20))
        return step(self, batch, number)

    with monkeypatch.context() as patched, ExitStack() as limits:
        patched.setattr(modules.Pretraining, "training_step", filled)
        said = train(cohort, tmp_path, capsys, every=100, code=2)
    where = work_of(tmp_path) / "log.csv"
    assert re.search(rf"error: disk full: .*\(File too large\)\n  where: {where}\n  fix:   make room", said), said
    finishes()


def test_34_a_disk_that_is_full_where_the_output_goes_is_no_bug(cohort, tmp_path):
    """Of the command's own text; a log of Snakemake is such a file."""
    command = Command(arguments(cohort, tmp_path), tmp_path / "said", processes.full_output)
    assert command.ended() == 2
    assert re.search(r"error: disk full: .*\(No space left on device\)\n  where: /dev/full", command.said), command.said
    assert "Traceback" not in command.said


def test_34_a_disk_that_is_full_at_a_shard_costs_the_volume_being_written(cohort, tmp_path, capsys):
    whole = read_tsv(cohort.table)
    rows = whole[["volume", "subject", "patient", "session", "sequence", "subset", "site", "path", "label", "channel"]]
    write_tsv(tmp_path / "index.tsv", rows)
    line = [
        "shard", "--index", str(tmp_path / "index.tsv"), "--root", str(cohort.raw), "--recipe", json.dumps(tiny.PREPROCESS),
        "--shard", "0", "--n-shards", "1", "--max-rejected", "0", "--out", str(tmp_path / "new" / "shard000.tsv"),
    ]  # fmt: skip
    sizes = {path.name: path.stat().st_size for path in cohort.folder.glob("volumes/*.b2nd")}
    largest = max(sizes, key=lambda name: sizes[name])
    command = Command(line, tmp_path / "said", partial(processes.limited_files, sizes[largest] - 1))
    assert command.ended() == 2
    assert re.search(rf"error: disk full: it needs .*\n  where: .*volumes/{largest}", command.said), command.said
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "new" / "volumes").iterdir()}
    assert made and largest not in made and not any(name.startswith(".") for name in made)
    assert cli.main(line) == 0
    assert {name: (tmp_path / "new" / "volumes" / name).stat().st_mtime_ns for name in made} == made
    assert read_tsv(tmp_path / "new" / "shard000.tsv").to_dict("records") == whole.to_dict("records")


def test_34_a_disk_that_is_full_at_a_prediction_costs_no_other(cohort, tmp_path, capsys):
    assert cli.main(tiny.finetune_line(cohort, tiny.finetune_config(1), tmp_path, out="model")) == 0
    window = ["--overlap", "0.5", "--weights", "constant", "--batch", "2", "--mirror", "none", "--device", "cpu"]

    def line(*names):
        images = [str(cohort.raw / f"{name}_T1w.nii.gz") for name in names]
        return [
            "predict",
            *images,
            "--model",
            str(tmp_path / "model" / "model.safetensors"),
            "--out",
            str(tmp_path / "out"),
            *window,
        ]

    assert cli.main(line("s0")) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with limited(64):
        assert cli.main(line("s0", "s1")) == 2
    said = capsys.readouterr().err
    assert "1 of 2 cases were not predicted" in said and re.search(
        r"out/s1_T1w_dseg.nii.gz: disk full: it needs \d+ bytes, ", said
    ), said
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert cli.main(line("s0", "s1")) == 0
    assert "s0_T1w_dseg.nii.gz: kept" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ checkpoints


def cut(folder: Path) -> None:
    file = folder / "state.safetensors"
    os.truncate(file, file.stat().st_size * 2 // 3)


def flip(folder: Path) -> None:
    content = bytearray((folder / "state.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "state.safetensors").write_bytes(content)


def other_number(folder: Path) -> None:
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace('["global_step", 8]', '["global_step", 9]'))
    assert (folder / "state.json").read_text() != text


def empty(folder: Path) -> None:
    (folder / "state.json").write_text("")


def gone(folder: Path) -> None:
    (folder / "state.safetensors").unlink()


@pytest.mark.parametrize("damage", [cut, flip, other_number, empty, gone])
def test_35_a_damaged_newest_checkpoint_costs_one_interval(copy, finishes, damage):
    damage(work_of(copy) / checkpoints.name(8))
    said = finishes(copy)
    assert re.search(rf"checkpoint {checkpoints.name(8)} is damaged \(.+\); {checkpoints.name(4)} is used", said)
    assert re.search(rf"attempt 2: .*; resuming from {checkpoints.name(4)}, 4 step\(s\) are redone", said)
    assert read_json(copy / "out" / "run.json")["redone_steps"] == 4


def test_35_damaged_checkpoints_alone_are_said_and_the_training_begins_anew(copy, finishes):
    for folder in work_of(copy).glob("step-*"):
        cut(folder)
    said = finishes(copy)
    assert said.count("there is no other one") == 2 and "starting from step 0, 8 step(s) are redone" in said


def test_35_a_damaged_checkpoint_never_pushes_out_a_good_one(cohort, copy, capsys):
    """It is newer than the next one that is saved, and two are kept."""
    cut(work_of(copy) / checkpoints.name(8))
    command = start(cohort, copy, every=2, before=partial(processes.signalled, 6, signal.SIGTERM))
    assert command.ended() == 143, command.said
    assert saved(copy) == [4, 6]


def test_36_a_checkpoint_of_another_config_is_refused_with_what_differs(cohort, copy, tmp_path, capsys, finishes):
    config = tiny.pretrain_config(STEPS, phases=[tiny.phase(STEPS, lr=2e-2)])
    config["policy"] = config["policy"] | {"crop_factor": 1.0}
    command = start(cohort, tmp_path, config=config, before=partial(processes.signalled, 4, signal.SIGTERM))
    assert command.ended() == 143, command.said
    place = work_of(tmp_path) / checkpoints.name(9)
    shutil.copytree(work_of(copy) / checkpoints.name(8), place)
    for _ in range(2):
        said = train(cohort, tmp_path, capsys, config=config, code=2)
        assert f"where: {place}" in said and "fix:   delete this folder" in said
        assert re.findall(r"  (config\.\S+): (.*) there, (.*) here", said) == [
            ("config.recipe.phases.0.lr", "0.01", "0.02"),
            ("config.policy.crop_factor", "1.4142135624", "1.0"),
        ]
    assert place.exists() and (work_of(tmp_path) / checkpoints.name(4)).exists()
    shutil.rmtree(place)
    assert f"resuming from {checkpoints.name(4)}" in train(cohort, tmp_path, capsys, config=config)


# ------------------------------------------------------------------------------------ loader, memory, loss


def test_38_a_killed_loader_process_is_named_with_what_it_read(cohort, tmp_path, finishes):
    begun = time.monotonic()
    command = start(cohort, tmp_path, "--workers", "2", before=partial(processes.killed_while_reading, "s3_T1w"))
    assert command.ended() == 2 and time.monotonic() - begun < 60
    file = cohort.data / "tiny" / "r" / "volumes" / "s3_T1w.b2nd"
    # which signal it was torch tells, unless its queue notices first that the process is gone
    told = rf"error: a loader process was killed \((Killed|unknown signal)\) while it read tiny/s3_T1w\n  where: {re.escape(str(file))}"
    assert re.search(told, command.said), command.said
    assert "use fewer workers" in command.said and "Traceback" not in command.said.partition("error: ")[2]
    assert history.read(work_of(tmp_path))[-1]["line"].startswith("a loader process was killed")
    finishes()


def test_39_out_of_gpu_memory_says_which_batch_and_patch_to_try(cohort, tmp_path, monkeypatch, capsys, finishes):
    def step(self, batch, number):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patched:
        patched.setattr(modules.Pretraining, "training_step", step)
        said = train(cohort, tmp_path, capsys, code=2)
    assert (
        "error: out of memory with 2 patch(es) of 16x16x16 per device (CUDA out of memory. Tried to allocate 2.00 GiB.)" in said
    )
    assert "execution: [checkpointing]" in said and "global_batch: 1, or patch_size: [12, 12, 12]" in said
    finishes()


def test_39_out_of_memory_on_a_cpu_is_told_alike(cohort, tmp_path):
    config = tiny.pretrain_config(4, patch_size=[48, 48, 48])
    config["backbone"] = {"architecture": "unet", "options": tiny.BACKBONE["options"] | {"width": 64}}
    command = start(cohort, tmp_path, config=config, before=partial(processes.limited_memory, 2**26, 1))
    assert command.ended() == 2, command.said
    assert re.search(r"error: out of memory with 2 patch\(es\) of 48x48x48 per device \(.+\)\n", command.said), command.said
    assert "more memory (mem_mb)" in command.said and "global_batch: 1, or patch_size: [36, 36, 36]" in command.said


@pytest.fixture
def poisoned(cohort, tmp_path):
    """A corpus one volume of which holds NaN, as none that was preprocessed here can."""
    corpus, rows = tmp_path / "corpus.tsv", read_tsv(cohort.corpus)
    row = rows.index[rows["volume"] == "s3_T1w"][0]
    image = frames.load(cohort.data, rows.loc[row].to_dict()).copy()
    image[:] = np.nan
    folder = Path(shutil.copytree(cohort.data, tmp_path / "data"))
    frame = frames.compress(image)
    frames.write(folder / rows.at[row, "file"], frame)
    rows.loc[row, "checksum"] = frames.checksum_of(frame)
    write_tsv(corpus, rows)
    return tiny.Cohort(tmp_path), corpus


def test_40_a_loss_of_nan_ends_the_training_with_the_volumes_of_the_batch(poisoned, tmp_path, capsys):
    cohort, corpus = poisoned
    said = train(cohort, tmp_path, capsys, "--max-nonfinite-steps", "3", corpus=corpus, every=1, code=2)
    problem = re.search(
        r"error: the loss is not finite at step (\d+), the (\d+)\. in a row; it began at step (\d+) with (.*)\n", said
    )
    assert problem, said
    end, count, begin = map(int, problem.groups()[:3])
    assert count == end - begin + 1 and 3 <= count < 6 and "tiny/s3_T1w" in problem[4].split()
    kept = checkpoints.name(begin - 1) if begin > 1 else "no checkpoint was made before"
    assert "look at these volumes, lower lr" in said and kept in said
    assert saved(tmp_path) == [step for step in (begin - 2, begin - 1) if step > 0]  # the last good state
    for folder in work_of(tmp_path).glob("step-*"):
        state = checkpoints.SafeCheckpoints({}).load_checkpoint(folder)
        assert all(tensor.isfinite().all() for tensor in state["state_dict"].values())
    assert history.read(work_of(tmp_path))[-1]["line"].endswith(problem[4])


def test_40_bad_steps_that_pass_do_not_end_it_and_are_not_saved(cohort, tmp_path, monkeypatch, capsys):
    step = modules.Pretraining.training_step

    def sometimes(self, batch, number):
        scalars = step(self, batch, number)
        return scalars | {"loss": scalars["loss"] + (torch.nan if self.global_step in (2, 3, 6) else 0)}

    monkeypatch.setattr(modules.Pretraining, "training_step", sometimes)
    train(cohort, tmp_path, capsys, "--max-nonfinite-steps", "3", config=tiny.pretrain_config(10), every=4)
    events = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "save"] == [5, 8]
    assert [row["loss"] for row in read_log(tmp_path / "out" / "log.csv")].count("nan") == 2


def test_40_weights_that_are_not_finite_at_the_end_are_no_result(cohort, tmp_path, capsys):
    config = tiny.pretrain_config(2, phases=[tiny.phase(2, lr=1e38, decay="constant")])
    said = train(cohort, tmp_path, capsys, config=config, code=2)
    assert re.search(r"error: the loss( or a weight)? is not finite at step 2", said) and "lower lr" in said
    assert not (tmp_path / "out" / "encoder.safetensors").exists()


# ------------------------------------------------------------------------------------ clusters


@pytest.mark.parametrize("step", [7, 8])  # within an epoch, and at its end
def test_41_a_time_limit_saves_and_the_same_command_goes_on(cohort, tmp_path, finishes, step):
    command = start(cohort, tmp_path, every=100, before=partial(processes.signalled, step, signal.SIGUSR1))
    assert command.ended() == exit_code(signal.SIGUSR1) == 138
    assert f"stopped by SIGUSR1 at step {step}, saved; the same command continues" in command.said
    assert saved(tmp_path) == [step]
    assert (
        f"attempt 1 was stopped by SIGUSR1 at step {step}; resuming from {checkpoints.name(step)}, nothing is redone"
        in finishes()
    )


def test_42_preemption_saves_before_it_kills(cohort, tmp_path):
    """Slurm signals every process of a job, loaders too, and kills what is left after a grace time."""
    command = start(cohort, tmp_path, "--workers", "1", config=tiny.pretrain_config(4000), every=4)
    command.until(lambda: list(tmp_path.glob("work/*/step-*")))
    begun = time.monotonic()
    command.signal_all(signal.SIGTERM)
    code = command.ended(30)
    took = time.monotonic() - begun
    assert code == exit_code(signal.SIGTERM) == 143, command.said
    step = int(re.search(r"stopped by SIGTERM at step (\d+), saved", command.said)[1])
    assert saved(tmp_path)[-1] == step and took < 30
    assert checkpoints.newest(work_of(tmp_path))[0].name == checkpoints.name(step)


def test_42_a_training_that_was_preempted_goes_on(copy, finishes):
    assert f"attempt 1 was stopped by SIGTERM at step 8; resuming from {checkpoints.name(8)}, nothing is redone" in finishes(copy)


def test_42_what_could_not_save_in_time_is_killed_and_loses_one_interval(cohort, tmp_path, finishes):
    command = start(cohort, tmp_path, before=partial(processes.signalled, 7, signal.SIGSTOP))
    command.until(command.is_stopped)
    command.signal_all(signal.SIGTERM)
    command.signal_all(signal.SIGKILL)
    assert command.ended() == -signal.SIGKILL
    assert re.search(rf"resuming from {checkpoints.name(4)}, \d step", finishes())


def test_43_a_lost_node_is_told_and_the_job_goes_on_elsewhere(cohort, tmp_path, finishes, monkeypatch):
    """All processes at once, as when the power goes; tests/slurm has the real Slurm that submits again."""
    command = start(
        cohort, tmp_path, "--workers", "1",
        before=partial(processes.on_node, "node7", "4711", 6),
    )  # fmt: skip
    command.until(command.is_stopped)
    command.signal_all(signal.SIGKILL)
    assert command.ended() == -signal.SIGKILL, command.said
    with open(work_of(tmp_path) / "history.jsonl", "a") as stream:
        stream.write('{"event": "sa')  # a line that did not reach the disk
    monkeypatch.setattr(socket, "gethostname", lambda: "node8")
    said = finishes()
    assert re.search(
        r"attempt 1 ended without a word at step \d+ \(killed, or the node was lost; host node7, Slurm job 4711\)", said
    )
    assert f"resuming from {checkpoints.name(4)}" in said


def test_44_a_second_copy_says_who_runs_and_finds_the_work_done(cohort, tmp_path, straight):
    first = start(cohort, tmp_path, before=partial(processes.signalled, 3, signal.SIGSTOP))
    first.until(first.is_stopped)
    second = start(cohort, tmp_path)
    second.until(lambda: "waiting for its end" in second.said)
    who = rf"host {re.escape(socket.gethostname())}, process {first.process.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(rf"this training runs in another process; waiting for its end \(.*: {who}\)", second.said)
    first.signal_all(signal.SIGCONT)
    assert (first.ended(), second.ended()) == (0, 0) and "nothing left to do" in second.said, second.said
    assert (tmp_path / "out" / "encoder.safetensors").read_bytes() == (straight[0] / "out" / "encoder.safetensors").read_bytes()


def test_44_another_training_of_the_same_results_is_refused(cohort, tmp_path, capsys, finishes):
    first = start(
        cohort, tmp_path, config=tiny.pretrain_config(STEPS + 2), before=partial(processes.signalled, 3, signal.SIGSTOP)
    )
    first.until(first.is_stopped)
    said = train(cohort, tmp_path, capsys, code=2)
    assert (
        f"error: another training writes its results here (host {socket.gethostname()}, process {first.process.pid}, since"
        in said
    )
    assert f"where: {tmp_path / 'out'}" in said and "wait for its end, or stop it" in said
    first.signal_all(signal.SIGKILL)
    first.ended()
    shutil.rmtree(work_of(tmp_path))
    finishes()


# ------------------------------------------------------------------------------------ the workflow


@pytest.fixture
def longer(finished, tmp_path):
    """A copy of the finished study with a pretraining that is not begun, and long enough to be hit."""
    copy = workflow_fixture.Workflow(Path(shutil.copytree(finished.root, tmp_path / "study", symlinks=True)))
    edit(
        copy.study,
        "pretexts:\n",
        "pretexts:\n  amaes_long: {like: amaes_tiny, phases: [{epochs: 40, lr: 1.0e-3, decay: cosine}]}\n",
    )
    edit(copy.study, "init: [scratch, amaes_tiny]", "init: [scratch, amaes_tiny, amaes_long]")
    return copy


def begun(workflow: workflow_fixture.Workflow, head: subprocess.Popen) -> None:
    """Waits until a training has saved."""
    deadline = time.monotonic() + PATIENCE_S
    while not list(workflow.root.glob("results/work/*/step-*")):
        assert head.poll() is None and time.monotonic() < deadline, (workflow.root / "said").read_text()
        time.sleep(0.05)


def test_45_a_killed_workflow_says_how_to_unlock_and_goes_on(longer):
    folder = longer.results / "pretrain" / "tiny_unlabelled" / "amaes_long" / "unet_micro"
    target = ["save_every_steps=5", "--", str((folder / "encoder.safetensors").relative_to(longer.root))]
    before = {path: path.stat().st_mtime_ns for path in longer.results.rglob("*") if path.is_file()}
    head = longer.start(*target)
    begun(longer, head)
    os.killpg(head.pid, signal.SIGKILL)  # Snakemake and its jobs, as a node that goes down
    head.wait()
    assert list((longer.root / ".snakemake" / "incomplete").iterdir())
    said = longer.snakemake(*target, check=False)
    assert "Directory cannot be locked" in said and "--unlock" in said
    longer.snakemake("--unlock")
    said = longer.snakemake(*target)
    assert "1 of 1 steps (100%) done" in said, said[-2000:]
    run = read_json(folder / "run.json")
    assert run["resumed_from"].startswith("step-") and run["attempts"] == 2
    assert read_log(folder / "log.csv")[-1]["step"] == str(run["steps"])
    assert {path: path.stat().st_mtime_ns for path in before} == before


# ------------------------------------------------------------------------------------------------ 66


def test_66_a_lost_connection_saves_and_the_same_command_goes_on(cohort, tmp_path):
    command = start(cohort, tmp_path, before=partial(processes.hung_up, 8))
    assert command.ended() == exit_code(signal.SIGHUP) == 129, command.said
    assert "stopped by SIGHUP at step 8, saved; the same command continues" in command.said


def test_66_a_hangup_of_the_whole_workflow_saves_leaves_no_lock_and_the_same_command_goes_on(longer):
    """The kernel sends SIGHUP to Snakemake and its jobs alike when a terminal closes."""
    path = "pretrain/tiny_unlabelled/amaes_long/unet_micro"
    target = ["save_every_steps=5", "--", f"results/tiny/{path}/encoder.safetensors"]
    head, log = longer.start(*target), longer.results / f"logs/{path}.log"
    begun(longer, head)
    os.killpg(head.pid, signal.SIGHUP)
    assert head.wait(PATIENCE_S) != 0
    deadline = time.monotonic() + PATIENCE_S
    while not (stopped := re.search(r"stopped by SIGHUP at step (\d+), saved", log.read_text())):  # it may outlive Snakemake
        assert time.monotonic() < deadline, (longer.root / "said").read_text() + log.read_text()
        time.sleep(0.05)
    assert not list(longer.root.glob(".snakemake/locks/*"))
    said = longer.snakemake(*target)
    assert "1 of 1 steps (100%) done" in said, said[-2000:]
    run = read_json(longer.results / path / "run.json")
    assert run["resumed_from"] == f"step-{int(stopped[1]):09d}" and run["attempts"] == 2


def test_66_under_nohup_a_training_goes_on(cohort, tmp_path):
    command = start(cohort, tmp_path, before=partial(processes.signalled_in_vain, 4, signal.SIGHUP))
    assert command.ended() == 0 and "stopped" not in command.said, command.said
