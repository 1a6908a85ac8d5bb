"""Imports an encoder from a file of another program: every tensor of the encoder, or none.

Known layouts are those of this project (its safetensors, and Lightning checkpoints of its modules) and that of each
backbone with a `reference_name`: the AMAES checkpoints and MONAI's SwinUNETR release.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from brainpretrain import backbones, named
from brainpretrain.backbones.base import parameters
from brainpretrain.errors import UserError
from brainpretrain.files import atomic, read_json, sha256, write_tsv
from brainpretrain.scales import UNIT, ZSCORE, Rule
from brainpretrain.weights import cards
from brainpretrain.weights import store as weights
from brainpretrain.weights.facts import check_facts
from brainpretrain.weights.foreign import read_tensors

SHOWN = 20  # problems that a message lists


def match(
    own: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    renamings: list[Callable[[str], str]],
    prefixes: tuple[str, ...],
    path: Path,
) -> tuple[dict[str, str], list[str]]:
    """Finds every tensor of a network in a file, by the renaming and the prefix that match most names.

    Args:
        own: state dict of the network to fill.
        tensors: tensors of the file, by their names without wrappers.
        renamings: functions from our names to those of a layout.
        prefixes: prefixes that the names of the layout may have.
        path: of the file, for messages.

    Returns:
        The name in the file of each tensor of the network, and the names of tensors in the file that are not part of it.

    Raises:
        UserError: a tensor is missing, of another shape or type, or not finite, or one is left over inside the network;
            lists them by the names in the file.
    """
    choices = [({name: prefix + rename(name) for name in own}, prefix) for rename in renamings for prefix in prefixes]
    names, prefix = max(choices, key=lambda choice: len(set(choice[0].values()) & tensors.keys()))
    used = set(names.values())
    if not used & tensors.keys():
        raise UserError(
            f"none of the {len(own)} tensors is in the file, whose tensors are called {', '.join(list(tensors)[:3])} ...",
            where=path,
            fix="choose the backbone that the file was trained with",
        )
    # a tensor left over inside the network means a larger network; those outside belong to decoders and heads
    inside = tuple({prefix} if prefix else {name.split(".")[0] + "." for name in used})
    extra = [name for name in tensors if name not in used]
    problems = [f"missing: {name}" for name in sorted(used - tensors.keys())]
    problems += [f"not in this backbone: {name}" for name in sorted(extra) if name.startswith(inside)]
    present = [name for name in own if names[name] in tensors]
    problems += filter(None, (weights.misfit(names[name], own[name], tensors[names[name]]) for name in present))
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(
            "\n  ".join([f"nothing was imported, {len(problems)} problems:", *problems[:SHOWN], *more]),
            where=path,
            fix="choose the backbone that the file was trained with, or fetch the file again",
        )
    return names, sorted(extra)


def match_encoder(
    encoder: torch.nn.Module, architecture: str, tensors: Mapping[str, torch.Tensor], path: Path
) -> tuple[dict[str, str], list[str]]:
    """`match` with the layouts of a backbone: this project's, and that of its published weights."""
    reference = getattr(named.module("backbones", architecture), "reference_name", None)
    renamings = [lambda name: name, *([reference] if reference else [])]
    return match(encoder.state_dict(), tensors, renamings, ("encoder.", ""), path)


def import_encoder(
    path: Path,
    out: Path,
    backbone: Mapping[str, Any] | None,
    preprocess: Mapping[str, Any] | None,
    release: Mapping[str, Any] | None,
    intensity: str | None = None,
) -> dict[str, Any]:
    """Writes encoder.safetensors|json, import.tsv (where each tensor went) and card.md into `out`.

    The facts in encoder.json come from the JSON next to a file of this project, from `release` and from the arguments. A
    fact that none of these has is None. Fine-tuning refuses an encoder whose `preprocess` is None.

    Args:
        path: the file.
        out: folder to write.
        backbone: `architecture` and `options`; None if the JSON next to the file has them.
        preprocess: recipe of the volumes that the encoder saw, or None.
        release: as `config.Config.release` gives it, or None.
        intensity: rule by which the network saw them, `unit` or `zscore`; None: that of the other sources, else `unit`.

    Returns:
        The facts in encoder.json.

    Raises:
        UserError: see `read_tensors` and `match`; or the file of a release is missing or has another checksum.
    """
    path = Path(path)
    if release:
        check_release(path, release)
    tensors = read_tensors(path)
    own_facts = _own_facts(path)
    is_described = backbone is None
    backbone = backbone or own_facts.get("backbone")
    if backbone is None:
        raise UserError("the file does not say what network it holds", where=path, fix="name its backbone: --backbone NAME")
    backbone = {"architecture": backbone["architecture"], "options": dict(backbone["options"])}
    with weights.no_larger_than(tensors, path.with_suffix(".json")) if is_described else nullcontext():
        encoder = backbones.build(backbone["architecture"], own_facts.get("in_channels", 1), **backbone["options"])
    own = encoder.state_dict()
    names, left = match_encoder(encoder, backbone["architecture"], tensors, path)
    facts = {
        **_facts(own_facts, release or {}),
        "name": (release or {}).get("release") or own_facts.get("name") or path.stem,
        "backbone": backbone,
        "in_channels": encoder.in_channels,
        "encoder_parameters": parameters(encoder),
        "source": _source(path, release or {}, {name: tensors[name] for name in left}),
    }
    facts["preprocess"] = preprocess or facts["preprocess"]
    facts |= _intensity(intensity or (release or {}).get("intensity") or Rule.of_facts(own_facts).name)
    write_tsv(out / "import.tsv", _report(names, left, tensors), ["tensor", "name_in_file", "shape", "status"])
    weights.save(out / "encoder", {name: tensors[other].to(own[name].dtype).clone() for name, other in names.items()}, facts)
    with atomic(out / "card.md") as temporary:
        temporary.write_text(cards.card(facts, None), encoding="utf-8")
    return facts


_OWN_FACTS = ("name", "backbone", "in_channels", "preprocess", "patch_size", "corpus_sha256", "datasets", "steps", "commit")
_RELEASE_FACTS = ("release", "page", "url", "licence", "citation", "corpus")


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


def _facts(own_facts: Mapping[str, Any], release: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of encoder.json, None where neither source has them."""
    facts = {key: own_facts.get(key) for key in _OWN_FACTS}
    return facts | {key: release[key] for key in ("preprocess", "patch_size") if key in release} | {"kind": "encoder"}


def _source(path: Path, release: Mapping[str, Any], left: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The file and its release, with counts of `left`, the tensors outside the encoder, by the first part of their names."""
    parts: dict[str, dict[str, int]] = {}
    for name, tensor in left.items():
        part = parts.setdefault(name.split(".")[0], {"tensors": 0, "values": 0})
        part["tensors"] += 1
        part["values"] += tensor.numel()
    source = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path), "left": parts}
    checked = any(release.get(kind) for kind in ("md5", "sha256"))
    known_by = ("checksum" if checked else "file name") if release else None
    return source | {key: release.get(key) for key in _RELEASE_FACTS} | {"release_known_by": known_by}


def _report(names: Mapping[str, str], left: list[str], tensors: Mapping[str, torch.Tensor]) -> list[dict[str, str]]:
    def row(tensor: str, name: str, status: str) -> dict[str, str]:
        return {"tensor": tensor, "name_in_file": name, "shape": "x".join(map(str, tensors[name].shape)), "status": status}

    return [row(name, names[name], "imported") for name in sorted(names)] + [row("", name, "left") for name in left]


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
