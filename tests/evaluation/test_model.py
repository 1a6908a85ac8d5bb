"""Loading a model, and what is refused."""

import re
import shutil

import numpy as np
import pytest
import torch

from brainpretrain.evaluation.model import class_values
from brainpretrain.files import read_json, write_json
from brainpretrain.weights import store
from models import brain, labels_of, make_model, predict, save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_classes_are_written_as_values_of_the_label_file():
    assert list(class_values({"enhancing": [4], "cortex": [1002, 2002]})) == [0, 4, 1002]


def test_classes_keep_the_order_in_which_they_were_trained(model, tmp_path):
    """Keys of a JSON file are sorted; the outputs of a network are not."""
    turned = make_model(tmp_path / "turned", classes=["rim", "ball"])
    path = save(tmp_path / "a.nii.gz", brain())
    for name, folder in (("straight", model), ("turned", turned)):
        assert predict(folder, tmp_path / name, path) == 0
    straight, found = (labels_of(tmp_path / name / "a_dseg.nii.gz") for name in ("straight", "turned"))
    assert np.array_equal(found, np.select([straight == 3, straight == 300], [300, 3]))


def without(folder, *keys):
    facts = read_json(folder / "model.json")
    target = facts
    for key in keys[:-1]:
        target = target[key]
    del target[keys[-1]]
    write_json(folder / "model.json", facts)


def tensors_of(folder, change):
    tensors, facts = store.load(folder / "model")
    store.save(folder / "model", change(tensors), facts)


BROKEN = {
    "no folder": (shutil.rmtree, "there is no model.safetensors"),
    "an encoder": (lambda f: (f / "model.safetensors").rename(f / "encoder.safetensors"), "fine-tune it first"),
    "no json": (lambda f: (f / "model.json").unlink(), "file not found[\\s\\S]*model.json"),
    "no recipe": (lambda f: without(f, "recipe"), "it does not say recipe, recipe.patch_size, recipe.precision"),
    "no spacing": (lambda f: without(f, "preprocess", "spacing_mm"), "it does not say preprocess.spacing_mm"),
    "classes": (lambda f: write_json(f / "model.json", read_json(f / "model.json") | {"classes": ["ball"]}), "classes ball, but labels ball rim"),
    "a list": (lambda f: write_json(f / "model.json", []), "of kind 'None'"),
    "no decoder": (lambda f: without(f, "backbone", "decoder"), "it does not say backbone.decoder"),
    "kind": (lambda f: without(f, "kind"), "no segmentation model"),
    "other json": (lambda f: make_model(f.parent / "other", ("FLAIR", "T1w")).joinpath("model.json").replace(f / "model.json"),
                   r"\[4, 2, 3, 3, 3\] in the network[\s\S]*of one training together"),
    "no tensor": (lambda f: tensors_of(f, lambda t: dict(list(t.items())[1:])), "1 problems:\\s+missing: "),
    "more tensors": (lambda f: tensors_of(f, lambda t: t | {"x": torch.zeros(1)}), "left over: x"),
    "NaN": (lambda f: tensors_of(f, lambda t: {k: v * float("nan") for k, v in t.items()}), "not finite"),
    "no window": (lambda f: without(f, "inference"), "overlap, weights, batch, mirror[\\s\\S]*--overlap --weights --batch --mirror"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_model_that_is_not_whole_is_refused(model, tmp_path, what, capsys):
    change, message = BROKEN[what]
    folder = shutil.copytree(model, tmp_path / "model")
    change(folder)
    assert predict(folder, tmp_path / "out", save(tmp_path / "a.nii.gz", brain())) == 2
    assert re.search(message, capsys.readouterr().err) and not (tmp_path / "out").exists()


def test_a_network_that_overflows_is_refused(model, tmp_path, capsys):
    folder = shutil.copytree(model, tmp_path / "model")
    tensors_of(folder, lambda t: {k: v.sign() * 3e38 if v.ndim == 5 and len(v) == 3 else v for k, v in t.items()})
    assert predict(folder, tmp_path / "out", save(tmp_path / "a.nii.gz", brain())) == 2
    assert re.search(r"a\.nii\.gz: the network gives NaN or Inf", capsys.readouterr().err)


def test_there_is_no_such_device(model, tmp_path, capsys):
    path = save(tmp_path / "a.nii.gz", brain())
    assert predict(model, tmp_path / "out", path, options=["--device", "cuda:99"]) == 2
    assert "no device 'cuda:99'" in capsys.readouterr().err
