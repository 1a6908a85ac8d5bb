"""Encoders from files that were made elsewhere: tensors only, and every encoder tensor or none.

Read are safetensors, and the zip files that torch writes, through its restricted unpickler (`weights_only`), which runs
nothing from the file. The layouts it knows are those of this project (its own safetensors, and Lightning checkpoints of
its modules), and of each backbone that has a `reference_name`: the AMAES checkpoints, and MONAI's SwinUNETR release.
"""

from __future__ import annotations

import hashlib
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from brainpretrain import backbones, named
from brainpretrain.errors import UserError, first_line
from brainpretrain.files import UNREADABLE_ARCHIVE, atomic, read_json, sha256, write_tsv
from brainpretrain.weights import cards
from brainpretrain.weights import store as weights

MAX_BYTES = 16 * 2**30  # of a file; the largest released encoder with its decoder has 0.3
MAX_PICKLE_BYTES = 64 * 2**20  # of what is not tensor data in it
HOLDERS = ("state_dict", "network_weights", "model_state_dict", "model")  # keys that a state dict may stand under
WRAPPERS = ("module.", "_orig_mod.", "model.", "task.", "network.")  # DDP, torch.compile, and the modules around a network
RENAMED = ("swinViT.", "swin_vit.")  # what MONAI's later releases call the encoder that is `swin.` here
MAX_TUPLE = 10**6  # values of one tuple, those of the tuples in it counted
SHOWN = 20  # problems that a message lists


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file, without the names of what was wrapped around the network.

    Raises:
        UserError: missing, too large, damaged, no weights, or a file that needs more than tensors to be read.
    """
    _check_file(path)
    with open(path, "rb") as stream:
        head = stream.read(9)
    if head[:4] == b"PK\x03\x04":
        found = _state_dict(_read_zip(path), path)
    elif head[8:] == b"{":
        found = _read_safetensors(path)
    else:
        page = head.lstrip()[:1] == b"<"
        raise UserError(
            "a web page, no weights" if page else "neither safetensors nor a zip file as torch.save writes",
            where=path,
            fix="download the file itself" if page else "load it where it was made, and save its state dict with torch.save",
        )
    bare: dict[str, torch.Tensor] = {}
    for name, tensor in found.items():
        if bare.setdefault(_bare(name), tensor) is not tensor:
            raise UserError(f"two tensors are called '{_bare(name)}'", where=path, fix="leave one network in the file")
    return bare


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError("weights file not found", where=path, fix="check the path")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(f"{size} bytes, more than {MAX_BYTES}", where=path, fix="save the state dict alone")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"no readable safetensors: {error}", where=path, fix="fetch the file again") from error


def _read_zip(path: Path) -> Any:
    """What torch saved, read by its restricted unpickler."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
            pickled = sum(entry.file_size for entry in pickles)
            as_torch = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries) and pickled <= MAX_PICKLE_BYTES
            grown = as_torch and any(_grows(archive.read(entry)) for entry in pickles)
    except (*UNREADABLE_ARCHIVE, OSError) as error:
        raise UserError(f"truncated or damaged zip file: {error}", where=path, fix="fetch the file again") from error
    if not as_torch or grown:
        what = "tuples of tuples without end" if grown else f"packed tensors, or {pickled} bytes beside them"
        raise UserError(
            f"not as torch.save writes it: {what}",
            where=path,
            fix="load it where it was made, and save its state dict with torch.save",
        )
    try:
        if more := torch.serialization.get_unsafe_globals_in_checkpoint(path):
            raise UserError(
                f"the file holds more than tensors, reading it would run code: {', '.join(sorted(map(str, more))[:SHOWN])}",
                where=path,
                fix="nothing of it was run. If you trust it, load it where it was made, and save its state dict with torch.save",
            )
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    except Exception as error:  # a crafted or damaged file may raise anything
        problem = f"torch cannot read it as plain tensors: {first_line(error)}"
        raise UserError(problem, where=path, fix="fetch it again, or save its state dict with torch.save") from error


def _opcodes(pickled: bytes) -> Iterator[tuple]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd letters in names
        yield from pickletools.genops(pickled)


def _grows(pickled: bytes) -> bool:
    """Whether tuples that hold one tuple several times are too large when written out, as they are to be hashed or printed.

    Only sizes are followed: on a stack, as the unpickler would have the values, and in its memo. Nothing is made.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for opcode, argument, _ in _opcodes(pickled):
        name = opcode.name
        if "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif "GET" in name:
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            fixed = [kind for kind in opcode.stack_before if kind not in (pickletools.markobject, pickletools.stackslice)]
            begin = (marks.pop() if pickletools.markobject in opcode.stack_before else len(stack)) - len(fixed)
            taken, stack[begin:] = stack[begin:], []
            size = 1 + sum(taken) if name.startswith("TUPLE") else 1
            if size > MAX_TUPLE:
                return True
            stack += [size] * len(opcode.stack_after)
    return False


def _state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The mapping of names to plain tensors in what was loaded, itself or below one of `HOLDERS`. All else is ignored."""
    candidates = [content] + [content.get(key) for key in HOLDERS if isinstance(content, Mapping)]
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            tensors = {name: value for name, value in candidate.items() if isinstance(name, str) and _is_plain(value)}
            if tensors:
                return tensors
    keys = [key if isinstance(key, str) else type(key).__name__ for key in content] if isinstance(content, Mapping) else []
    found = ", ".join(keys)[:200] or type(content).__name__
    raise UserError(
        f"no state dict in the file; found: {found}", where=path, fix=f"store one, alone or as {' or '.join(HOLDERS)}"
    )


def _is_plain(value: Any) -> bool:
    """A tensor with values: neither nested, nor sparse, nor without memory."""
    if not isinstance(value, torch.Tensor) or value.is_nested:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def _bare(name: str) -> str:
    """A tensor's name without wrappers."""
    while wrapper := next((prefix for prefix in WRAPPERS if name.startswith(prefix)), None):
        name = name.removeprefix(wrapper)
    for other in RENAMED:
        name = "swin." + name.removeprefix(other) if name.startswith(other) else name
    return name.replace("._orig_mod.", ".")


def match(
    own: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    renamings: list[Callable[[str], str]],
    prefixes: tuple[str, ...],
    path: Path,
) -> tuple[dict[str, str], list[str]]:
    """Finds every tensor of `own` in `found`, by the renaming and prefix that find most.

    Args:
        own: state dict of the network to fill.
        found: of the file, bare names.
        renamings: from our names to a layout's.
        prefixes: that may stand before the layout's names.
        path: of the file, for messages.

    Returns:
        Names in the file by our names, and the file's tensors that are no part of the network.

    Raises:
        UserError: a tensor is missing, of another shape or type, or not finite, or one is left over inside the network;
            lists them by the names in the file.
    """
    choices = [({name: prefix + rename(name) for name in own}, prefix) for rename in renamings for prefix in prefixes]
    names, prefix = max(choices, key=lambda choice: len(set(choice[0].values()) & found.keys()))
    used = set(names.values())
    if not used & found.keys():
        raise UserError(
            f"none of the {len(own)} tensors is in the file, whose tensors are called {', '.join(list(found)[:3])} ...",
            where=path,
            fix="choose the backbone that the file was trained with",
        )
    # left-overs inside the network tell that it is a larger one; those beside it are decoders and heads
    inside = tuple({prefix} if prefix else {name.split(".")[0] + "." for name in used})
    extra = [name for name in found if name not in used]
    problems = [f"missing: {name}" for name in sorted(used - found.keys())]
    problems += [f"not in this backbone: {name}" for name in sorted(extra) if name.startswith(inside)]
    there = [name for name in own if names[name] in found]
    problems += filter(None, (weights.misfit(names[name], own[name], found[names[name]]) for name in there))
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(
            "\n  ".join([f"nothing was imported, {len(problems)} problems:", *problems[:SHOWN], *more]),
            where=path,
            fix="choose the backbone that the file was trained with, or fetch the file again",
        )
    return names, sorted(extra)


def match_encoder(
    encoder: torch.nn.Module, architecture: str, found: Mapping[str, torch.Tensor], path: Path
) -> tuple[dict[str, str], list[str]]:
    """`match` with the layouts known for a backbone: ours, and that of its published weights."""
    reference = getattr(named.module("backbones", architecture), "reference_name", None)
    renamings = [lambda name: name, *([reference] if reference else [])]
    return match(encoder.state_dict(), found, renamings, ("encoder.", ""), path)


def import_encoder(
    path: Path,
    out: Path,
    backbone: Mapping[str, Any] | None,
    preprocess: Mapping[str, Any] | None,
    release: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Writes encoder.safetensors|json, import.tsv (where each tensor went) and card.md into `out`.

    What is known of the encoder comes from the JSON beside a file of this project, from `release` and from the arguments;
    what none of them says is None, and fine-tuning refuses an encoder whose preprocessing is None.

    Args:
        path: the file.
        out: folder to write.
        backbone: `architecture` and `options`; None where the JSON beside the file has them.
        preprocess: recipe of the volumes that the encoder saw, or None.
        release: as `config.Config.release` gives it, or None.

    Returns:
        The facts in encoder.json.

    Raises:
        UserError: see `read_tensors` and `match`; a file of a release that is not in place or has another checksum.
    """
    path = Path(path)
    if release:
        check_release(path, release)
    found = read_tensors(path)
    known = _known(path)
    told = backbone is None
    backbone = backbone or known.get("backbone")
    if backbone is None:
        raise UserError("the file does not say what network it holds", where=path, fix="name its backbone")
    backbone = {"architecture": backbone["architecture"], "options": dict(backbone["options"])}
    with weights.no_larger_than(found, path.with_suffix(".json")) if told else nullcontext():
        encoder = backbones.build(backbone["architecture"], known.get("in_channels", 1), **backbone["options"])
    own = encoder.state_dict()
    names, left = match_encoder(encoder, backbone["architecture"], found, path)
    facts = {
        **_facts(known, release or {}),
        "name": (release or {}).get("release") or known.get("name") or path.stem,
        "backbone": backbone,
        "in_channels": encoder.in_channels,
        "encoder_parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "source": _source(path, release or {}, {name: found[name] for name in left}),
    }
    facts["preprocess"] = preprocess or facts["preprocess"]
    write_tsv(out / "import.tsv", _report(names, left, found), ["tensor", "name_in_file", "shape", "status"])
    weights.save(out / "encoder", {name: found[other].to(own[name].dtype).clone() for name, other in names.items()}, facts)
    with atomic(out / "card.md") as temporary:
        temporary.write_text(cards.card(facts, None), encoding="utf-8")
    return facts


_OWN_FACTS = ("name", "backbone", "in_channels", "preprocess", "patch_size", "corpus_sha256", "datasets", "steps", "commit")
_RELEASE_FACTS = ("release", "page", "url", "licence", "citation", "corpus")


def _known(path: Path) -> dict[str, Any]:
    """Facts in the JSON that this project writes beside its weights; those of a model have the patch in its recipe."""
    beside = path.with_suffix(".json")
    if path.suffix != ".safetensors" or not beside.exists():
        return {}
    facts = read_json(beside)
    if not isinstance(facts, dict) or facts.get("kind") not in ("encoder", "model"):  # another program's
        return {}
    weights.check_facts(facts, beside)
    return {"patch_size": facts.get("recipe", {}).get("patch_size")} | {key: facts[key] for key in _OWN_FACTS if key in facts}


def _facts(known: Mapping[str, Any], release: Mapping[str, Any]) -> dict[str, Any]:
    """What travels with the encoder, None where nothing says it."""
    facts = {key: known.get(key) for key in _OWN_FACTS}
    return facts | {key: release[key] for key in ("preprocess", "patch_size") if key in release} | {"kind": "encoder"}


def _source(path: Path, release: Mapping[str, Any], left: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The file and its release. `left`: tensors and values of the file that are no part of the encoder, by first name."""
    parts: dict[str, dict[str, int]] = {}
    for name, tensor in left.items():
        part = parts.setdefault(name.split(".")[0], {"tensors": 0, "values": 0})
        part["tensors"] += 1
        part["values"] += tensor.numel()
    source = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path), "left": parts}
    checked = any(release.get(kind) for kind in ("md5", "sha256"))
    known_by = ("checksum" if checked else "file name") if release else None
    return source | {key: release.get(key) for key in _RELEASE_FACTS} | {"release_known_by": known_by}


def _report(names: Mapping[str, str], left: list[str], found: Mapping[str, torch.Tensor]) -> list[dict[str, str]]:
    def row(tensor: str, name: str, status: str) -> dict[str, str]:
        return {"tensor": tensor, "name_in_file": name, "shape": "x".join(map(str, found[name].shape)), "status": status}

    return [row(name, names[name], "imported") for name in sorted(names)] + [row("", name, "left") for name in left]


def check_release(path: Path, release: Mapping[str, Any]) -> None:
    """Sees that a file of a release is in place and is that file, as far as size or checksum are on record.

    Raises:
        UserError: it is not there (says what to get where), or size or checksum differ.
    """
    if not path.is_file():
        raise UserError(
            f"the weights '{release['release']}' are not in place",
            where=path,
            fix=f"download {release['url']} and put it there as {path.name} (page: {release['page']}; licence: "
            f"{release['licence'] or 'not known here, see the page'})",
        )
    found = {"bytes": path.stat().st_size}
    for kind in ("md5", "sha256"):
        if release.get(kind):
            with open(path, "rb") as stream:
                found[kind] = hashlib.file_digest(stream, kind).hexdigest()
    for kind, value in found.items():
        if release.get(kind) not in (None, value):
            problem = f"{kind} is {value}, of the release {release[kind]}"
            raise UserError(problem, where=path, fix=f"download {release['url']} again")
