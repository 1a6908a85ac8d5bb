"""CKA of features, and the encoders before and after fine-tuning."""

import itertools

import numpy as np
import pytest
import torch

import tiny
from brainpretrain import seeds
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.evaluation import features
from brainpretrain.files import read_tsv
from trainings import finetune_here, pretrain_here


def rng():
    return seeds.generator(0, "test")


def drawn(n, channels, seed):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, channels)))


def test_hsic_is_the_mean_over_all_quadruples():
    """The unbiased estimate is the mean over quadruples of different samples (Song et al. 2012), computed here one by one."""
    k, m = (x @ x.T for x in (drawn(6, 3, 0), drawn(6, 4, 1)))
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)]
    assert features.hsic(k, m) == pytest.approx(float(sum(terms) / len(terms)), rel=1e-12)


def test_cka_is_one_after_a_rotation_and_a_scale_and_none_between_what_is_independent():
    x = drawn(600, 5, 0)
    turned = 3 * x @ torch.linalg.qr(drawn(5, 5, 1))[0] + 7
    assert features.cka(x, turned, rng()) == pytest.approx(1, abs=1e-12)
    found = [features.cka(drawn(256, 8, 2 * n), drawn(256, 8, 2 * n + 1), rng()) for n in range(100)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 10  # unbiased: the plain estimate gives 0.03 for each
    assert features.cka(x, x + drawn(600, 5, 3), rng()) < 0.9


@pytest.fixture(scope="module")
def pretrained(cohort, tmp_path_factory):
    return pretrain_here(cohort, tmp_path_factory.mktemp("pretrained"), tiny.pretrain_config(2)) / "encoder.safetensors"


@pytest.mark.parametrize("start", ["scratch", "pretrained"])
def test_before_is_the_encoder_that_the_training_started_from(cohort, pretrained, tmp_path, start):
    """After steps of (almost) no length, nothing has changed; the random start is drawn again from the seed of the training."""
    init = pretrained if start == "pretrained" else None
    config = tiny.finetune_config(1, phases=[tiny.phase(1, lr=1e-30)])
    model = finetune_here(cohort, tmp_path, config, init) / "model.safetensors"
    cases = [case for group in labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"]).values() for case in group]
    table = features.compare(model, init, cases)
    assert table["level"].tolist() == [0, 1, 2] and table["stride"].tolist() == [1, 2, 4] and set(table["fold"]) == {0}
    assert table["change"].tolist() == [0, 0, 0] and table["cka"].tolist() == table["norm"].tolist() == [1, 1, 1]
    if init is None:
        assert features.compare(model, pretrained, cases)["change"].min() > 0.1
    assert features.compare(model, init, cases).equals(table)
