"""Imports an encoder from a file of another program: every tensor of the encoder, or none.

Known layouts are those of this project (its safetensors, and Lightning checkpoints of its modules) and those of each backbone
(`backbones.layouts`): the AMAES checkpoints, nnssl, asparagus, nnU-Net, and MONAI's SwinUNETR release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from brainpretrain import backbones
from brainpretrain.backbones.base import Encoder, parameters, stem
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_json, sha256, write_tsv
from brainpretrain.scales import UNIT, ZSCORE, Rule
from brainpretrain.weights import cards
from brainpretrain.weights import store as weights
from brainpretrain.weights.adaptation import AdaptationPlan, check_plan, read_plan
from brainpretrain.weights.facts import check_facts
from brainpretrain.weights.foreign import AXES, BACKBONE, ZYX, Checkpoint, bare_name, read_checkpoint
from brainpretrain.weights.matching import Match, match


def match_encoder(
    encoder: torch.nn.Module, architecture: str, tensors: Mapping[str, torch.Tensor], path: Path, part: str = ""
) -> Match:
    """`match` with the layouts that are known of a backbone. The refusal of a file names the network that it holds."""
    found = backbones.recognise({name: list(tensor.shape) for name, tensor in tensors.items()})
    advice = "fetch the file again; docs/weights.md lists the files that are known, by the names of their tensors"
    if found and found["architecture"] == architecture:
        advice = (
            f"the file holds a network with the options {_shown(found['options'])}: leave --backbone out, or fetch the file again"
        )
    elif found:
        advice = f"the file holds a '{found['architecture']}' with the options {_shown(found['options'])}: leave --backbone out"
    known = backbones.layouts(architecture)
    return match(encoder.state_dict(), tensors, known, path, part, backbones.heads(architecture), advice)


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


def _backbone_of(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The network that a file holds, from the names and shapes of its tensors."""
    found = backbones.recognise({name: list(tensor.shape) for name, tensor in tensors.items()})
    if found is None:
        raise UserError(
            f"the file does not say what network it holds, and its tensors are called {', '.join(list(tensors)[:3])} ...",
            where=path,
            fix="name its backbone: --backbone NAME; docs/weights.md lists the files that are known",
        )
    return found


def _channels(architecture: str, options: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], part: str) -> int:
    """Input channels of the network in a file, from its first convolution; 1 if it is not there."""
    with torch.device("meta"):
        encoder = backbones.build(architecture, 1, **options)
    name = next(name for name, parameter in encoder.named_parameters() if parameter is stem(encoder).weight)
    endings = [ending for layout in backbones.layouts(architecture) for ending in layout(name)]
    shapes = [
        tensor.shape for other, tensor in tensors.items() for ending in endings
        if other.startswith(part) and (other == ending or other.endswith(f".{ending}")) and tensor.ndim == 5
    ]  # fmt: skip
    return shapes[0][1] if shapes else 1


def import_encoder(
    path: Path,
    out: Path,
    backbone: Mapping[str, Any] | None,
    preprocess: Mapping[str, Any] | None,
    release: Mapping[str, Any] | None,
    intensity: str | None = None,
    part: str = "",
) -> dict[str, Any]:
    """Writes encoder.safetensors|json, import.tsv (where each tensor went) and card.md into `out`.

    The facts in encoder.json come from the JSON next to a file of this project, from `release`, from the adaptation plan of
    nnssl and from the arguments. A fact that none of these has is None, and without `preprocess` fine-tuning refuses an encoder.

    Args:
        path: the file.
        out: folder to write.
        backbone: `architecture` and `options`; None if the JSON next to the file has them, or the names of its tensors say it.
        preprocess: recipe of the volumes that the encoder saw, or None.
        release: as `config.Config.release` gives it, or None.
        intensity: rule by which the network saw them, `unit` or `zscore`; None: that of the other sources, else `unit`.
        part: prefix of the tensors to import, where the file holds several networks of one layout.

    Returns:
        The facts in encoder.json.

    Raises:
        UserError: see `read_checkpoint`, `read_plan`, `check_plan` and `match`; or the file of a release is missing or has
            another checksum.
    """
    path = Path(path)
    if release:
        check_release(path, release)
    checkpoint, own_facts = read_checkpoint(path), _own_facts(path)
    plan, tensors = read_plan(path, checkpoint.extras), _in_our_axes(checkpoint)
    encoder, backbone = _network(path, tensors, own_facts | _marked(checkpoint, path), backbone, part)
    found = match_encoder(encoder, backbone["architecture"], tensors, path, part)
    facts = {
        **_facts(own_facts, release or {}, plan, intensity),
        "name": (release or {}).get("release") or own_facts.get("name") or path.stem,
        "backbone": backbone,
        "in_channels": encoder.in_channels,
        "encoder_parameters": parameters(encoder),
        "source": _source(path, release or {}, found, tensors, plan),
    }
    facts["preprocess"] = preprocess or facts["preprocess"]
    if plan:
        rule = intensity or (release.get("intensity", UNIT) if release else None)
        check_plan(plan, list(tensors), backbone, encoder.in_channels, facts | {"intensity": rule}, path)
    own = encoder.state_dict()
    write_tsv(out / "import.tsv", _report(found, checkpoint.twice, tensors), ["tensor", "name_in_file", "shape", "status"])
    stored = {name: tensors[other].to(own[name].dtype).clone() for name, other in found.names.items()}
    weights.save(out / "encoder", stored, facts)
    with atomic(out / "card.md") as temporary:
        temporary.write_text(cards.card(facts, None), encoding="utf-8")
    return facts


def _network(
    path: Path, tensors: Mapping[str, torch.Tensor], own_facts: Mapping[str, Any], backbone: Mapping[str, Any] | None, part: str
) -> tuple[Encoder, dict[str, Any]]:
    """The network to fill, and its architecture and options: as given, or as the JSON or the tensors of the file say."""
    is_described = backbone is None
    backbone = backbone or own_facts.get("backbone") or _backbone_of(path, tensors)
    backbone = {"architecture": backbone["architecture"], "options": dict(backbone["options"])}

    def guarded() -> AbstractContextManager:
        return weights.no_larger_than(tensors, path.with_suffix(".json")) if is_described else nullcontext()

    with guarded():
        channels = own_facts.get("in_channels") or _channels(backbone["architecture"], backbone["options"], tensors, part)
    with guarded():
        return backbones.build(backbone["architecture"], channels, **backbone["options"]), backbone


def _marked(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    """The network that this project's exports name in their checkpoints."""
    if not isinstance(text := checkpoint.extras.get(BACKBONE), str):
        return {}
    try:
        backbone = json.loads(text)
    except ValueError as error:
        raise UserError(f"{BACKBONE} is not JSON", where=path, fix="export it again") from error
    check_facts({"backbone": backbone, "in_channels": 1}, path)
    return {"backbone": backbone}


def _in_our_axes(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The tensors with kernels in x y z. Those of a file of nnU-Net are in z y x, and those of its exports say so (`axes`)."""
    plans = checkpoint.extras.get("init_args")
    of_nnunet = isinstance(plans, Mapping) and isinstance(plans.get("plans"), Mapping) and "configurations" in plans["plans"]
    if checkpoint.extras.get(AXES) != ZYX and not of_nnunet:
        return checkpoint.tensors
    return {
        name: tensor.permute(0, 1, 4, 3, 2).contiguous() if tensor.ndim == 5 else tensor
        for name, tensor in checkpoint.tensors.items()
    }


_OWN_FACTS = ("name", "backbone", "in_channels", "preprocess", "patch_size", "corpus_sha256", "datasets", "steps", "commit")
_RELEASE_FACTS = ("release", "page", "url", "licence", "citation", "corpus")
_LATER_FACTS = ("repository", "forbids")  # written only where an entry has them


def _own_facts(path: Path) -> dict[str, Any]:
    """Facts in the JSON that this project writes next to its weights. A model has the patch size in its recipe."""
    description = path.with_suffix(".json")
    if path.suffix != ".safetensors" or not description.exists():
        return {}
    facts = read_json(description)
    if not isinstance(facts, dict) or facts.get("kind") not in ("encoder", "model"):  # of another program
        return {}
    check_facts(facts, description)
    known = {"patch_size": facts.get("recipe", {}).get("patch_size")} | {key: facts[key] for key in _OWN_FACTS if key in facts}
    return known | {"intensity": Rule.of_facts(facts).name}


def _intensity(rule: str) -> dict[str, str]:
    """The fact about intensities, which is written where they are not the stored ones.

    Raises:
        UserError: the rule depends on labels, which another task does not have.
    """
    if rule not in (UNIT, ZSCORE):
        problem = f"its intensities are scaled by 'intensity: {rule}', from the labels of its task"
        raise UserError(problem, fix=f"say how the next task shall scale them: --intensity {ZSCORE} or {UNIT}")
    return {} if rule == UNIT else {"intensity": rule}


def _facts(
    own_facts: Mapping[str, Any], release: Mapping[str, Any], plan: AdaptationPlan | None, intensity: str | None
) -> dict[str, Any]:
    """The facts of encoder.json, None where no source has them."""
    facts = {key: own_facts.get(key) for key in _OWN_FACTS}
    facts |= {key: release[key] for key in ("preprocess", "patch_size") if key in release} | {"kind": "encoder"}
    if plan and not facts["patch_size"]:
        facts["patch_size"] = plan.patch_size[::-1] if plan.patch_size else None  # nnssl counts axes from z
    rule = intensity or (release.get("intensity", UNIT) if release else None) or own_facts.get("intensity")
    return facts | _intensity(rule or (plan.intensity if plan else None) or UNIT)


def _source(
    path: Path,
    release: Mapping[str, Any],
    found: Match,
    tensors: Mapping[str, torch.Tensor],
    plan: AdaptationPlan | None,
) -> dict[str, Any]:
    """The file and its release, with counts of the tensors that are not the encoder, by the first part of their names."""
    parts: dict[str, dict[str, int]] = {}
    for name in found.left:
        part = parts.setdefault(name.split(".")[0], {"tensors": 0, "values": 0})
        part["tensors"] += 1
        part["values"] += tensors[name].numel()
    source = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path), "left": parts}
    source |= {"copies": len(found.copies), "stale": len(found.stale)}
    checked = any(release.get(kind) for kind in ("md5", "sha256"))
    known_by = ("checksum" if checked else "file name") if release else None
    source |= {key: release.get(key) for key in _RELEASE_FACTS} | {"release_known_by": known_by}
    source |= {key: release[key] for key in _LATER_FACTS if release.get(key)}
    return source | ({"adaptation_plan": plan.facts()} if plan else {})


def _report(found: Match, twice: list[str], tensors: Mapping[str, torch.Tensor]) -> list[dict[str, str]]:
    """A row for every tensor of the file: `imported`, `copy`, `stale` or `left`."""

    def row(tensor: str, name: str, status: str) -> dict[str, str]:
        return {
            "tensor": tensor,
            "name_in_file": name,
            "shape": "x".join(map(str, tensors[bare_name(name)].shape)),
            "status": status,
        }

    rows = [row(name, found.names[name], "imported") for name in sorted(found.names)]
    rows += [row(name, other, "copy") for other, name in sorted(found.copies.items())]
    rows += [row(name, other, "stale") for other, name in sorted(found.stale.items())]
    return rows + [row("", name, "copy") for name in sorted(twice)] + [row("", name, "left") for name in found.left]


def check_release(path: Path, release: Mapping[str, Any]) -> None:
    """Checks that the file of a release exists and has the size and checksum on record, if there are any.

    Raises:
        UserError: the file is missing (says where to download it), or its size or checksum differs.
    """
    if not path.is_file():
        raise UserError(
            f"the weights '{release['release']}' are not in place",
            where=path,
            fix=f"download {release['url']} and put it there as {path.name} (page: {release['page']}; licence: "
            f"{release['licence'] or 'not known here, see the page'})",
        )
    measured: dict[str, Any] = {"bytes": path.stat().st_size}
    for kind in ("md5", "sha256"):
        if release.get(kind):
            with open(path, "rb") as stream:
                measured[kind] = hashlib.file_digest(stream, kind).hexdigest()
    for kind, value in measured.items():
        if release.get(kind) not in (None, value):
            problem = f"{kind} is {value}, that of the release is {release[kind]}"
            raise UserError(problem, where=path, fix=f"download {release['url']} again")
