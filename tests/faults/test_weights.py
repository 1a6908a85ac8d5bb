"""Faults of weights: files that are none, that are crafted, or that would run code."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import stat
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from brainpretrain import cli
from brainpretrain.files import read_json, write_json

BACKBONE = json.dumps({"architecture": "unet", "options": tiny.BACKBONE["options"]})


class Payload:
    """Unpickled by anything but a restricted reader, it runs a command."""

    def __init__(self, canary) -> None:
        self.canary = str(canary)

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """Folder of an encoder, and of a model that was fine-tuned from it."""
    root = tmp_path_factory.mktemp("trained")
    line = [
        "pretrain",
        "--corpus",
        str(cohort.corpus),
        "--data",
        str(cohort.data),
        "--config",
        json.dumps(tiny.pretrain_config(1)),
    ]
    assert cli.main([*line, "--work", str(root / "work"), "--out", str(root / "encoder")]) == 0
    assert cli.main(finetune(cohort, root / "encoder" / "encoder.safetensors", root, root / "model")) == 0
    return root


def finetune(cohort, init, root, out) -> list[str]:
    return tiny.finetune_line(cohort, tiny.finetune_config(1), root, "--init", str(init), out=out)


def uses(cohort, file, out) -> dict[str, list[str]]:
    """Every command that reads weights."""
    image = str(cohort.raw / "s0_T1w.nii.gz")
    return {
        "finetune": finetune(cohort, file, out, out / "model"),
        "import": ["import", str(file), "--backbone", BACKBONE, "--out", str(out / "imported")],
        "predict": ["predict", image, "--model", str(file), "--out", str(out / "predicted"), "--device", "cpu"],
    }


def refused(line, file, capsys) -> str:
    """What a command said that must stop at a file."""
    capsys.readouterr()
    assert cli.main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and str(file) in said and "fix:" in said, said
    return said


# ------------------------------------------------------------------------------------ code in disguise


def as_zip(path, canary):
    torch.save({"state_dict": {"w": torch.zeros(2)}, "more": Payload(canary)}, path)


def as_old_torch(path, canary):
    torch.save({"state_dict": {"w": torch.zeros(2)}, "more": Payload(canary)}, path, _use_new_zipfile_serialization=False)


def as_pickle(path, canary):
    path.write_bytes(pickle.dumps({"state_dict": Payload(canary)}))


def as_array(path, canary):
    with open(path, "wb") as stream:
        np.save(stream, np.array([Payload(canary)], dtype=object), allow_pickle=True)


DISGUISES = {
    "foreign.pth": (as_zip, "the file holds more than tensors, reading it would run code: .*system"),
    "foreign.ckpt": (as_old_torch, "neither safetensors nor a zip file"),
    "foreign.pkl": (as_pickle, "neither safetensors nor a zip file"),
    "foreign.npy": (as_array, "neither safetensors nor a zip file"),
    "foreign.safetensors": (as_pickle, "neither safetensors nor a zip file"),
}


@pytest.mark.parametrize("command", ["import", "finetune", "predict"])
@pytest.mark.parametrize("name", DISGUISES)
def test_49_foreign_weights_are_refused_and_nothing_in_them_runs(cohort, tmp_path, capsys, name, command):
    file, canary = tmp_path / name, tmp_path / "ran"
    write, problem = DISGUISES[name]
    write(file, canary)
    write_json(file.with_suffix(".json"), {"kind": "model"})
    said = refused(uses(cohort, file, tmp_path / "out")[command], file, capsys)
    if command == "import":
        assert "save its state dict with torch.save" in said
    elif name.endswith(".safetensors"):
        problem = "not readable as safetensors"
    else:
        problem = "weights are read only as safetensors, never as"
        assert f"brainpretrain import {name}" in said
    assert re.search(problem, said), said
    assert not canary.exists() and not list((tmp_path / "out").rglob("*.safetensors"))


def test_49_an_array_of_objects_is_no_image_for_an_encoder(trained, tmp_path, capsys):
    file, canary = tmp_path / "image.npy", tmp_path / "ran"
    as_array(file, canary)
    line = ["features", str(file), "--raw", "--encoder", str(trained / "encoder"), "--out", str(tmp_path / "out.npz")]
    assert "no readable array" in refused(line, file, capsys)
    assert not canary.exists() and not (tmp_path / "out.npz").exists()


# ------------------------------------------------------------------------------------ crafted safetensors


def crafted(header, size=64, length=None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(size)


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


CRAFTED = {
    "a header of 2**62 bytes": crafted(entry(), length=2**62),
    "a header of 200 MB": crafted(b"{" + b" " * 1000, length=200_000_000),
    "a header that is longer than the file": crafted(entry(), size=0, length=5000),
    "a header that is no JSON": crafted(b"{not json"),
    "a header of deep brackets": crafted(b'{"w":' + b"[" * 100_000),
    "a tensor of 2**60 values": crafted(entry(shape=(2**30, 2**30), offsets=(0, 2**62))),
    "a shape that overflows": crafted(entry(shape=(2**40, 2**40))),
    "offsets beyond the file": crafted(entry(shape=(1000,), offsets=(0, 4000))),
    "offsets that go back": crafted(entry(offsets=(16, 0))),
    "an unknown type": crafted(entry(dtype="P64")),
    "nothing": b"",
}


@pytest.mark.parametrize("command", ["import", "finetune", "predict"])
@pytest.mark.parametrize("what", CRAFTED)
def test_50_a_crafted_header_is_refused_by_name(cohort, tmp_path, capsys, what, command):
    file = tmp_path / "crafted.safetensors"
    file.write_bytes(CRAFTED[what])
    write_json(file.with_suffix(".json"), {"kind": "model"})
    said = refused(uses(cohort, file, tmp_path / "out")[command], file, capsys)
    assert "not readable as safetensors" in said or "neither safetensors nor a zip" in said
    assert not list((tmp_path / "out").rglob("*.safetensors"))


TENSORS = {
    "integers": (
        lambda tensor: tensor.to(torch.int32),
        "other type: {name} is torch.int32 in the file, torch.float32 in the network",
    ),
    "truth values": (lambda tensor: tensor > 0, "other type: {name} is torch.bool in the file"),
    "NaN": (lambda tensor: tensor * torch.nan, "not finite: {name}"),
    "another shape": (lambda tensor: tensor[..., :1].contiguous(), "other shape: {name} is "),
}


@pytest.mark.parametrize("command", ["import", "finetune", "predict"])
@pytest.mark.parametrize("what", TENSORS)
def test_50_a_tensor_of_another_kind_is_refused_by_name(cohort, trained, tmp_path, capsys, what, command):
    source = trained / ("model/model" if command == "predict" else "encoder/encoder")
    tensors = load_file(source.with_suffix(".safetensors"))
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 5 and min(tensor.shape[1], tensor.shape[-1]) > 1)
    change, problem = TENSORS[what]
    file = tmp_path / "crafted.safetensors"
    save_file(tensors | {name: change(tensors[name])}, file)
    write_json(file.with_suffix(".json"), read_json(source.with_suffix(".json")))
    said = refused(uses(cohort, file, tmp_path / "out")[command], file, capsys)
    assert problem.format(name=name) in said, said
    assert not list((tmp_path / "out").rglob("*.safetensors"))


@pytest.mark.parametrize("command", ["import", "finetune"])
def test_50_a_stem_of_integers_is_not_repeated_into_floats(cohort, trained, tmp_path, capsys, command):
    tensors = load_file(trained / "encoder" / "encoder.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 5 and tensor.shape[1] == 1)
    file = tmp_path / "crafted.safetensors"
    save_file(tensors | {name: torch.ones_like(tensors[name], dtype=torch.int64)}, file)
    write_json(file.with_suffix(".json"), read_json(trained / "encoder" / "encoder.json"))
    assert f"other type: {name}" in refused(uses(cohort, file, tmp_path / "out")[command], file, capsys)


# ------------------------------------------------------------------------------------------------ 67


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def no_administrator():
    """As a user without rights to files of others; the administrator may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_67_every_file_of_a_training_has_the_mode_that_the_umask_gives(cohort, tmp_path, mask, mode):
    with umask(mask):
        line = ["pretrain", "--corpus", str(cohort.corpus), "--data", str(cohort.data), "--save-every", "1"]
        config = json.dumps(tiny.pretrain_config(2))
        (tmp_path / "out").write_text("a file where the results should go, so that the checkpoint stays")
        with pytest.raises(OSError):
            cli.main([*line, "--config", config, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])
        files = [path for path in (tmp_path / "work").rglob("step-*/*")]
        assert len(files) == 4 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}
        (tmp_path / "out").unlink()
        assert cli.main([*line, "--config", config, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]) == 0
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"encoder.safetensors", "encoder.json", "log.csv"} <= {path.name for path in written}
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in written} == {path.name: mode for path in written}


def test_67_a_file_that_may_not_be_read_is_no_missing_file(trained, cohort, capsys):
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        shutil.copytree(trained / "model", folder / "model")
        shutil.copy(cohort.raw / "s0_T1w.nii.gz", folder)
        (folder / "out").mkdir()
        for path in (folder, folder / "out"):
            path.chmod(0o777)
        weights = folder / "model" / "model.safetensors"
        line = ["predict", str(folder / "s0_T1w.nii.gz"), "--model", str(folder / "model"), "--out", str(folder / "out" / "p")]
        line += ["--overlap", "0.5", "--weights", "constant", "--batch", "1", "--mirror", "none"]
        assert cli.main(line) == 0  # and everything is imported: another user may not read the environment
        for place, mode, problem, fix in (
            (weights, 0o600, "has no permission to read it (-rw-------, owner", f"chmod a+r {weights}"),
            (weights.with_suffix(".json"), 0o600, "has no permission to read it", f"chmod a+r {weights.with_suffix('.json')}"),
            (
                folder / "model",
                0o700,
                f"has no permission to enter the folder {folder / 'model'}",
                f"chmod a+rx {folder / 'model'}",
            ),
        ):
            before = stat.S_IMODE(place.stat().st_mode)
            place.chmod(mode if os.geteuid() == 0 else mode & 0o077)
            with no_administrator():
                assert cli.main(line) == 2
            place.chmod(before)
            said = capsys.readouterr().err
            assert problem in said and fix in said and "Traceback" not in said, said
    finally:
        shutil.rmtree(folder)
