"""Validation of a fine-tuning: its patches, its number, the weights that it chooses, and the early end."""

import math
import os
import signal
from functools import partial

import numpy as np
import pytest
import torch

import tiny
from brainpretrain.augment.policy import Policy
from brainpretrain.cohorts.cases import IGNORED, label_lookup, labelled_cases
from brainpretrain.config.runs import finetune_run
from brainpretrain.errors import UserError
from brainpretrain.evaluation.model import load_model
from brainpretrain.files import read_json, read_tsv
from brainpretrain.report import status
from brainpretrain.training import checkpoints, watching
from brainpretrain.training.history import read
from brainpretrain.training.log import read_log
from brainpretrain.training.samples import FinetunePatches, ValidationPatches
from brainpretrain.weights import store as weights
from commands import Command
from trainings import finetune_here

WATCHED = {"subjects": 2, "taken_from": "pool", "patches": 2, "every_steps": 4}
STEPS = 24


def config(steps=STEPS, **recipe):
    return tiny.finetune_config(steps, **({"validation": WATCHED} | recipe))


@pytest.fixture(scope="module")
def chosen(cohort, tmp_path_factory):
    """A training of six validations whose model has the best weights."""
    return finetune_here(cohort, tmp_path_factory.mktemp("chosen"), config(select="best"), log_every=2)


def patches(cohort, seed=0, names=("s2", "s3"), per_case=4, ring=()):
    by_subject = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    lookup = label_lookup({"ball": [1]}, ring)
    cases = [case for name in names for case in by_subject[name]]
    return ValidationPatches(FinetunePatches(cases, [lookup] * len(cases), [16, 16, 16], Policy({}), 0.5, seed), per_case)


def test_voxels_are_counted_as_nnunet_counts_them():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 4, (2, 6, 5, 4)), rng.integers(0, 4, (2, 6, 5, 4))
    truth[truth == 3] = IGNORED
    logits = torch.nn.functional.one_hot(torch.tensor(found), 4).movedim(-1, 1).float()
    counts = watching.counted(logits, torch.tensor(truth, dtype=torch.uint8), IGNORED)
    there = truth != IGNORED
    for value, line in zip((1, 2, 3), counts.tolist(), strict=True):
        hits = int(((found == value) & (truth == value)).sum())
        assert line == [hits, int(((found == value) & there).sum()) - hits, int((truth == value).sum()) - hits]
    dice = watching.pseudo_dice(counts)
    assert dice[0] == pytest.approx(2 * counts[0, 0].item() / ((found[there] == 1).sum() + (truth == 1).sum()))
    nothing = watching.pseudo_dice(torch.tensor([[3, 1, 1], [0, 0, 0]]))
    assert nothing[0] == 0.75 and math.isnan(nothing[1]) and watching.mean_of(nothing) == 0.75
    assert math.isnan(watching.mean_of([math.nan]))


def test_every_arm_and_seed_is_validated_on_the_same_patches(cohort):
    one, other = patches(cohort), patches(cohort, seed=7, names=("s3", "s2"))
    assert len(one.rows) == 8
    for number in range(8):
        twin = other[(number + 4) % 8]  # the other case comes first
        assert torch.equal(one[number]["image"], twin["image"]) and torch.equal(one[number]["label"], twin["label"])
        assert one[number]["label"].shape == (16, 16, 16) and one[number]["label"].max() == 1
    assert not torch.equal(one[0]["image"], one[1]["image"])


def test_patches_are_centred_on_the_classes_in_turn(tmp_path):
    label = np.zeros((40, 40, 40), np.uint8)
    label[10:13, 20:23, 20:23], label[28:30, 20:23, 20:23] = 1, 2
    cohort = tiny.store(tmp_path, {"a": (label, np.eye(4))})
    lookup = label_lookup({"one": [1], "two": [2]}, [])
    (case,) = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])["a"]
    found = ValidationPatches(FinetunePatches([case], [lookup], [8, 8, 8], Policy({}), 0.5, 0), 4)
    for number in range(4):
        centre = found[number]["label"][4, 4, 4]
        assert centre == 1 + number % 2


def test_the_log_the_run_and_the_model_say_what_was_chosen(cohort, chosen):
    rows = read_log(chosen / "log.csv")
    assert [int(row["step"]) for row in rows] == list(range(2, 25, 2))
    assert [bool(row["val_dice"]) for row in rows] == [False, True] * 6 == [bool(row["val_loss"]) for row in rows]
    dice = {int(row["step"]): float(row["val_dice"]) for row in rows if row["val_dice"]}
    run, model = read_json(chosen / "run.json"), read_json(chosen / "model.json")
    said = run["validation"]
    best = max(dice, key=lambda step: (dice[step], -step))
    assert (said["selected_step"], said["best_step"], said["times"], said["subjects"]) == (best, best, 6, ["s2", "s3"])
    assert said["pseudo_dice"] == pytest.approx(dice[best], rel=1e-5) and model["validation"] == said
    assert (said["select"], said["taken_from"], said["patches"], run["steps"]) == ("best", "pool", 4, STEPS)
    assert run["validation_seconds"] > 0 and not any((chosen.parent / "work").iterdir())
    assert best < STEPS, "the last weights are the best, and the choice is not tested"
    events = [event for event in read(chosen) if event["event"] == "validation"]
    assert [(event["step"], event["best_step"]) for event in events][-1] == (STEPS, best)


def test_the_model_has_the_weights_whose_number_is_reported(cohort, chosen):
    network, _ = load_model(chosen / "model")
    counts = 0
    for item in map(patches(cohort, per_case=2).__getitem__, range(4)):
        with torch.no_grad():
            counts = counts + watching.counted(network.cpu()(item["image"][None].float()), item["label"][None], IGNORED)
    said = read_json(chosen / "run.json")["validation"]
    assert watching.mean_of(watching.pseudo_dice(counts)) == pytest.approx(said["pseudo_dice"], abs=1e-6)


def test_validation_changes_nothing_in_the_training(cohort, tmp_path, chosen):
    """The last weights are those of a training without validation, bit by bit."""
    without = finetune_here(cohort, tmp_path / "without", tiny.finetune_config(STEPS), log_every=2)
    last = finetune_here(cohort, tmp_path / "last", config(), log_every=2, save_every=5, workers=1)
    assert (last / "model.safetensors").read_bytes() == (without / "model.safetensors").read_bytes()
    assert (last / "model.safetensors").read_bytes() != (chosen / "model.safetensors").read_bytes()
    losses = [[row["loss"] for row in read_log(out / "log.csv")] for out in (without, last, chosen)]
    assert losses[0] == losses[1] == losses[2]
    assert read_json(last / "run.json")["validation"]["selected_step"] == STEPS


def kill_at_best(number):
    """The process ends, without a word, after its best weights were saved for the `number`-th time."""
    save, calls = checkpoints.save_best, []

    def killing(*args):
        save(*args)
        calls.append(args[1])
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_best = killing


def test_a_kill_between_validation_and_checkpoint_changes_no_bit(cohort, tmp_path, chosen):
    """The best weights of step 8 or later are there, the checkpoint is older: it is continued from its own best weights."""
    place = "study/finetune/t/b/scratch/r/n2/fold0"
    line = [*tiny.finetune_line(cohort, config(select="best"), tmp_path, out=place), "--save-every", "5", "--log-every", "2"]
    killed = Command(line, tmp_path / "said", partial(kill_at_best, 2))
    assert killed.ended() == -signal.SIGKILL, killed.said
    (work,) = (tmp_path / "work").iterdir()
    saved, best = (sorted(int(path.name[-9:]) for path in work.glob(f"{name}-*")) for name in ("step", "best"))
    assert len(best) == 2 and saved[-1] < best[-1], (saved, best)
    (shown,) = status.collect(tmp_path)
    assert shown.validated.endswith(f"at {best[0]}, best at {best[0]}")  # the kill came before the line of the second
    again = Command(line, tmp_path / "again")
    assert again.ended() == 0 and "resuming from step-" in again.said, again.said
    out = tmp_path / place
    assert (out / "model.safetensors").read_bytes() == (chosen / "model.safetensors").read_bytes()
    assert read_json(out / "run.json")["validation"] == read_json(chosen / "run.json")["validation"]
    found, wanted = ([row["val_dice"] for row in read_log(folder / "log.csv")] for folder in (out, chosen))
    assert found == wanted


def test_damaged_best_weights_end_the_training_before_it_goes_on(cohort, tmp_path):
    line = [*tiny.finetune_line(cohort, config(select="best"), tmp_path), "--save-every", "4", "--log-every", "2"]
    assert Command(line, tmp_path / "said", partial(kill_at_best, 2)).ended() == -signal.SIGKILL
    (work,) = (tmp_path / "work").iterdir()
    for folder in work.glob("best-*"):
        (folder / "state.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="the weights of the best validation, of step 4, are damaged"):
        finetune_here(cohort, tmp_path, config(select="best"), log_every=2)


def test_a_training_that_gets_no_better_ends_early_and_stays_ended(cohort, tmp_path, monkeypatch):
    """Of equal validations the first is the best. Killed before its results are written, it ends at the same step again."""
    still = config(STEPS, phases=[tiny.phase(4, lr=1e-12), tiny.phase(20, lr=1e-12)], patience=2, select="best")
    with monkeypatch.context() as patch:
        patch.setattr(weights, "save", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finetune_here(cohort, tmp_path, still, log_every=2, save_every=4)
    out = finetune_here(cohort, tmp_path, still, log_every=2, save_every=4)
    run = read_json(out / "run.json")
    assert (run["steps"], run["planned_steps"], run["resumed_from"], run["redone_steps"]) == (12, STEPS, "step-000000012", 0)
    assert run["validation"]["stopped_early"] and run["validation"]["selected_step"] == 4
    assert [row["step"] for row in read_log(out / "log.csv")] == ["2", "4", "6", "8", "10", "12"]
    (shown,) = status.collect(results_of(tmp_path, out))
    assert (shown.state, shown.step, shown.total_steps, shown.attempts) == ("finished", 12, STEPS, 2)
    assert shown.validated == f"{100 * run['validation']['pseudo_dice']:.1f} at 4, ended early"


def results_of(folder, out):
    """A results folder in which the training is one of a study."""
    place = folder / "results" / "study" / "finetune/t/b/scratch/r/n2/fold0"
    place.parent.mkdir(parents=True)
    out.rename(place)
    return folder / "results"


def test_patience_waits_for_the_last_phase(cohort, tmp_path):
    still = config(STEPS, phases=[tiny.phase(12, lr=1e-12), tiny.phase(12, lr=1e-12)], patience=1)
    run = read_json(finetune_here(cohort, tmp_path, still, log_every=2) / "run.json")
    assert run["steps"] == 16 and run["validation"]["stopped_early"]


def test_a_validation_that_is_not_finite_never_wins(cohort, tmp_path):
    phases = [tiny.phase(4, lr=1e-3, decay="constant"), tiny.phase(8, lr=1e30, decay="constant")]
    with pytest.raises(UserError, match="not finite"):
        finetune_here(cohort, tmp_path, config(12, phases=phases, select="best"), log_every=2, max_nonfinite=1000)
    (work,) = (tmp_path / "work").iterdir()
    found = [(event["step"], event["dice"] is None, event["best_step"]) for event in read(work) if event["event"] == "validation"]
    assert found == [(4, False, 4), (8, True, 4), (12, True, 4)]
    assert [row["val_dice"] for row in read_log(work / "log.csv")][-1] == "nan"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation": None, "select": "best"}, "'select: best' needs a 'validation'"),
        ({"validation": None, "patience": 3}, "'patience' needs a 'validation'"),
        ({"validation": WATCHED | {"every_steps": 7}}, "every_steps 7 does not divide the 24 steps"),
        ({"patience": 6}, "a 'patience' of 6 validations, 24 steps, never ends the last phase of 24 steps early"),
        ({"phases": [tiny.phase(None, epochs=2)]}, "epochs need 'epoch_steps', such as nnU-Net's 250"),
        ({"epoch_steps": 250}, "'epoch_steps' goes with phases in epochs"),
    ],
)
def test_what_cannot_work_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        finetune_run(config(**changes), "test")


def test_phases_may_be_given_in_epochs(cohort, tmp_path):
    """As nnU-Net's: an epoch is a number of steps."""
    epochs = config(phases=[tiny.phase(None, epochs=2, warmup_epochs=1)], epoch_steps=4)
    steps = config(phases=[tiny.phase(8, warmup_steps=4)])
    one, other = (finetune_here(cohort, tmp_path / name, given, log_every=2) for name, given in (("a", epochs), ("b", steps)))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_the_subjects_of_a_validation_train_no_more(cohort, tmp_path):
    within = config(4, validation=WATCHED | {"subjects": 0.5, "taken_from": "training"})
    out = finetune_here(cohort, tmp_path, within, log_every=2)
    run = read_json(out / "run.json")
    assert (run["train_subjects"], run["validation"]["subjects"], run["cases"]) == (["s0"], ["s1"], 1)
    with pytest.raises(UserError, match="2 of 2 subjects are to validate, which leaves none to train"):
        finetune_here(cohort, tmp_path / "b", config(4, validation=WATCHED | {"taken_from": "training"}), log_every=2)
    with pytest.raises(UserError, match=r"validation.every_steps 4 is no multiple of the 3 steps"):
        finetune_here(cohort, tmp_path / "c", config(4), log_every=3)
