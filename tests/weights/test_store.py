import pytest
import torch
from torch import nn

from brainpretrain.errors import UserError
from brainpretrain.weights import store as weights


def encoder(channels=1, width=4):
    torch.manual_seed(channels)
    return nn.Sequential(nn.Conv3d(channels, width, 3, padding=1), nn.InstanceNorm3d(width, affine=True))


def test_saved_weights_come_back_with_their_facts(tmp_path):
    net = encoder()
    weights.save(tmp_path / "encoder", net.state_dict(), {"backbone": "x"})
    tensors, facts = weights.load(tmp_path / "encoder.safetensors")
    assert facts == {"backbone": "x"}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in net.state_dict().items())


def test_every_tensor_is_transferred_and_reported():
    source, target = encoder(), encoder()
    nn.init.zeros_(target[0].weight)
    report = weights.load_encoder(target, source.state_dict())
    assert [row["status"] for row in report] == ["loaded"] * 4
    assert torch.equal(target[0].weight, source[0].weight)


def test_a_stem_repeated_over_equal_channels_gives_the_same_features():
    source, target = encoder(1), encoder(3)
    report = weights.load_encoder(target, source.state_dict())
    assert sorted(row["status"] for row in report) == ["loaded", "loaded", "loaded", "repeated, divided by 3"]
    x = torch.rand(1, 1, 8, 8, 8, dtype=torch.float64)
    # a third of a weight is rounded to float32, by 6e-8, and the norm amplifies it
    assert torch.allclose(target.double()(x.expand(-1, 3, -1, -1, -1)), source.double()(x), atol=1e-5)


def test_a_stem_of_several_channels_is_left_random_if_that_is_asked_for():
    source, target = encoder(2), encoder(1)
    target.in_channels = 1
    with pytest.raises(UserError, match=r"0.weight is"):
        weights.load_encoder(target, source.state_dict())
    before = target[0].weight.clone()
    report = {row["tensor"]: row["status"] for row in weights.load_encoder(target, source.state_dict(), "random")}
    assert report == {"0.weight": "random", "0.bias": "loaded", "1.weight": "loaded", "1.bias": "loaded"}
    assert torch.equal(target[0].weight, before) and torch.equal(target[0].bias, source[0].bias)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "1.bias"}, r"1 of 4 tensors do not fit:\s+missing in the file: 1.bias"),
        (lambda t: t | {"head.weight": torch.zeros(1)}, "not in this encoder: head.weight"),
        (lambda t: t | {"1.bias": torch.zeros(5)}, r"1.bias is \[5\] in the file, \[4\] in the network"),
        (lambda t: {f"module.{k}": v for k, v in t.items()}, "8 of 4 tensors do not fit"),
    ],
)
def test_a_partial_transfer_is_refused_and_changes_nothing(change, message):
    target = encoder()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(UserError, match=message):
        weights.load_encoder(target, change(encoder().state_dict()))
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_what_is_no_safetensors_is_refused_by_name(tmp_path):
    (tmp_path / "encoder.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match=r"not readable as safetensors[\s\S]*encoder.safetensors"):
        weights.load(tmp_path / "encoder")
    with pytest.raises(UserError, match="weights not found"):
        weights.load(tmp_path / "absent")


FACTS = {"backbone": {"architecture": "unet", "options": {"width": 2, "levels": 2, "convs_per_stage": 1}}, "in_channels": 1}


def backbone(architecture="unet", **options):
    return {"backbone": {"architecture": architecture, "options": FACTS["backbone"]["options"] | options}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": None}, "not the facts of an encoder:\n  backbone: "),
        ({"backbone": {"architecture": "unet", "options": [1]}}, "backbone.options: "),
        ({"in_channels": "1"}, "in_channels: "),
        ({"in_channels": 0}, "in_channels: "),
        ({"preprocess": {"crop": "nonzero"}}, "preprocess.spacing_mm: Field required"),
        ({"patch_size": 3}, "patch_size: "),
        ({"datasets": ["ixi"]}, "datasets: "),
        (backbone(levels=10**9), "numbers from 0 to 8192"),
        (backbone(width=-1), "numbers from 0 to 8192"),
        (backbone(width=8192), "larger than the file of its tensors"),
        (backbone(levels=30), "larger than the file of its tensors"),
        (backbone(convs_per_stage=8000), "larger than the file of its tensors"),
        (backbone(width="x"), "network that the json describes cannot be built"),
        (backbone(depth=3), "unknown option 'depth'"),
        (backbone("os"), "there is no backbones/os.py"),
    ],
)
def test_facts_that_ask_for_anything_else_than_the_tensors_are_refused(tmp_path, changes, message):
    from brainpretrain import backbones
    from brainpretrain.weights import importing

    state = backbones.build("unet", 1, **FACTS["backbone"]["options"]).state_dict()
    weights.save(tmp_path / "encoder", state, FACTS)
    weights.encoder(tmp_path)
    weights.save(tmp_path / "encoder", state, FACTS | {"kind": "encoder"} | changes)
    with pytest.raises(UserError, match=message):
        weights.encoder(tmp_path)
    with pytest.raises(UserError, match=message if changes != {"backbone": None} else "backbone"):
        importing.import_encoder(tmp_path / "encoder.safetensors", tmp_path / "out", None, None, None)
    assert not (tmp_path / "out").exists()
