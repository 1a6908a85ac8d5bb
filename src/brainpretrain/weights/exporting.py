"""Exports encoders to nnU-Net.

nnU-Net's `-pretrained_weights` needs every tensor of its network except the segmentation layers. So the file has the
encoder, and a decoder drawn as nnU-Net draws it. nnU-Net's axes are z, y, x and ours x, y, z; kernels are transposed
accordingly. A backbone can be exported if its file has `nnunet_names` and `nnunet_architecture`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from brainpretrain import backbones, named
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, write_json
from brainpretrain.weights import store as weights
from brainpretrain.weights.adaptation import BESIDE, KEY
from brainpretrain.weights.foreign import AXES, BACKBONE, ZYX

CONFIGURATION = "3d_brainpretrain"  # name of the configuration in nnU-Net's plans
_SCHEMES = {"unit": "RescaleTo01Normalization", "zscore": "ZScoreNormalization"}  # by rule of intensities
_SLOPE = 1e-2  # of the leaky ReLU that nnU-Net initialises for


def export_nnunet(folder: Path, out: Path, in_channels: int | None, seed: int) -> dict[str, Any]:
    """Writes `out`, a checkpoint for `nnUNetv2_train -pretrained_weights`, and `out` with the suffix `.json`, its plan.

    Args:
        folder: folder of encoder.safetensors and encoder.json.
        out: file to write, `.pth`.
        in_channels: channels of the images that nnU-Net will train on, None for those of the encoder; a stem of one channel is
            repeated.
        seed: seed of the decoder's weights.

    Returns:
        The plan: `configurations` to merge into nnU-Net's plans file.

    Raises:
        UserError: the backbone has no counterpart in nnU-Net.
    """
    encoder, facts = weights.encoder(folder, in_channels)
    architecture = facts["backbone"]["architecture"]
    module = _exportable(architecture, folder)
    plan = nnunet_plan(encoder, module.nnunet_architecture(encoder), facts)
    decoder_convs = plan["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]["n_conv_per_stage_decoder"]
    state = nnunet_encoder(encoder, module.nnunet_names) | nnunet_decoder(encoder, decoder_convs, seed)
    write_checkpoint(out, {"network_weights": state, **_marks(facts)})
    write_json(out.with_suffix(".json"), plan)
    return plan


def export_nnssl(folder: Path, out: Path, seed: int) -> dict[str, Any]:
    """Writes `out/checkpoint_final.pth` and `out/adaptation_plan.json` in the layout of nnssl, for `nnUNetv2_train_pretrained`.

    Args:
        folder: folder of encoder.safetensors and encoder.json.
        out: folder to write.
        seed: seed of the decoder's weights.

    Returns:
        The adaptation plan.

    Raises:
        UserError: the backbone has no counterpart in nnU-Net, or nothing is known of the patch or the preprocessing.
    """
    encoder, facts = weights.encoder(folder)
    module = _exportable(facts["backbone"]["architecture"], folder)
    if "stem.conv.weight" not in encoder.state_dict():  # nnssl's plan names a stem and stages
        problem = f"nnssl has no network like '{facts['backbone']['architecture']}'"
        raise UserError(problem, where=folder, fix="export it with --format nnunet; a 'resenc' can be exported to nnssl")
    if not facts.get("patch_size") or not facts.get("preprocess"):
        problem = "nnssl's plan needs the patch and the spacing of the pretraining, and the encoder does not say them"
        raise UserError(
            problem, where=folder / "encoder.json", fix="import it again with --preprocess, and from an entry with a patch"
        )
    configuration = nnunet_plan(encoder, module.nnunet_architecture(encoder), facts)["configurations"][CONFIGURATION]
    plan = _adaptation_plan(configuration, facts, encoder.in_channels)
    convs = configuration["architecture"]["arch_kwargs"]["n_conv_per_stage_decoder"]
    state = nnunet_encoder(encoder, module.nnunet_names) | nnunet_decoder(encoder, convs, seed)
    content = {"network_weights": state, "init_args": {}, "trainer_name": plan["trainer_name"], **_marks(facts)}
    plain = {key: value for key, value in plan.items() if key != "trainer_name"}
    write_checkpoint(out / "checkpoint_final.pth", content | {KEY: plain})
    write_json(out / BESIDE, plan)
    return plan


def _marks(facts: Mapping[str, Any]) -> dict[str, str]:
    """What tells this project's importer about a checkpoint that it wrote; other programs ignore it."""
    return {AXES: ZYX, BACKBONE: json.dumps({key: facts["backbone"][key] for key in ("architecture", "options")})}


def _exportable(architecture: str, folder: Path) -> ModuleType:
    """The module of a backbone that nnU-Net has."""
    module = named.module("backbones", architecture)
    if not hasattr(module, "nnunet_names"):
        exportable = [name for name in backbones.names() if hasattr(named.module("backbones", name), "nnunet_names")]
        raise UserError(
            f"nnU-Net has no counterpart of '{architecture}'", where=folder, fix=f"can be exported: {', '.join(exportable)}"
        )
    return module


def _adaptation_plan(configuration: Mapping[str, Any], facts: Mapping[str, Any], in_channels: int) -> dict[str, Any]:
    """The fields that nnssl's plans have, from those of nnU-Net's configuration; all sizes z y x."""
    architecture = configuration["architecture"]
    recipe = {
        "data_identifier": configuration["data_identifier"],
        "preprocessor_name": "DefaultPreprocessor",
        "spacing_style": "onemmiso" if set(configuration["spacing"]) == {1} else "other",
        "normalization_schemes": configuration["normalization_schemes"],
        "use_mask_for_norm": configuration["use_mask_for_norm"],
        **{f"resampling_fn_{kind}": "resample_data_or_seg_to_shape" for kind in ("data", "mask")},
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_mask_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "spacing": configuration["spacing"],
        "patch_size": configuration["patch_size"],
    }
    return {
        "architecture_plans": {
            "arch_class_name": architecture["network_class_name"],
            "arch_kwargs": architecture["arch_kwargs"],
            "arch_kwargs_requiring_import": architecture["_kw_requires_import"],
        },
        "pretrain_plan": {
            "dataset_name": facts.get("name") or "brainpretrain",
            "plans_name": "brainpretrainPlans",
            "original_median_spacing_after_transp": configuration["spacing"],
            "image_reader_writer": "NibabelIOWithReorient",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {CONFIGURATION: recipe},
            "experiment_planner_used": "brainpretrain",
        },
        "pretrain_num_input_channels": in_channels,
        "recommended_downstream_patchsize": configuration["patch_size"],
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
        "key_to_lpe": None,
        "trainer_name": "brainpretrain",
    }


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Writes tensors and plain values as other programs read them, by `torch.save`."""
    with atomic(path) as temporary:
        torch.save(dict(content), temporary)


def nnunet_encoder(encoder: Encoder, names: Callable[[str], list[str]]) -> dict[str, torch.Tensor]:
    """The encoder's tensors by nnU-Net's names, kernels (out in x y z) as (out in z y x).

    nnU-Net's decoder contains the encoder too, so each tensor occurs there once more.
    """
    transposed = {
        name: tensor.detach().permute(0, 1, 4, 3, 2).contiguous() if tensor.ndim == 5 else tensor.detach()
        for name, tensor in encoder.state_dict().items()
    }
    places = [(f"{where}encoder.{other}", name) for where in ("", "decoder.") for name in transposed for other in names(name)]
    return {other: transposed[name] for other, name in places}


def nnunet_decoder(encoder: Encoder, convs: list[int], seed: int) -> dict[str, torch.Tensor]:
    """A decoder as nnU-Net initialises it (He et al., normal), without segmentation layers; coarsest stage first."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def add(names: list[str], shape: list[int], bias: int) -> None:
        weight = torch.nn.init.kaiming_normal_(torch.empty(shape), a=_SLOPE, generator=generator)
        pair = (weight, torch.zeros(bias))
        state.update({f"{name}.{kind}": tensor for name in names for kind, tensor in zip(("weight", "bias"), pair, strict=True)})

    for number, level in enumerate(reversed(range(len(encoder.channels) - 1))):
        width, factor = encoder.channels[level], encoder.strides[level + 1] // encoder.strides[level]
        add([f"decoder.transpconvs.{number}"], [encoder.channels[level + 1], width, *[factor] * 3], width)
        for conv in range(convs[number]):
            block = f"decoder.stages.{number}.convs.{conv}"
            add([f"{block}.conv", f"{block}.all_modules.0"], [width, width if conv else 2 * width, 3, 3, 3], width)
            for name in ("norm", "all_modules.1"):
                state |= {f"{block}.{name}.weight": torch.ones(width), f"{block}.{name}.bias": torch.zeros(width)}
    return state


def nnunet_plan(encoder: Encoder, architecture: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that nnU-Net needs: network, patch and spacing (both z y x), normalisation."""
    levels = len(encoder.channels)
    steps = [after // before for before, after in zip([1, *encoder.strides], encoder.strides, strict=False)]
    kwargs = {
        "n_stages": levels,
        "features_per_stage": encoder.channels,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * levels,
        "strides": [[step] * 3 for step in steps],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **{key: value for key, value in architecture.items() if key != "network_class_name"},
    }
    configuration: dict[str, Any] = {
        "inherits_from": "3d_fullres",
        "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
        "architecture": {
            "network_class_name": architecture["network_class_name"],
            "arch_kwargs": kwargs,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "normalization_schemes": [_SCHEMES[facts.get("intensity", "unit")]] * encoder.in_channels,
        "use_mask_for_norm": [False] * encoder.in_channels,
    }
    if facts["preprocess"]:
        configuration["spacing"] = facts["preprocess"]["spacing_mm"][::-1]
    if facts["patch_size"]:
        configuration["patch_size"] = facts["patch_size"][::-1]
    return {"configurations": {CONFIGURATION: configuration}}
