"""Primus is that of dynamic_network_architectures, which nnU-Net and nnssl build, by figures that `record_primus.py` recorded."""

import pytest
import torch

from brainpretrain import backbones, decoders
from brainpretrain.backbones import primus, unetr
from brainpretrain.errors import UserError
from brainpretrain.parity.compare import summary
from brainpretrain.parity.formulas import filling, image
from brainpretrain.weights import store
from reference import fixture

PUBLISHED = fixture("primus_small.json")
OPTIONS = PUBLISHED["options"]


def their_name(name: str) -> str:
    part, rest = name.split(".", 1)
    return primus.reference_name(rest) if part == "encoder" else f"up_projection.{rest}"


@torch.no_grad()
def test_primus_is_the_published_network():
    encoder = backbones.build("primus", 1, **OPTIONS)
    network = decoders.Segmenter(encoder, decoders.build("primus", encoder, PUBLISHED["classes"]))
    state = {name: their_name(name) for name in network.state_dict()}
    assert {name: list(t.shape) for name, t in zip(state.values(), network.state_dict().values(), strict=True)} == PUBLISHED[
        "tensors"
    ]
    network.load_state_dict({own: filling(name, PUBLISHED["tensors"][name]) for own, name in state.items()})
    network.double().eval()
    x = torch.from_numpy(image(PUBLISHED["image"], [2, 1, *OPTIONS["image_size"]]))
    tokens = encoder(x)[0].flatten(2).transpose(1, 2)
    # the angles of the rotary positions are float32 in both
    assert summary("tokens", tokens, PUBLISHED["tokens"], 1e-6).passes
    assert summary("logits", network(x), PUBLISHED["logits"], 1e-6).passes
    encoder.blocks[1].attn.q_proj.weight.copy_(encoder.blocks[1].attn.k_proj.weight)
    assert not summary("tokens", encoder(x)[0].flatten(2).transpose(1, 2), PUBLISHED["tokens"], 1e-6).passes


@torch.no_grad()
def test_hidden_tokens_are_left_out_and_order_does_not_matter():
    torch.manual_seed(0)
    separable = {"class_token": True, "qkv_bias": True, "positions": "separable"}
    vit = {"image_size": [32, 48, 32], "width": 24, "depth": 4, "num_heads": 2, "mlp_width": 48}
    for encoder in (primus.build(1, **OPTIONS), unetr.build(1, **vit, **separable), unetr.build(1, **vit)):
        encoder = encoder.double()
        size = [n * encoder.token for n in encoder.grid]
        x = torch.rand(2, 1, *size, dtype=torch.float64)
        n, p = torch.Size(encoder.grid).numel(), encoder.prefix
        everything = torch.stack([torch.randperm(n), torch.randperm(n)])
        whole, shuffled = encoder.attend(x)[-1], encoder.attend(x, everything)[-1]
        back = torch.stack([row[order.argsort()] for row, order in zip(shuffled[:, p:], everything, strict=True)])
        torch.testing.assert_close(back, whole[:, p:])
        few = encoder.attend(x, everything[:, :3])
        assert few[-1].shape == (2, p + 3, 24)
        assert not torch.allclose(few[-1][:, p:], shuffled[:, p : p + 3])  # the others did take part


@pytest.mark.parametrize(
    ("change", "message"),
    [({"token": 6}, "use a power of 2"), ({"width": 20}, "multiple of 12"), ({"image_size": [32, 20, 16]}, "20: 16 or 24")],
)
def test_primus_refuses_what_cannot_be(change, message):
    with pytest.raises(UserError, match=message):
        backbones.build("primus", 1, **OPTIONS | change)


def test_the_decoder_of_primus_reads_tokens_only():
    with pytest.raises(UserError, match="use 'unet'"):
        decoders.build("primus", backbones.build("resenc", 1, widths=[2, 2], blocks=[1, 1]), 1)


def test_unknown_positions_are_refused():
    with pytest.raises(UserError, match="did you mean 'separable'"):
        unetr.build(1, image_size=[32] * 3, width=24, depth=4, num_heads=2, mlp_width=48, positions="seperable")


def test_positions_of_another_grid_are_resampled_when_they_are_loaded():
    """Linear tables stay linear inside, where nothing is extrapolated, and the transfer report says what was done."""
    vit = {"width": 24, "depth": 4, "num_heads": 2, "mlp_width": 48, "positions": "separable"}
    one, other = unetr.build(1, image_size=[64, 64, 64], **vit), unetr.build(1, image_size=[32, 128, 64], **vit)
    tensors = one.state_dict() | {
        "position_axis": torch.arange(4.0).reshape(1, 4, 1).expand(1, 4, 24),
        "position_plane": torch.arange(4.0).repeat_interleave(4).reshape(1, 16, 1).expand(1, 16, 24),
    }
    report = {row["tensor"]: row["status"] for row in store.load_encoder(other, tensors)}
    assert report.pop("position_axis") == "resampled from 4 to 2 tokens"
    assert report.pop("position_plane") == "resampled from 4x4 to 8x4 tokens"
    assert set(report.values()) == {"loaded"}
    assert other.position_axis[0, :, 0].tolist() == [0.5, 2.5]
    assert other.position_plane[0, ::4, 0].tolist()[1:-1] == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75]
    oblong = unetr.build(1, image_size=[64, 64, 32], **vit)
    with pytest.raises(UserError, match="other shape: position_plane"):  # 8 tokens are no square: their grid is not known
        store.load_encoder(one, oblong.state_dict())


def test_positions_that_are_resampled_in_every_step_are_said():
    encoder = primus.build(1, **OPTIONS)
    assert encoder.resampling_for(OPTIONS["image_size"]) == {}
    assert encoder.resampling_for([32, 32, 16]) == {"position": "resampled from 4x3x2 to 4x4x2 tokens"}


@pytest.mark.parametrize("taken", [[1, 2], [2, 1, 3], [1, 2, 5], [0, 1, 2]])
def test_blocks_that_cannot_be_taken_are_refused(taken):
    with pytest.raises(UserError, match="name three of them, in order"):
        unetr.build(1, image_size=[32] * 3, width=24, depth=4, num_heads=2, mlp_width=48, taken=taken)
