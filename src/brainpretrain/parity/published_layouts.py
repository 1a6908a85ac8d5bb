"""Layouts of published encoders: names, nesting, double and stale tensors. Each is written as a file and imported.

The stand-ins have the recorded names and shapes, and values by formula. Where a layout records only a part of the encoder, the
names of the rest are those of the other files of the same network.
"""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from brainpretrain import backbones
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv
from brainpretrain.parity import formulas
from brainpretrain.parity.compare import Line, exact
from brainpretrain.weights import adaptation, exporting, importing, store

ENCODER, AGAIN = "encoder.", "decoder.encoder."


@dataclass
class StandIn:
    """A published file in small.

    Attributes:
        name: of the layout.
        tensors: what the file holds, by the names in it, without the wrappers that `content` may add.
        content: the file.
        trained: part of the names of trained tensors where there are others; '' if there is only one of each.
        plan: adaptation plan to write beside it.
    """

    name: str
    tensors: dict[str, torch.Tensor]
    content: dict[str, Any]
    trained: str = ""
    plan: dict[str, Any] | None = field(default=None)


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return "nnssl_files" in content or "tensors_with_release_names" in content.get("monai_model_swinvit", {})


def check(content: Mapping[str, Any]) -> Iterator[Line]:
    """Lines for each layout: every tensor of the encoder, by value, and what became of the other tensors of the file."""
    for stand_in in stand_ins(content):
        yield from _import(stand_in)
    if plan := content.get("adaptation_plan_example"):
        yield from _plans(content, plan)


def stand_ins(content: Mapping[str, Any]) -> Iterator[StandIn]:
    """A file for every layout of the fixture whose tensors are recorded."""
    plan = content.get("adaptation_plan_example")
    for name, layout in content.get("nnssl_files", {}).items():
        if "distinct" in layout:
            yield from _of_nnssl(name, layout, content["nnssl_files"], plan)
    if release := content.get("monai_model_swinvit"):
        yield from _of_monai(release["tensors_with_release_names"], "brainsegfounder" in content)


def _of_nnssl(
    name: str, layout: Mapping[str, Any], others: Mapping[str, Any], plan: Mapping[str, Any] | None
) -> Iterator[StandIn]:
    """A released file and, of a residual encoder, the same one as asparagus writes it."""
    tensors: dict[str, torch.Tensor] = {}
    twice = any(component.startswith(AGAIN.rstrip(".")) for component in layout["first_components"])
    for key, entry in (_borrowed(layout, others, twice) | layout["distinct"]).items():
        for number in _repetitions(layout, key):
            main = formulas.filling(number, entry["shape"])
            tensors |= {other: main for other in (number, *(_like(also, key, number) for also in entry["also_called"]))}
    residual = any(".all_modules." in key for key in tensors)
    stale = residual and "trained_and_stale" in layout
    own_plan = _plan_of(plan, tensors) if plan and residual else None
    released = {"network_weights": tensors, "init_args": {}, "trainer_name": "x"}
    yield StandIn(
        name, tensors, released | ({adaptation.KEY: own_plan} if own_plan else {}), "all_modules" if stale else "", own_plan
    )
    if residual and not stale:
        plain = {_of_asparagus(key): tensor for key, tensor in tensors.items() if ".all_modules." not in key and AGAIN not in key}
        for wrapper in ("model.", "model._orig_mod."):
            content = {"state_dict": {wrapper + key: tensor for key, tensor in plain.items()}, "epoch": 1}
            yield StandIn(f"asparagus ({wrapper}), {name}", plain, content)


def _borrowed(layout: Mapping[str, Any], others: Mapping[str, Any], twice: bool) -> dict[str, Any]:
    """Tensors of the encoder that a layout counts and does not list, as the other files of the same network list them."""
    listed = layout["distinct"]
    if not any(key.startswith(f"{ENCODER}stem.") for key in listed):
        return {}
    known = {name for key, entry in listed.items() for name in (key, *entry["also_called"])}
    found: dict[str, Any] = {}
    for other in sorted(others.values(), key=lambda other: "trained_and_stale" in other):  # first those that name the copies
        for key, entry in other.get("distinct", {}).items():
            names = [name for name in (key, *entry["also_called"]) if name.startswith(ENCODER)]
            if not names or known & set(names):
                continue
            known |= set(names)
            for group in [[name] for name in names] if "trained_and_stale" in layout else [names]:
                again = [f"decoder.{name}" for name in group] if twice else []
                found[group[0]] = {"shape": entry["shape"], "also_called": [*group[1:], *again]}
    return found


def _repetitions(layout: Mapping[str, Any], key: str) -> list[str]:
    """The names of a tensor of a block that is repeated: two of the recorded number, which is enough for the names."""
    match = re.match(r"(\S+\.)(\d+) \.\. like (\S+\.)(\d+)$", layout.get("repeated", ""))
    if match and key.startswith(f"{match[3]}{match[4]}."):
        return [key, key.replace(f"{match[3]}{match[4]}.", f"{match[1]}{match[2]}.", 1)]
    return [key]


def _like(other: str, key: str, number: str) -> str:
    return other if key == number else other.replace(key, number)


def _of_asparagus(name: str) -> str:
    return re.sub(r"\.norm\.(weight|bias)$", r".norm_op.\1", name).replace("stem.convs.0.", "stem.conv1.")


def _plan_of(plan: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The recorded plan; of the names in it, those that the file has."""
    plan = copy.deepcopy(dict(plan))
    plan["keys_to_in_proj"] = [key for key in plan["keys_to_in_proj"] if f"{key}.weight" in tensors]
    return plan


def _of_monai(shapes: Mapping[str, list[int]], with_brainsegfounder: bool) -> Iterator[StandIn]:
    """MONAI's release, and files of its modules' names with two input channels, as BrainSegFounder's."""
    tensors = {name.removeprefix("module."): _whole(name, shape) for name, shape in shapes.items()}
    heads = {
        "rotation_head.weight": torch.zeros(4, 8),
        "contrastive_head.weight": torch.zeros(8, 8),
        "convTrans3d.bias": torch.zeros(1),
    }
    content = {"state_dict": {f"module.{name}": tensor for name, tensor in (tensors | heads).items()}}
    yield StandIn("MONAI's SwinUNETR", tensors | heads, content)
    if with_brainsegfounder:
        named = {name.replace(".mlp.fc", ".mlp.linear"): tensor for name, tensor in tensors.items()}
        named["patch_embed.proj.weight"] = named["patch_embed.proj.weight"].repeat(1, 2, 1, 1, 1)
        for wrapper in ("module.swinViT.", "swinViT."):
            content = {
                "state_dict": {wrapper + name: tensor for name, tensor in named.items()} | {"rotation_head.bias": torch.zeros(4)}
            }
            yield StandIn(f"BrainSegFounder ({wrapper})", named, content)


def _whole(name: str, shape: list[int]) -> torch.Tensor:
    """Values by formula; indices are integers."""
    return torch.zeros(shape, dtype=torch.int64) if name.endswith("_index") else formulas.filling(name, shape)


def _import(stand_in: StandIn) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "checkpoint_final.pth", Path(folder) / "encoder"
        exporting.write_checkpoint(path, stand_in.content)
        try:
            facts = importing.import_encoder(path, out, None, None, None)
        except UserError as error:
            yield Line(f"{stand_in.name}: refused, {error.problem.splitlines()[0]}", float("nan"), 0)
            return
        report, tensors = read_tsv(out / "import.tsv"), store.load(out / "encoder")[0]
    imported = dict(report.loc[report["status"] == "imported", ["tensor", "name_in_file"]].itertuples(index=False))
    wrong = [name for name, tensor in tensors.items() if not torch.equal(tensor, _in_file(stand_in, imported[name]))]
    yield exact(f"{stand_in.name}: tensors of the encoder with other values", wrong, [])
    with torch.device("meta"):
        network = backbones.build(facts["backbone"]["architecture"], facts["in_channels"], **facts["backbone"]["options"])
    yield exact(f"{stand_in.name}: tensors of the encoder", sorted(tensors), sorted(network.state_dict()))
    yield exact(
        f"{stand_in.name}: tensors of the file that the report names", len(report), len(stand_in.tensors) + _heads(stand_in)
    )
    untrained = [name for name in imported.values() if stand_in.trained not in name]
    yield exact(f"{stand_in.name}: imported tensors that were not trained", untrained, [])


def _in_file(stand_in: StandIn, name: str) -> torch.Tensor:
    return next(stand_in.tensors[key] for key in (name, name.removeprefix("swin.")) if key in stand_in.tensors)


def _heads(stand_in: StandIn) -> int:
    """Tensors that the content has beside those of the layout."""
    (held,) = [part for key, part in stand_in.content.items() if key in ("state_dict", "network_weights")]
    return len(held) - len(stand_in.tensors)


def _plans(content: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[Line]:
    """Both spellings of the names of the first convolution are read alike, and a plan of another network is refused."""
    other = {key: value for key, value in plan.items() if key != "keys_to_in_proj"} | {"key_to_in_proj": plan["keys_to_in_proj"]}
    read = [adaptation.read_plan(Path("none"), {adaptation.KEY: spelt}) for spelt in (plan, other)]
    yield exact("adaptation plan, both spellings", [p.keys_to_in_proj for p in read if p], [plan["keys_to_in_proj"]] * 2)
    if wanted := content.get("plan_fields"):
        yield exact("adaptation plan, fields of the pretraining", sorted(plan["pretrain_plan"]), sorted(wanted))
