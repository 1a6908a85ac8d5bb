"""What nnU-Net gets. The fixture was recorded with nnU-Net itself, see record_nnunet.py."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch
import yaml

import tiny
from brainpretrain import backbones, cli, datasets
from brainpretrain.errors import UserError
from brainpretrain.files import read_json
from brainpretrain.weights import exporting, importing
from brainpretrain.weights import store as weights
from helpers import ROOT
from reference import DOUBLE, assert_matches, checksum, filled, fixture, wave

LAYOUTS = ROOT / "tests" / "parity" / "fixtures" / "published_layouts.json"
OPTIONS = {
    "unet": {"width": 4, "levels": 3, "convs_per_stage": 2},
    "resenc": {"widths": [4, 8, 10], "blocks": [1, 2, 1]},
}
RECORDED = {"unet": "nnunet_max_pool.json", "resenc": "nnunet_resenc_export.json"}


def saved(folder, architecture):
    encoder = filled(backbones.build(architecture, 1, **OPTIONS[architecture]))
    facts = {"name": "small", "backbone": {"architecture": architecture, "options": OPTIONS[architecture]}, "in_channels": 1,
             "preprocess": tiny.PREPROCESS | {"spacing_mm": [1, 2, 3]}, "patch_size": [16, 32, 48]}  # fmt: skip
    weights.save(folder / "encoder", encoder.state_dict(), facts)
    return folder


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path, "unet")


def written(folder, *options):
    out = folder / "export" / "small.pth"
    assert cli.main(["export", "--encoder", str(folder), "--format", "nnunet", *options, "--out", str(out)]) == 0
    return torch.load(out, weights_only=True)["network_weights"], read_json(out.with_suffix(".json"))


@pytest.mark.parametrize("architecture", RECORDED)
def test_names_shapes_and_values_are_those_that_nnunet_loaded(tmp_path, architecture):
    expected = fixture(RECORDED[architecture])["tensors"]
    state, _ = written(saved(tmp_path, architecture))
    assert {name: list(tensor.shape) for name, tensor in state.items()} == {n: t["shape"] for n, t in expected.items()}
    for name, tensor in state.items():
        if "encoder." in name:
            assert checksum(tensor) == pytest.approx(expected[name]["checksum"], rel=1e-6, abs=1e-9), name


@torch.no_grad()
@pytest.mark.parametrize("architecture", RECORDED)
def test_the_features_that_nnunet_computed_are_ours(tmp_path, architecture):
    encoder, _ = weights.encoder(saved(tmp_path, architecture))
    features = encoder.double()(wave().double())
    for found, wanted in zip(features, fixture(RECORDED[architecture])["features"], strict=True):
        assert_matches(found, wanted, DOUBLE)


def test_kernels_are_turned_to_the_axes_of_nnunet(folder):
    encoder, _ = weights.encoder(folder)
    state, _ = written(folder)
    ours, theirs = encoder.state_dict()["stages.1.0.conv.weight"], state["encoder.stages.1.1.convs.0.conv.weight"]
    assert torch.equal(theirs.permute(0, 1, 4, 3, 2), ours) and not torch.equal(theirs, ours)


def test_the_decoder_is_drawn_from_the_seed_as_nnunet_draws_it(folder):
    first, again, other = (written(folder, "--seed", seed)[0] for seed in "001")
    name = "decoder.stages.0.convs.0.conv.weight"  # 16 inputs of 27 voxels
    assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])
    assert first[name].std().item() == pytest.approx((2 / (1 + 0.01**2) / (16 * 27)) ** 0.5, rel=0.05)
    assert (first["decoder.transpconvs.1.bias"] == 0).all() and (first["decoder.stages.1.convs.1.norm.weight"] == 1).all()


def test_more_channels_repeat_the_stem(folder):
    one, _ = written(folder)
    four, plan = written(folder, "--in-channels", "4")
    name = "encoder.stages.0.0.convs.0.all_modules.0.weight"
    assert four[name].shape[1] == 4 and torch.allclose(four[name].sum(1), one[name][:, 0], atol=1e-6)
    assert len(plan["configurations"][exporting.CONFIGURATION]["normalization_schemes"]) == 4


def test_the_plan_has_patch_and_spacing_in_the_order_of_nnunet(folder):
    _, plan = written(folder)
    found = plan["configurations"][exporting.CONFIGURATION]
    assert (found["patch_size"], found["spacing"]) == ([48, 32, 16], [3, 2, 1])
    assert found["architecture"]["arch_kwargs"]["strides"] == [[1] * 3, [2] * 3, [2] * 3]


def test_a_card_lies_beside_every_export(folder):
    written(folder)
    text = (folder / "export" / "small.md").read_text()
    assert text.startswith("# small\n") and "| spacing mm | 1, 2, 3 |" in text


def test_the_plan_names_nnunets_own_residual_network(tmp_path):
    _, plan = written(saved(tmp_path, "resenc"))
    found = plan["configurations"][exporting.CONFIGURATION]["architecture"]
    assert found["network_class_name"].endswith(".ResidualEncoderUNet")
    assert found["arch_kwargs"]["n_blocks_per_stage"] == [1, 2, 1] and found["arch_kwargs"]["features_per_stage"] == [4, 8, 10]


def test_what_nnunet_has_no_network_for_is_refused(tmp_path):
    options = {"width": 8, "kernel_size": 3, "blocks": [1, 1, 1], "expansions": [2, 2, 2]}
    facts = {"name": "x", "backbone": {"architecture": "mednext", "options": options}, "in_channels": 1}
    weights.save(tmp_path / "encoder", backbones.build("mednext", 1, **options).state_dict(), facts)
    with pytest.raises(UserError, match=r"no counterpart of 'mednext'[\s\S]*can be exported: .*unet"):
        exporting.export_nnunet(tmp_path, tmp_path / "x.pth", None, 0)
    assert not (tmp_path / "x.pth").exists()


# ------------------------------------------------------------------------------------ round trips


def taken_back(path, out, **options):
    arguments = {"backbone": None, "preprocess": None, "release": None} | options
    facts = importing.import_encoder(path, out, **arguments)
    return weights.load(out / "encoder")[0], facts


def assert_equal(found, folder):
    wanted, _ = weights.load(folder / "encoder")
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("architecture", RECORDED)
def test_nnunets_checkpoint_is_taken_back_bit_for_bit(tmp_path, architecture):
    folder = saved(tmp_path, architecture)
    written(folder)
    found, facts = taken_back(folder / "export" / "small.pth", tmp_path / "back")
    assert_equal(found, folder)
    assert facts["backbone"] == {"architecture": architecture, "options": OPTIONS[architecture]}


@pytest.mark.parametrize("architecture", RECORDED)
def test_what_nnunet_saves_again_is_taken_back_bit_for_bit(tmp_path, architecture):
    """nnU-Net keeps names and axes, adds segmentation layers and its plans, and loses the marks of the export."""
    folder = saved(tmp_path, architecture)
    state, plan = written(folder)
    state["decoder.seg_layers.0.weight"] = torch.zeros(2, 4, 1, 1, 1)
    init = {
        "plans": {"plans_name": "nnUNetPlans", "configurations": plan["configurations"]},
        "configuration": "3d_brainpretrain",
        "fold": 0,
    }
    exporting.write_checkpoint(
        tmp_path / "theirs.pth", {"network_weights": state, "init_args": init, "trainer_name": "nnUNetTrainer"}
    )
    backbone = {"architecture": architecture, "options": OPTIONS[architecture]}
    found, _ = taken_back(tmp_path / "theirs.pth", tmp_path / "back", backbone=backbone)
    assert_equal(found, folder)


def test_nnssls_layout_is_taken_back_bit_for_bit_with_its_plan(tmp_path, capsys):
    folder, out = saved(tmp_path, "resenc"), tmp_path / "nnssl"
    assert cli.main(["export", "--encoder", str(folder), "--format", "nnssl", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"checkpoint_final.pth", "adaptation_plan.json", "README.md"}
    found, facts = taken_back(
        out / "checkpoint_final.pth", tmp_path / "back", preprocess=tiny.PREPROCESS | {"spacing_mm": [1, 2, 3]}
    )
    assert_equal(found, folder)
    assert facts["patch_size"] == [16, 32, 48] and facts["source"]["adaptation_plan"]["spacing"] == [3, 2, 1]
    plan, recorded = read_json(out / "adaptation_plan.json"), json.loads(LAYOUTS.read_text())
    assert plan.keys() - {"trainer_name"} == recorded["adaptation_plan_example"].keys()
    assert plan["pretrain_plan"].keys() == set(recorded["plan_fields"])
    (ours,), (theirs,) = (p["pretrain_plan"]["configurations"].values() for p in (plan, recorded["adaptation_plan_example"]))
    assert ours.keys() == theirs.keys()
    content = torch.load(out / "checkpoint_final.pth", weights_only=True)
    state = content["network_weights"]
    for key in ("key_to_encoder", "key_to_stem"):
        assert any(name.startswith(f"{plan[key]}.") for name in state)
    assert all(f"{name}.weight" in state for name in plan["keys_to_in_proj"])
    first, second = (state[f"{name}.weight"] for name in plan["keys_to_in_proj"])
    assert torch.equal(first, second)  # the fine-tuning repeats the first over channels, so it must be a trained one


def test_nnssl_gets_no_network_that_it_does_not_know(folder):
    with pytest.raises(UserError, match=r"nnssl has no network like 'unet'[\s\S]*--format nnunet"):
        exporting.export_nnssl(folder, folder / "out", 0)


# ------------------------------------------------------------------------------------ hub


def of_hub(folder, facts):
    """The folder for a hub of an encoder with more facts, and its README."""
    encoder, known = weights.encoder(folder)
    weights.save(folder / "encoder", encoder.state_dict(), known | facts)
    assert cli.main(["export", "--encoder", str(folder), "--format", "hub", "--out", str(folder / "hub")]) == 0
    return (folder / "hub" / "README.md").read_text()


def test_the_folder_for_a_hub_runs_its_own_snippet(folder):
    text = of_hub(folder, {"datasets": {"ixi": {"subjects": 2, "volumes": 4}}})
    assert {path.name for path in (folder / "hub").iterdir()} == {"encoder.safetensors", "encoder.json", "README.md"}
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", snippet], cwd=folder / "hub", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([[1, 4, 8, 8, 8], [1, 8, 4, 4, 4], [1, 16, 2, 2, 2]])


def test_the_card_has_the_licences_of_the_whole_corpus(folder, capsys):
    names = {name: {"subjects": 1, "volumes": 1} for name in ("ixi", "adni", "mine")}
    text = of_hub(folder, {"datasets": names})
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "other"  # several
    for name in ("ixi", "adni"):
        assert f"| {name} | {datasets.load(name).licence} |" in text and " ".join(datasets.load(name).citation.split()) in text
    assert "| mine | unknown |" in text
    said = capsys.readouterr().out
    assert "before you share it: adni: its terms do not allow" in said and "mine: its licence is not known" in said
    assert "ixi:" not in said


def test_the_card_of_an_import_has_the_terms_of_its_release(folder):
    source = {"file": "x.pth", "bytes": 1, "sha256": "0", "left": {}, "release": "theirs", "licence": "CC BY-NC-ND 4.0",
              "citation": "Them 2024", "corpus": "45 volumes", "forbids": "use in a product"}  # fmt: skip
    text = of_hub(folder, {"source": source})
    assert yaml.safe_load(text.split("---")[1])["license"] == "cc-by-nc-nd-4.0"
    assert "theirs: its terms forbid use in a product" in text and "- theirs: Them 2024" in text
