"""Pretraining: from a corpus to an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import nn

from brainpretrain import backbones, pretext, scales
from brainpretrain.augment.policy import Policy
from brainpretrain.backbones.base import parameters
from brainpretrain.config.runs import PretrainRun
from brainpretrain.files import atomic, read_tsv, sha256
from brainpretrain.pretext.about import PICTURES
from brainpretrain.scales import Rule
from brainpretrain.training import schedule
from brainpretrain.training.machine import Machine
from brainpretrain.training.modules import Pretraining
from brainpretrain.training.run import Attempt
from brainpretrain.training.samples import PretrainPatches
from brainpretrain.weights import store as weights


def pretrain(corpus: Path, folder: Path, run: PretrainRun, machine: Machine) -> None:
    """Trains a pretext task and writes encoder.safetensors|json, log.csv, run.json, config.yaml, reconstruction.npz.

    A task that trains a decoder also leaves decoder.safetensors|json.

    Args:
        corpus: corpus.tsv with roles.
        folder: the data folder that the corpus is relative to.
        run: everything else that the result is a function of.
        machine: where it runs.

    Raises:
        UserError: a bad corpus or bad options, or a training that cannot go on.
    """
    torch.set_num_threads(machine.threads)
    recipe = run.recipe
    rows = read_tsv(corpus)
    L.seed_everything(run.seed, verbose=False)
    encoder = backbones.build(run.backbone.architecture, 1, **run.backbone.options)
    task = pretext.build(recipe.method, encoder, 1, **recipe.options)
    train_rows, val_rows = rows[rows["role"] == "train"], rows[rows["role"] == "val"]
    policy, no_policy = Policy(run.policy), Policy({})
    rule = Rule(recipe.intensity)
    train = PretrainPatches(train_rows, folder, recipe.patch_size, policy, run.seed, rule)
    val = PretrainPatches(val_rows, folder, recipe.patch_size, no_policy, run.seed + 1, rule) if len(val_rows) else None
    epoch_steps = max(1, len(train_rows) // recipe.global_batch)
    module = Pretraining(task, recipe, policy, schedule.stretches(recipe.phases, epoch_steps))
    made_from = {"config": run.plain(), "corpus": sha256(corpus)}
    by_dataset = rows.groupby("dataset")["subject"]
    facts = {
        "parameters": parameters(task),
        "encoder_parameters": parameters(encoder),
        "datasets": {name: {"subjects": names.nunique(), "volumes": len(names)} for name, names in by_dataset},
        "volumes": len(train_rows),
        "val_volumes": len(val_rows),
        "subjects": int(rows[["dataset", "subject"]].drop_duplicates().shape[0]),
    }
    with Attempt(module, made_from, machine, epoch_steps, len(val_rows)) as attempt:
        if not attempt.fit(train, val) or not attempt.is_first:
            return
        about = {**_encoder_facts(run, attempt), "corpus_sha256": made_from["corpus"], **facts}
        weights.save(machine.out / "encoder", encoder.state_dict(), about)
        if (decoder := getattr(task, "decoder", None)) is not None:
            weights.save(machine.out / "decoder", decoder.state_dict(), about | _decoder_facts(run))
        task.to(attempt.trainer.strategy.root_device)  # Lightning has left it on the CPU
        shown = val or PretrainPatches(train_rows, folder, recipe.patch_size, no_policy, run.seed, rule)
        save_reconstructions(machine.out / "reconstruction.npz", task, shown, pretext.about(recipe.method).picture)
        attempt.finish(run, facts)


def _encoder_facts(run: PretrainRun, attempt: Attempt) -> dict[str, Any]:
    """The facts in encoder.json that fine-tuning, export and the model card need, whatever the corpus was."""
    plain = run.plain()
    rule = {} if run.recipe.intensity == scales.UNIT else {"intensity": run.recipe.intensity}
    return rule | {
        "kind": "encoder",
        "name": run.name,
        "backbone": plain["backbone"],
        "in_channels": 1,
        "preprocess": plain["preprocess"],
        "patch_size": run.recipe.patch_size,
        "steps": attempt.steps,
        "commit": attempt.facts["commit"],
    }


def _decoder_facts(run: PretrainRun) -> dict[str, Any]:
    """The facts in decoder.json: the file of `decoders/` with its options; null if the pretext has a decoder of its own."""
    options = run.recipe.options
    return {"kind": "decoder", "decoder": options.get("decoder"), "decoder_options": options.get("decoder_options", {})}


def save_reconstructions(path: Path, task: nn.Module, dataset: PretrainPatches, picture: str, n: int = 4) -> None:
    """Saves the middle axial slices of the first `n` samples and of their reconstructions, as arrays (n x y).

    The titles of a picture of another kind than a reconstruction of masked patches are saved with them. Scaled intensities
    are brought back to the stored ones.
    """
    n = min(n, len(dataset.rows))
    items = [dataset[number] for number in range(n)]
    device = next(task.parameters()).device
    scaling = [item["scale"].to(device) if "scale" in item else None for item in items]
    image = torch.stack([scales.apply(item["image"].to(device).float(), s) for item, s in zip(items, scaling, strict=True)])
    task.eval()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # to compile for four patches takes longer than they do
        parts = task.reconstruct(image, image, [item["seed"] for item in items])
    of_image = ("input", "masked", "output", "target") if picture in ("reconstruction", "corruption") else ("input", "masked")
    for name in of_image:
        parts[name] = torch.stack([scales.undo(part.float(), s) for part, s in zip(parts[name], scaling, strict=True)])
    middle = image.shape[-1] // 2
    slices = {name: parts[name][:, 0, :, :, middle].float().cpu().numpy() for name in ("input", "masked", "output", "target")}
    hidden = parts["hidden"][:, 0, :, :, middle].cpu().numpy()
    names = np.array([dataset.rows[dataset.volume_of(number)]["volume"] for number in range(n)])
    if picture != "reconstruction":
        slices["titles"] = np.array(PICTURES[picture])
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, hidden=hidden, names=names, **slices)
