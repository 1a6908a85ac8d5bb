"""Fine-tuning: from labelled cases, and an encoder unless it starts from scratch, to a segmentation model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch

from brainpretrain import decoders, scales
from brainpretrain.augment.policy import Policy
from brainpretrain.backbones.base import Encoder, parameters
from brainpretrain.backbones.tokens import TokenEncoder
from brainpretrain.cohorts.cases import IGNORED, Case, label_lookup, side_pairs
from brainpretrain.config.runs import FinetuneRun
from brainpretrain.decoders import Segmenter
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, sha256, write_tsv
from brainpretrain.preprocess.recipes import SAME, option
from brainpretrain.preprocess.sessions import alignment_of
from brainpretrain.scales import Rule
from brainpretrain.seeds import sample_seed
from brainpretrain.training import schedule
from brainpretrain.training.labelled import gather
from brainpretrain.training.machine import Machine
from brainpretrain.training.modules import Finetuning, WatchedFinetuning
from brainpretrain.training.run import Attempt
from brainpretrain.training.samples import FinetunePatches, ValidationPatches
from brainpretrain.weights import store as weights
from brainpretrain.weights.facts import check_facts


def finetune(
    table: pd.DataFrame,
    folder: Path,
    split: Path,
    init: Path | None,
    run: FinetuneRun,
    machine: Machine,
    log_every: int,
    inference: Mapping[str, Any] | None = None,
    sources: Mapping[str, Path] | None = None,
) -> None:
    """Trains a segmentation network and writes model.safetensors|json, transfer.tsv, log.csv, run.json, config.yaml.

    Args:
        table: the stored volumes of the task's data set.
        folder: the folder that the table is relative to.
        split: JSON of the fold.
        init: encoder file of a pretraining, model file of a fine-tuning to go on from, or None from scratch.
        run: everything else that the result is a function of.
        machine: where it runs.
        log_every: optimiser steps between two rows of log.csv; with few cases, epochs mean nothing.
        inference: settings of the sliding window, for model.json; training does not use them.
        sources: by data set, the tables of the stored volumes of the sources of the task.

    Raises:
        UserError: too few cases, a class whose values no case of the pool has, an encoder that does not fit, or a training
            that cannot go on.
    """
    torch.set_num_threads(machine.threads)
    recipe, task = run.recipe, run.task
    data = gather(table, folder, read_json(split), run, sources)
    if data.background:
        print(f"label values that neither 'labels' nor 'ignore' names count as background: {data.background}", flush=True)
    seed = sample_seed(run.seed, run.fold) % 2**32
    L.seed_everything(seed, verbose=False)
    plain = run.plain()
    network = decoders.build_network(plain["backbone"], len(task.sequences), len(task.labels) + 1)
    goes_on = init is not None and read_json(init.with_suffix(".json")).get("kind") == "model"
    report = load_model(network, init, run) if goes_on else load_init(network.encoder, init, run)
    if init and not goes_on and recipe.transfer == "encoder_decoder":
        report += load_decoder(network, init.with_name("decoder"), run)
    policy = Policy(run.policy, side_pairs(task.labels, task.left_right))
    rule = intensity_rule(data.cases, data.lookups, recipe.intensity)
    places = data.cases, data.lookups, recipe.patch_size, policy, recipe.foreground_fraction
    train = FinetunePatches(*places, seed, rule, data.parts)
    kind = WatchedFinetuning if recipe.validation else Finetuning
    module = kind(network, recipe, policy, schedule.stretches(recipe.phases, recipe.epoch_steps or log_every))
    val = _validation(train, data.watched_cases, label_lookup(task.labels, task.ignore), module, log_every)
    made_from = {
        "config": plain,
        "cases": [[row["checksum"], row["label_checksum"]] for case in data.cases for row in case.rows],
        "init": _sha256_of(init, recipe.transfer) if init else "scratch",
        "log_every_steps": log_every,
    }
    if val:
        made_from["validation"] = [[row["checksum"], row["label_checksum"]] for case in val.patches.cases for row in case.rows]
    facts = {"parameters": parameters(network), "cases": len(data.cases), "train_subjects": data.subjects}
    facts |= {"transferred": len(report)}
    facts |= {"source_subjects": data.source_subjects} if data.source_subjects else {}
    if place := alignment_of(data.cases[0].rows[0]):  # `predict` compares it
        facts |= {"atlas_checksum": place.checksum}
    facts |= {"label_values_as_background": data.background} if data.background else {}
    facts |= {"intensity_scale": rule.fixed} if rule.fixed else {}
    rows, classes = (len(val.rows), list(task.labels)) if val else (0, [])
    with Attempt(module, made_from, machine, log_every, rows, classes) as attempt:
        if not attempt.fit(train, val) or not attempt.is_first:
            return
        if attempt.watch:
            facts["validation"] = _about_validation(run, data.watched, rows, attempt)
            if (best := attempt.watch.weights()) is not None:
                network.load_state_dict(best)
        about = {"kind": "model", "in_channels": len(task.sequences), "commit": attempt.facts["commit"], **plain, **facts}
        about |= {"classes": list(task.labels), "inference": inference}
        weights.save(machine.out / "model", network.state_dict(), about)
        write_tsv(machine.out / "transfer.tsv", report, ["tensor", "shape", "status"])
        attempt.finish(run, facts | _beyond_the_model(attempt))


def _validation(
    train: FinetunePatches, cases: Sequence[Case], lookup: np.ndarray, module: Finetuning, log_every: int
) -> ValidationPatches | None:
    """The patches of a validation, on cases of the target, with the module set to it; None if there is none.

    Raises:
        UserError: validations would not be at the end of a row of log.csv.
    """
    rule = module.recipe.validation
    if rule is None:
        return None
    if rule.every_steps % log_every:
        raise UserError(
            f"validation.every_steps {rule.every_steps} is no multiple of the {log_every} steps between two rows of the log",
            where="recipe",
            fix="change one of them",
        )
    module.val_every_epochs = rule.every_steps // log_every
    changes = {"cases": list(cases), "lookups": [lookup] * len(cases), "parts": [], "policy": Policy({}), "_foreground": {}}
    return ValidationPatches(dataclasses.replace(train, **changes), rule.patches)


def _about_validation(run: FinetuneRun, subjects: list[str], patches: int, attempt: Attempt) -> dict[str, Any]:
    """What run.json and model.json say of the validation."""
    rule = run.recipe.validation.model_dump(exclude={"subjects", "patches"})
    facts = attempt.watch.summary(attempt.steps, attempt.total_steps)
    if facts.get("stopped_early"):
        words = (
            f"ended early at step {attempt.steps} of {attempt.total_steps}: {run.recipe.patience} validations without a new best"
        )
        print(words, flush=True)
    print(f"the model has the weights of step {facts['selected_step']}, pseudo-Dice {facts['pseudo_dice']}", flush=True)
    return {"subjects": subjects, "patches": patches, **rule, **facts}


def _beyond_the_model(attempt: Attempt) -> dict[str, Any]:
    """What run.json says of a validated training and model.json does not."""
    if attempt.watch is None:
        return {}
    planned = {"planned_steps": attempt.total_steps} if attempt.steps < attempt.total_steps else {}
    return planned | {"validation_seconds": round(attempt.watch.seconds, 2)}


def intensity_rule(cases: Sequence[Case], lookups: Sequence[np.ndarray], name: str) -> Rule:
    """The rule by which the network sees intensities; that of CT is measured in the foreground of the training cases.

    Raises:
        UserError: with `ct`, no case has a foreground with contrast.
    """
    if name != scales.CT:
        return Rule(name)
    images = ((case.image(), _is_class(case.label(lookup))) for case, lookup in zip(cases, lookups, strict=True))
    return Rule(name, scales.of_foreground(images, "intensity: ct"))


def _is_class(label: np.ndarray) -> np.ndarray:
    return (label > 0) & (label != IGNORED)


def load_init(encoder: Encoder, init: Path | None, run: FinetuneRun) -> list[dict[str, str]]:
    """Loads a pretrained encoder, once it is clear that its volumes were prepared as those of the task.

    Returns:
        A row per tensor for transfer.tsv: tensor, shape, status; none from scratch.

    Raises:
        UserError: another architecture, or other preprocessing, unknown preprocessing, or another rule of intensities.
    """
    if init is None:
        return []
    tensors, facts = weights.load(init)
    _check_preprocessing(facts, init, run)
    report = weights.load_encoder(encoder, tensors, run.recipe.stem, init)
    in_steps = encoder.resampling_for(run.recipe.patch_size) if isinstance(encoder, TokenEncoder) else {}
    for row in report:
        row["status"] += f", in every step {in_steps[row['tensor']]}" if row["tensor"] in in_steps else ""
    repeated = sum(row["status"].startswith("repeated") for row in report)
    loaded = sum(row["status"] != "random" for row in report)
    print(f"transferred {loaded} of {len(report)} encoder tensors ({repeated} repeated over channels) from {init}", flush=True)
    return report


def load_model(network: Segmenter, init: Path, run: FinetuneRun) -> list[dict[str, str]]:
    """Loads a fine-tuned network as it is, its last layer too, to go on from it; returns and errors as `load_init`.

    Raises:
        UserError: also if its classes are others than those of the task.
    """
    tensors, facts = weights.load(init)
    _check_preprocessing(facts, init, run)
    if facts.get("classes") != (own := list(run.task.labels)):
        problem = f"the network was trained for other classes: {facts.get('classes')}, and the task has {own}"
        raise UserError(problem, where=init, fix="go on from a network of the same task")
    report = weights.load_encoder(network, tensors, where=init)
    print(f"goes on from {init}: all {len(report)} tensors of encoder and decoder", flush=True)
    return report


def _check_preprocessing(facts: dict[str, Any], init: Path, run: FinetuneRun) -> None:
    """Refuses weights whose volumes were prepared otherwise than those of the task, or that do not say how."""
    check_facts(facts, init.with_suffix(".json"))
    if facts["preprocess"] is None:
        raise UserError(
            "the encoder does not say how its volumes were prepared", where=init, fix="import it again, with --preprocess"
        )
    for part in SAME:
        pretrained, stored = option(facts["preprocess"], part), getattr(run.preprocess, part)
        if pretrained != stored:
            raise UserError(
                f"the encoder was pretrained with {part} {pretrained}, the task is prepared with {stored}",
                where=init,
                fix="give the task and the corpus the same preprocess recipe",
            )
    theirs = Rule.of_facts(facts).name
    if theirs != run.recipe.intensity and run.recipe.encoder_intensity == "same":
        raise UserError(
            f"the encoder was pretrained with 'intensity: {theirs}', the task trains with 'intensity: {run.recipe.intensity}'",
            where=init,
            fix=f"use 'intensity: {theirs}' in the recipe, or 'encoder_intensity: any' if this is meant",
        )


def load_decoder(network: Segmenter, init: Path, run: FinetuneRun) -> list[dict[str, str]]:
    """Loads the decoder of a pretraining, but for the layers whose size depends on the number of classes.

    Args:
        network: the segmentation network; its decoder is filled in place.
        init: decoder.safetensors of the pretraining, without its suffix.
        run: the fine-tuning.

    Returns:
        Rows for transfer.tsv, as `load_init`; the layers that start at random have the status `new`.

    Raises:
        UserError: the pretraining left no decoder, or one that is not the decoder of the task.
    """
    if not init.with_suffix(".safetensors").exists():
        raise UserError(
            "the pretraining left no decoder, or is from before decoders were kept",
            where=init.with_suffix(".safetensors"),
            fix="use 'transfer: encoder', or remove the result of the pretraining, which is then run again",
        )
    tensors, _ = weights.load(init)
    backbone = run.plain()["backbone"]
    with torch.device("meta"):
        other = decoders.build(backbone["decoder"], network.encoder, len(run.task.labels) + 2, **backbone["decoder_options"])
    own = network.decoder.state_dict()
    last = {name for name, tensor in other.state_dict().items() if tensor.shape != own[name].shape}
    wanted = set(own) - last
    problems = [f"missing in the file: {name}" for name in sorted(wanted - set(tensors))]
    problems += [f"not in this decoder: {name}" for name in sorted(set(tensors) - set(own) - last)]
    problems += [text for name in sorted(wanted & set(tensors)) if (text := weights.misfit(name, own[name], tensors[name]))]
    if problems:
        raise UserError(
            f"the decoder was not loaded, {len(problems)} of {len(own)} tensors do not fit:\n  " + "\n  ".join(problems[:20]),
            where=init.with_suffix(".safetensors"),
            fix="pretrain with the decoder and the decoder options of the backbone entry, or use 'transfer: encoder'",
        )
    network.decoder.load_state_dict({name: tensors[name] if name in wanted else own[name] for name in own})
    print(f"transferred {len(wanted)} of {len(own)} decoder tensors from {init}", flush=True)
    return [
        {
            "tensor": f"decoder.{name}",
            "shape": "x".join(map(str, own[name].shape)),
            "status": "loaded" if name in wanted else "new",
        }
        for name in sorted(own)
    ]


def _sha256_of(init: Path, transfer: str) -> str | list[str]:
    """Checksum of what a fine-tuning starts from; a list where it takes two files."""
    decoder = init.with_name("decoder.safetensors")
    return [sha256(init), sha256(decoder)] if transfer == "encoder_decoder" and decoder.exists() else sha256(init)
