"""What nnU-Net gets. The fixture was recorded with nnU-Net itself, see record_nnunet.py."""

from __future__ import annotations

import pytest
import torch

import tiny
from brainpretrain import backbones, cli
from brainpretrain.errors import UserError
from brainpretrain.files import read_json
from brainpretrain.weights import exporting
from brainpretrain.weights import store as weights
from reference import DOUBLE, assert_matches, checksum, filled, fixture, wave

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
