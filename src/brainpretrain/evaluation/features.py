"""How far fine-tuning moved the features of an encoder: CKA and norms before and after, on the same patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from brainpretrain import decoders, scales, seeds
from brainpretrain.augment.boxes import crop_box, random_start
from brainpretrain.backbones.base import Encoder
from brainpretrain.cohorts.cases import Case
from brainpretrain.evaluation.model import load_model
from brainpretrain.scales import Rule
from brainpretrain.weights import store

PATCHES = 32
POSITIONS = 32  # of each patch and level, at random
MINIBATCH = 256  # positions; the estimate of HSIC is unbiased, so it hardly depends on this number
COLUMNS = ["fold", "level", "stride", "channels", "positions", "cka", "change", "norm"]


def compare(model: Path, init: Path | None, cases: Sequence[Case]) -> pd.DataFrame:
    """Compares the encoder of a fine-tuned model with the encoder that its training started from.

    Args:
        model: `model.safetensors`.
        init: encoder file of the pretraining; None from scratch, where the random start is drawn again from the seed.
        cases: whose patches are looked at, the same for both encoders.

    Returns:
        `COLUMNS`, a row per level, finest first: cka (see `cka`), change (norm of the difference of the features over the norm
        before), norm (norm after over the norm before).

    Raises:
        UserError: as `load_model` and `store.load_encoder`.
    """
    network, facts = load_model(model, "cpu")
    before = initial_encoder(facts, init)
    rng = seeds.generator(0, "features")
    found: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in before.channels]
    for patch in patches(cases, facts["recipe"]["patch_size"], PATCHES, Rule.of_facts(facts), rng):
        with torch.inference_mode():
            maps = [encoder(patch[None]) for encoder in (before, network.encoder)]
        for level, (one, other) in enumerate(zip(*maps, strict=True)):
            count = one[0, 0].numel()
            chosen = torch.from_numpy(rng.permutation(count)[:POSITIONS])
            found[level].append((one[0].flatten(1)[:, chosen].T.double(), other[0].flatten(1)[:, chosen].T.double()))
    rows = []
    for level, pairs in enumerate(found):
        x, y = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
        rows.append(
            {"fold": facts["fold"], "level": level, "stride": before.strides[level], "channels": before.channels[level]}
            | {"positions": len(x), "cka": cka(x, y, rng)}
            | {"change": float((y - x).norm() / x.norm()), "norm": float(y.norm() / x.norm())}
        )
    return pd.DataFrame(rows, columns=COLUMNS).round({"cka": 6, "change": 6, "norm": 6})


def initial_encoder(facts: Mapping[str, Any], init: Path | None) -> Encoder:
    """The encoder that a fine-tuning started from, in evaluation mode.

    It is built with the seed of the training, so what the pretraining does not give, such as all of it from scratch, is the same.

    Args:
        facts: `model.json`.
        init: encoder file of the pretraining; None from scratch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.sample_seed(facts["seed"], facts["fold"]) % 2**32)
        classes = len(facts["task"]["labels"]) + 1
        encoder = decoders.build_network(facts["backbone"], facts["in_channels"], classes).encoder
    if init is not None:
        store.load_encoder(encoder, store.load(init)[0], facts["recipe"].get("stem", "divide"), init)
    return encoder.eval()


def patches(
    cases: Sequence[Case], size: Sequence[int], count: int, rule: Rule, rng: np.random.Generator
) -> Iterator[torch.Tensor]:
    """`count` patches (c x y z), float32, as a network sees them, from random places of the cases in turn.

    Where a volume is smaller than a patch, it is padded with 0 before the rule of intensities is applied, as in training.
    """
    for number in range(count):
        case = cases[number % len(cases)]
        box, padding = crop_box(random_start(rng, case.shape, size), [(0, n) for n in size], case.shape)
        stored = torch.from_numpy(np.pad(case.image(box).astype(np.float32), [(0, 0), *padding]))
        scale = rule.of_rows(case.rows, case.folder)
        yield scales.apply(stored, None if scale is None else torch.from_numpy(scale))


def cka(x: torch.Tensor, y: torch.Tensor, rng: np.random.Generator) -> float:
    """Linear CKA (Kornblith et al. 2019) with the unbiased HSIC of minibatches (Nguyen et al. 2021).

    1 if the features are the same up to rotation and scale, about 0 if they have nothing in common; an unbiased estimate may be
    slightly outside.

    Args:
        x, y: features (positions, channels), float64, of the same positions.
        rng: for the order of the positions.
    """
    order = torch.from_numpy(rng.permutation(len(x)))
    sums = np.zeros(3)
    for part in order.split(min(MINIBATCH, len(x))):
        if len(part) < 4:
            continue
        grams = [side[part] @ side[part].T for side in (x, y)]
        sums += [hsic(grams[0], grams[1]), hsic(grams[0], grams[0]), hsic(grams[1], grams[1])]
    return float(sums[0] / np.sqrt(sums[1] * sums[2])) if min(sums[1:]) > 0 else float("nan")


def hsic(k: torch.Tensor, m: torch.Tensor) -> float:
    """Unbiased estimate of HSIC from two Gram matrices (n, n), n >= 4 (Song et al. 2012)."""
    n = len(k)
    k, m = (gram - torch.diag(gram.diagonal()) for gram in (k, m))
    trace = (k * m).sum()
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ m.sum(0))
    return float((trace + sums) / (n * (n - 3)))
