"""ViT-MAE of Zhang et al.: tokens, positions, latent, prediction and losses; its UNETR; and MONAI's transformer beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from brainpretrain import decoders
from brainpretrain.backbones.base import parameters
from brainpretrain.backbones.unetr import VisionTransformer, mae_name, reference_name, transformer_block
from brainpretrain.parity import formulas
from brainpretrain.parity.compare import Line, exact, figures, summary
from brainpretrain.pretext import vit_mae
from brainpretrain.sizes import visible_blocks

_EPSILON = 1e-6  # of layer norms, where the fixture does not state it
# transformers in float32, relative to the deviation of the tokens: the authors' blocks and MONAI's differ by 1.4e-6 for the same
# tensors, and the convolutions behind them add to it
NETWORK = 2e-5
_LIGHT = {"embed": "decoder_embed", "norm": "decoder_norm", "predict": "decoder_pred"}
_LIGHT_TABLES = {"mask_token": "mask_token"} | {
    name: f"decoder_{mae_name(name)}" for name in ("class_position", "position_axis", "position_plane")
}


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return "pos_embed_temporal" in content.get("small", {}).get("tensors", {})


def check(content: Mapping[str, Any]) -> Iterator[Line]:
    """Lines for the masked autoencoder, the UNETR that takes its encoder, MONAI's transformer, and the size of the paper."""
    formula = content["filling"]["image"]
    epsilon = content.get("monai_mapping", {}).get("layer_norm_eps", {}).get("authors", _EPSILON)
    yield from _masked(content["small"], formula, epsilon)
    if "fine_tuning_unetr_small" in content:
        yield from _unetr(content["fine_tuning_unetr_small"], formula, epsilon)
    if "monai_mapping" in content:
        yield from _monai(content["monai_mapping"], content["small"], formula, epsilon)
    if "paper_size" in content:
        yield from _paper(content["paper_size"])


def _masked(case: Mapping[str, Any], formula: str, epsilon: float) -> Iterator[Line]:
    options, tensors = case["options"], case["tensors"]
    encoder = _encoder(tensors, "", case["grid"], options["num_heads"], epsilon)
    task = _task(encoder, tensors, options["decoder_num_heads"], case["mask_ratio"])
    yield _filled(task, tensors, _mae_tensor)
    yield exact("parameters", [parameters(task), parameters(encoder)], [case["parameters"], case["encoder_parameters"]])
    image, noise = _image(case["input"], formula), formulas.evaluate(case["noise"].partition(";")[0])
    order = torch.from_numpy(np.argsort(noise, axis=1, kind="stable"))
    visible = visible_blocks(order.shape[1], case["mask_ratio"])
    kept, removed = order[:, :visible], order[:, visible:]
    yield exact("tokens that are kept", [visible], [case["kept"]])
    yield exact("order of the kept tokens", kept[0].tolist(), case["kept_tokens_of_sample_0_in_order_of_noise"])
    yield exact("hidden tokens", [len(row) for row in removed], case["masked_tokens"])
    with torch.no_grad():
        grid = encoder.grid_of(image)
        yield summary("tokens of the image", encoder.embedding(image).flatten(2).transpose(1, 2), case["patch_tokens"], NETWORK)
        yield summary("positions", encoder.position_at(grid), case["position_table_without_class"])
        yield summary("latent", encoder.attend(image, kept)[-1], case["latent_with_class_token_first"], NETWORK)
        found = task.prediction(image, kept)
        yield summary("prediction", found, case["prediction"], NETWORK)
        volume = vit_mae.volume_of(found, grid, encoder.token)
        yield summary("prediction as a volume", volume, case["prediction_as_volume"], NETWORK)
        for name, normalize in (("loss", False), ("loss_if_norm_pix", True)):
            task.how = task.how._replace(normalize_target=normalize)
            loss = task.error(task.prediction(image, kept, removed), task.target(image)[0], removed)
            yield figures(name.replace("_", " "), loss.item(), case[name])


def _unetr(case: Mapping[str, Any], formula: str, epsilon: float) -> Iterator[Line]:
    options, tensors = case["options"], case["tensors"]
    image = _image(case["input"], formula)
    token = tensors["encoder.patch_embed.proj.weight"][2]
    states = case["hidden_states_used"]
    taken = [int(found[0]) for name in states if (found := re.findall(r"\d+", name))]
    encoder = _encoder(tensors, "encoder.", [n // token for n in image.shape[2:]], options["num_heads"], epsilon, taken=taken)
    decoder = decoders.build("unetr", encoder, options["out_channels"], feature_size=options["feature_size"], residual=False)
    network = decoders.Segmenter(encoder, decoder)
    wanted = {name: shape for name, shape in tensors.items() if name not in case.get("unused_tensors", [])}
    yield _filled(network, wanted, _unetr_tensor, "UNETR: ")
    with torch.no_grad():
        features = network.eval().encoder(image)
        for (name, expected), feature in zip(states.items(), features, strict=True):
            yield summary(f"UNETR: {name}", feature.flatten(2).transpose(1, 2), expected, NETWORK)
        yield summary("UNETR: output", decoder(features, image), case["output"], 10 * NETWORK)


def _monai(case: Mapping[str, Any], small: Mapping[str, Any], formula: str, epsilon: float) -> Iterator[Line]:
    """The encoder with and without its class token and with other layer norms, and the names of MONAI's tensors."""
    tensors, heads, image = small["tensors"], case["options"]["num_heads"], _image(case["input"], formula)
    token = tensors["patch_embed.proj.weight"][2]
    grid = [n // token for n in image.shape[2:]]
    with_token, without, other = (
        _encoder(tensors, "", grid, heads, eps, class_token)
        for eps, class_token in ((epsilon, True), (epsilon, False), (case["layer_norm_eps"]["monai"][0], False))
    )
    for encoder in (with_token, without, other):
        encoder.load_state_dict({name: formulas.filling(mae_name(name), t.shape) for name, t in encoder.state_dict().items()})
    with torch.no_grad():
        found, dropped, changed = (encoder.attend(image)[-1][:, encoder.prefix :] for encoder in (with_token, without, other))
    yield summary("MONAI: with the class token", found, case["authors_encoder_with_class_token"], NETWORK)
    yield summary("MONAI: without the class token", dropped, case["without_class_token"], NETWORK)
    effects = {"class token": found - dropped, "eps 1e-5": changed - dropped}
    for text, value in case["largest_difference"].items():
        for word, difference in effects.items():
            if text.startswith("effect") and text.endswith(word):  # given with as many digits as it is compared to
                digits = len(str(value).partition(".")[2])
                yield Line(f"MONAI: {text}", abs(difference.abs().max().item() - value), 0.51 * 10.0**-digits)
    blocks = sorted({_block(name) for name in without.state_dict() if name.startswith("blocks.")})
    own = {reference_name(name) for name in without.state_dict()}
    theirs = {f"blocks.{n}.{name}" for n in blocks for name in _monai_block(tensors, heads)}
    yield exact("MONAI: tensors that no file has", sorted(theirs - own), sorted(case["missing_in_monai_after_mapping"]))


def _block(name: str) -> int:
    return int(name.split(".")[1])


def _monai_block(tensors: Mapping[str, Sequence[int]], heads: int) -> list[str]:
    """Names in a block of MONAI, the norm that it never uses included."""
    from monai.networks.blocks.transformerblock import TransformerBlock

    hidden, width = tensors["blocks.0.mlp.fc1.weight"]
    return list(TransformerBlock(width, hidden, heads, qkv_bias=True).state_dict())


def _paper(case: Mapping[str, Any]) -> Iterator[Line]:
    """Counts and shapes, without memory; how many heads there are changes neither."""
    tensors = case["tensors"]
    grid = [tensors["pos_embed_temporal"][1], tensors["pos_embed_spatial"][1], 1]
    with torch.device("meta"):
        encoder = _encoder(tensors, "", grid, 1, _EPSILON)
        task = _task(encoder, tensors, 1, 0.5)
    own = {_mae_tensor(name): list(tensor.shape) for name, tensor in task.state_dict().items()}
    yield exact("paper's size: shapes of tensors", sorted(map(str, own.items())), sorted(map(str, tensors.items())))
    yield exact("paper's size: parameters", [parameters(task), parameters(encoder)], [case["parameters"], case["encoder"]])
    for name, expected in case.items():
        if found := re.fullmatch(r"kept_of_(\d+)_at_([\d.]+)", name):
            yield exact(f"paper's size: {name.replace('_', ' ')}", [visible_blocks(int(found[1]), float(found[2]))], [expected])


def _encoder(
    tensors: Mapping[str, Sequence[int]],
    prefix: str,
    grid: Sequence[int],
    heads: int,
    epsilon: float,
    class_token: bool = True,
    taken: Sequence[int] = (),
) -> VisionTransformer:
    """The encoder whose tensors are listed with `prefix`; `backbones.build` refuses fewer than four blocks."""
    width, channels, token = (tensors[f"{prefix}patch_embed.proj.weight"][axis] for axis in range(3))
    hidden = tensors[f"{prefix}blocks.0.mlp.fc1.weight"][0]
    blocks = [transformer_block(width, hidden, heads, True, epsilon) for _ in range(_depth(tensors, f"{prefix}blocks."))]
    norm = nn.LayerNorm(width, eps=epsilon)
    return VisionTransformer(channels, list(grid), token, blocks, norm, class_token, "separable", list(taken))


def _task(encoder: VisionTransformer, tensors: Mapping[str, Sequence[int]], heads: int, ratio: float) -> vit_mae.ViTMAE:
    width, depth = tensors["decoder_embed.weight"][0], _depth(tensors, "decoder_blocks.")
    light = {"width": width, "depth": depth, "num_heads": heads}
    return vit_mae.build(encoder, encoder.in_channels, mask_ratio=ratio, light_decoder=light)


def _depth(tensors: Mapping[str, Any], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _filled(network: nn.Module, tensors: Mapping[str, Sequence[int]], name_of: Any, group: str = "") -> Line:
    """Fills a network by the names of the fixture, and compares names and shapes."""
    names = {name: name_of(name) for name in network.state_dict()}
    own = {names[name]: list(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: formulas.filling(names[name], t.shape) for name, t in network.state_dict().items()})
    wrong = [name for name in {*own, *tensors} if own.get(name) != tensors.get(name)]
    return exact(f"{group}names and shapes of {len(tensors)} tensors", wrong, [])


def _mae_tensor(name: str) -> str:
    """The name in the authors' program of a tensor of the pretext."""
    part, _, rest = name.partition(".")
    if part == "encoder":
        return mae_name(rest)
    first, _, last = rest.partition(".")
    if first == "blocks":
        return f"decoder_{mae_name(rest)}"
    return f"{_LIGHT[first]}.{last}" if last else _LIGHT_TABLES[first]


def _unetr_tensor(name: str) -> str:
    """The name in the authors' program of a tensor of UNETR."""
    part, rest = name.split(".", 1)
    return f"encoder.{mae_name(rest)}" if part == "encoder" else rest


def _image(text: str, formula: str) -> torch.Tensor:
    """The last shape in a text such as `image formula, (2,1,48,32,32)`, filled by the formula, in float32."""
    shape = [int(n) for n in re.findall(r"\d+", re.findall(r"\([\d,\s]+\)", text)[-1])]
    assert len(shape) == 5 and math.prod(shape)
    return torch.from_numpy(formulas.image(formula, shape).astype(np.float32))
