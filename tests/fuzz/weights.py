"""Weights for `importing.import_encoder` and `weights.encoder`: safetensors with their JSON, and the zip files of torch."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_of

from brainpretrain import backbones
from brainpretrain.errors import UserError
from brainpretrain.weights import foreign, importing
from brainpretrain.weights import store as weights
from fuzz.archives import zip_of
from fuzz.odd import damaged, floats, ints, maybe

MEMORY = 96 << 20  # files of 30 kB: what is allocated is for the network, or by mistake
SECONDS = 20
TINY: dict[str, Any] = {"architecture": "unet", "options": {"width": 2, "levels": 2, "convs_per_stage": 1}}
FACTS = {
    "kind": "encoder", "name": "mine", "backbone": TINY, "in_channels": 1, "preprocess": {"spacing_mm": [1, 1, 1], "upper_quantile": 0.99, "crop": "nonzero"}, "patch_size": [16, 16, 16],
    "corpus_sha256": "0" * 64, "datasets": {"ixi": {"subjects": 1, "volumes": 2}}, "steps": 3, "commit": "abc", "recipe": {"patch_size": [16, 16, 16]}, "classes": ["a"],
}  # fmt: skip


@cache
def state() -> dict[str, torch.Tensor]:
    """A state dict of the tiny network."""
    torch.manual_seed(0)
    return backbones.build("unet", 1, **TINY["options"]).state_dict()


def valid() -> dict[str, bytes]:
    """An encoder of this project."""
    stream = io.BytesIO()
    torch.save(state(), stream)
    return {
        "encoder.safetensors": safetensors_of(state()),
        "encoder.json": json.dumps(FACTS).encode(),
        "x.pth": stream.getvalue(),
    }


@st.composite
def inputs(draw: Callable[..., Any]) -> dict[str, bytes]:
    """Tensors with their JSON, or a zip file with a pickle in it."""
    if maybe(draw, 2):
        return {"x.pth": _zip(draw)}
    facts = _json(draw) if maybe(draw, 2) else json.dumps(FACTS).encode()
    return {"encoder.safetensors": _safetensors(draw), "encoder.json": facts}


# ------------------------------------------------------------------------------------------------ safetensors and JSON

DTYPES = [
    "F32",
    "F16",
    "BF16",
    "F64",
    "I64",
    "I32",
    "U8",
    "I8",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F4",
    "F6_E2M3",
    "C64",
    "U64",
    "U16",
    "f32",
    "",
    "X",
]
TEXTS = [
    "NaN", "Infinity", "-Infinity", "1e999", "1e5", "-0", "9" * 30, "9" * 5000, "null", "true", '"x"', "[]", "{}", "[" * 3000 + "]" * 3000,
    '{"a":' * 2000 + "1" + "}" * 2000, '"\\ud800"', '"\\u0000"', "{\"a\":1,\"a\":2}", "[1", "", "/", "'x'", '"' + "y" * 9000 + '"',
]  # fmt: skip
VALUES: list[Any] = [None, True, 0, 1, -1, 2, 3, 2**31, 2**63, 10**30, 1.5, "", "x", "unet", "mednext", "../x", "os", [], [1], [0], [-1], {}, {"a": 1}, "\ud800", "a\0b",
          100000, [1] * 100, {"width": 2}, {"width": 10**6, "levels": 2, "convs_per_stage": 1}, {"width": 1, "levels": 10**9, "convs_per_stage": 1},
          {"width": 1, "levels": 40, "convs_per_stage": 1}, {"width": 2, "levels": 2, "convs_per_stage": 10**8}, {"width": 0, "levels": 0, "convs_per_stage": 0},
          {"architecture": "resenc", "options": {"widths": [1, 10**5], "blocks": [1, 1]}},
          {"architecture": "resenc", "options": {"widths": [2, 4], "blocks": [1, 10**8]}}]  # fmt: skip


def _safetensors(draw: Callable[..., Any]) -> bytes:
    """A file of tensors with an arbitrary header."""
    header: dict[str, Any] = {}
    data = bytearray()
    for name, tensor in state().items():
        content = tensor.numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        name = draw(st.sampled_from(sorted(header)))
        match draw(st.sampled_from(["dtype", "shape", "offset", "name", "more", "remove", "metadata", "value", "raw", "twice"])):
            case "dtype":
                header[name]["dtype"] = draw(st.sampled_from(DTYPES))
            case "shape":
                header[name]["shape"] = draw(st.lists(ints, max_size=4)) if maybe(draw, 2) else header[name]["shape"][::-1]
            case "offset":
                header[name]["data_offsets"][draw(st.integers(0, 1))] = draw(ints)
            case "name":
                header[
                    draw(st.sampled_from(["x", "", "encoder." + name, "module." * 50 + name, "\ud800", "a\0b", "n" * 5000]))
                ] = header.pop(name)
            case "more":
                dtype = draw(st.sampled_from(DTYPES))
                shape = draw(st.sampled_from([[4], [0], [2, 2], [0, 2**40], [], [2**33], [1, 0]]))
                header["extra"] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + 4]}
                data += bytes(4)
            case "remove":
                del header[name]
            case "metadata":
                header["__metadata__"] = draw(
                    st.sampled_from([{"a": "b"}, {"a": 1}, [], None, {"format": "tf"}, {"x": "y" * 5000}])
                )
            case "value":
                at = header[name]["data_offsets"][0] if isinstance(header[name]["data_offsets"][0], int) else 0
                at = min(max(at, 0), len(data) - 4)
                data[at : at + 4] = struct.pack("<f", draw(floats))
            case "twice":
                header[name]["data_offsets"] = (
                    header[draw(st.sampled_from(sorted(header)))].get("data_offsets", [0, 0]) if header else []
                )
            case "raw":
                header[name] = draw(
                    st.sampled_from(["MARK", ["MARK"], {"dtype": "F32", "shape": "MARK", "data_offsets": [0, 4]}])
                )
                text = json.dumps(header).replace('"MARK"', draw(st.sampled_from(TEXTS)))
                return struct.pack("<Q", len(text.encode("utf-8", "replace"))) + text.encode("utf-8", "replace") + data
        if not header or any(not isinstance(entry, dict) or "dtype" not in entry for entry in header.values()):
            break
    text = json.dumps(header).encode()
    length = draw(ints) & (2**64 - 1) if maybe(draw, 12) else len(text)
    return draw(damaged(struct.pack("<Q", length) + text + data, draw(st.sampled_from([0, 0, 0, 1, 2]))))


def _json(draw: Callable[..., Any]) -> bytes:
    facts = copy.deepcopy(FACTS)
    mark: str | None = None
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        node: Any = facts
        while True:
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
            if not isinstance(node[key], dict | list) or not node[key] or maybe(draw, 3):
                break
            node = node[key]
        match draw(st.sampled_from(["value", "value", "remove", "raw", "number"])):
            case "value":
                node[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
            case "number":
                node[key] = draw(ints)
            case "remove":
                del node[key]
            case "raw":
                node[key], mark = "MARK", draw(st.sampled_from(TEXTS))
        if not facts:
            break
    text = json.dumps(facts)
    text = text.replace('"MARK"', mark) if mark is not None else text
    if maybe(draw, 12):
        return draw(st.sampled_from([b"", b"[]", b"null", b"1", b'"x"', b"\xff", b"{", text.encode()[:20]]))
    return text.encode("utf-8", "surrogatepass")


# ------------------------------------------------------------------------------------------------ zip and pickle


class Raw(bytes):
    """Opcodes that leave one value on the stack."""


def opcodes(value: Any) -> bytes:
    """Pickle opcodes of plain data and of `Raw`."""
    match value:
        case Raw():
            return bytes(value)
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if 0 <= value < 256:
            return b"K" + bytes([value])
        case int() if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<l", value)
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return b"X" + struct.pack("<L", len(text)) + text
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(key) + opcodes(item) for key, item in value.items()) + b"u"
    raise TypeError(value)


def name_of(module: str, name: str) -> Raw:
    return Raw(b"c" + module.encode() + b"\n" + name.encode() + b"\n")


def call(function: Raw, *args: Any) -> Raw:
    return Raw(function + opcodes(tuple(args)) + b"R")


TOUCH = "touch ran"
FUNCTIONS = [
    ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor_v3"),
    ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"), ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_qtensor"), ("torch._utils", "_rebuild_meta_tensor_no_storage"), ("torch._utils", "_rebuild_nested_tensor"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"), ("torch._utils", "_rebuild_wrapper_subclass"), ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch", "Size"), ("torch", "device"), ("torch", "Tensor"), ("torch", "FloatStorage"), ("torch.storage", "UntypedStorage"),
    ("torch.storage", "TypedStorage"), ("torch.storage", "_load_from_bytes"), ("torch.serialization", "_get_layout"), ("torch.nn.parameter", "Parameter"),
    ("torch.nn.parameter", "Buffer"), ("torch", "float32"), ("torch", "qint8"), ("__builtin__", "bytearray"), ("builtins", "bytearray"),
    ("__builtin__", "set"), ("__builtin__", "complex"), ("collections", "Counter"), ("_codecs", "encode"), ("builtins", "getattr"), ("builtins", "eval"),
    ("posix", "system"), ("os", "system"), ("subprocess", "Popen"), ("torch.hub", "load"), ("torch", "load"), ("numpy", "load"), ("runpy", "run_path"),
    ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("torch.fx", "GraphModule"), ("torch.jit", "load"),
    ("brainpretrain.files", "write_json"), ("torch._C", "_from_dlpack"), ("torch.ops", "load_library"),
]  # fmt: skip


def _bomb(depth: int) -> Raw:
    """Pairs of the same pair: 2^depth values in a few bytes."""
    return Raw(b"K\x01" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(depth)))


STORAGES = [
    "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "BoolStorage", "QInt8Storage", "ComplexFloatStorage", "Tensor"
]  # fmt: skip
PICKLES = ["x/data.pkl", "y/data.pkl", "data.pkl", "x/constants.pkl", "x/../data.pkl", "x/.format_version", "x/code/a.py"]
OTHERS = ["x/constants.pkl", "x/byteorder", "x/.data/version", "x/extra", "x/data/7"]


def _zip(draw: Callable[..., Any]) -> bytes:
    """A file of `torch.save` with other tensors, other objects, other entries, other opcodes."""
    tensors, storages = _described_state()
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        _change_tensor(draw, tensors[draw(st.sampled_from(sorted(tensors)))], storages)
    content: Any = {name: _tensor(described) for name, described in tensors.items()}
    if maybe(draw, 2):
        content = _with_odd_object(draw, content)
    pickled = b"\x80\x02" + opcodes(content) + b"."
    if maybe(draw, 3):
        pickled = draw(damaged(pickled, 2))
    entries = [
        ("x/data.pkl", pickled),
        ("x/byteorder", b"little"),
        *((f"x/data/{key}", data) for key, data in storages.items()),
        ("x/version", b"3\n"),
    ]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        _change_entry(draw, entries)
    if maybe(draw, 2):
        return zip_of(draw, [(name.encode(), data) for name, data in entries], [0] * 15 + [8])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, (name, data) in enumerate(entries):
            archive.writestr(name if name not in archive.namelist() else f"{name}{number}", data)
    return draw(damaged(stream.getvalue(), draw(st.sampled_from([0, 0, 1, 2]))))


def _described_state() -> tuple[dict[str, Any], dict[str, bytes]]:
    """The tensors of a valid encoder as `torch.save` describes them, and their storages by key."""
    tensors: dict[str, Any] = {}
    storages: dict[str, bytes] = {}
    for number, (name, tensor) in enumerate(state().items()):
        storages[str(number)] = tensor.numpy().tobytes()
        tensors[name] = {
            "kind": "FloatStorage", "key": str(number), "place": "cpu", "numel": tensor.numel(), "offset": 0,
            "size": tuple(tensor.shape), "stride": tuple(tensor.stride()), "grad": False,
        }  # fmt: skip
    return tensors, storages


def _change_tensor(draw: Callable[..., Any], described: dict[str, Any], storages: dict[str, bytes]) -> None:
    """Replaces a field of a description, or the storage of a tensor."""
    match draw(st.sampled_from(["kind", "key", "place", "numel", "offset", "size", "stride", "storage"])):
        case "kind":
            described["kind"] = draw(st.sampled_from(STORAGES))
        case "key":
            described["key"] = draw(st.sampled_from(["0", "1", "99", "../0", "", "/etc/passwd", "a\0b"]))
        case "place":
            described["place"] = draw(st.sampled_from(["cuda:0", "meta", "", "x", "mps", "privateuseone:9"]))
        case "size" | "stride" as field:
            described[field] = tuple(draw(st.lists(ints, max_size=5))) if maybe(draw, 2) else tuple(0 for _ in described[field])
        case "storage":
            storages[described["key"]] = draw(st.binary(max_size=16))
        case field:
            described[field] = draw(ints)


def _with_odd_object(draw: Callable[..., Any], content: dict[str, Any]) -> Any:
    """The content with an unusual object: next to the tensors, in place of one, as a key, or in place of everything."""
    odd: Any = draw(_odd())
    match draw(st.sampled_from(["next to", "tensor", "key", "root", "holder"])):
        case "next to":
            return {"state_dict": content, "hyper_parameters": odd}
        case "tensor":
            return content | {draw(st.sampled_from(sorted(content))): odd}
        case "key":
            return Raw(opcodes(content) + opcodes(odd) + b"N" + b"s")
        case "root":
            return odd
        case _:
            return {draw(st.sampled_from(foreign.HOLDERS)): odd, "epoch": 3}


def _change_entry(draw: Callable[..., Any], entries: list[tuple[str, bytes]]) -> None:
    """Renames, removes, doubles, changes or adds an entry of the archive."""
    at = draw(st.integers(0, len(entries) - 1))
    name, data = entries[at]
    match draw(st.sampled_from(["rename", "remove", "double", "value", "more"])):
        case "rename":
            entries[at] = (draw(st.sampled_from(PICKLES)), data)
        case "remove" if len(entries) > 1:
            del entries[at]
        case "double":
            entries.insert(at, entries[at])
        case "value":
            entries[at] = (name, draw(st.sampled_from([b"", b"big", b"\xff", b"9" * 30, b"3"]) | st.binary(max_size=10)))
        case "more":
            entries.append((draw(st.sampled_from(OTHERS)), b"x"))


def _tensor(described: dict[str, Any]) -> Raw:
    storage = ("storage", name_of("torch", described["kind"]), described["key"], described["place"], described["numel"])
    hooks = call(name_of("collections", "OrderedDict"))
    rebuild = name_of("torch._utils", "_rebuild_tensor_v2")
    return call(
        rebuild,
        Raw(opcodes(storage) + b"Q"),
        described["offset"],
        described["size"],
        described["stride"],
        described["grad"],
        hooks,
    )


@st.composite
def _odd(draw: Callable[..., Any]) -> Any:
    """Calls that a restricted unpickler allows or forbids, and values that grow."""
    match draw(st.sampled_from(["call", "call", "state", "global", "bomb", "instance", "persistent", "value", "extension"])):
        case "call":
            arguments = st.sampled_from(
                [TOUCH, 0, -1, 2**33, 2**62, b"", "cpu", "x", 1.5, None, (), (1, 2), (2**31, 2**31), [], [1], {}, {"a": 1}]
            )
            args = tuple(Raw(b"C\x01x") if arg == b"" else arg for arg in draw(st.lists(arguments, max_size=4)))
            return call(name_of(*draw(st.sampled_from(FUNCTIONS))), *args)
        case "state":
            made = call(name_of(*draw(st.sampled_from(FUNCTIONS[:30]))))
            return Raw(
                made + opcodes(draw(st.sampled_from([{"__class__": 1}, {"a": 1}, (), (1, 2), None, ({}, {"x": 1})]))) + b"b"
            )
        case "global":
            return name_of(*draw(st.sampled_from(FUNCTIONS)))
        case "bomb":
            return _bomb(draw(st.sampled_from([3, 60, 200])))
        case "instance":
            return Raw(b"(" + opcodes(TOUCH) + b"iposix\nsystem\n")
        case "persistent":
            return Raw(
                opcodes(draw(st.sampled_from([("storage",), "x", ("storage", 1, "0", "cpu", 1), ("module", "a", "b"), (), 5])))
                + b"Q"
            )
        case "extension":
            return Raw(draw(st.sampled_from([b"\x82\x01", b"\x8e" + struct.pack("<Q", 2**40), b"\x96" + struct.pack("<Q", 2**40), b"B" + struct.pack("<L", 2**31),
                                             b"\x8b" + struct.pack("<l", 2**30), b"\x8b" + struct.pack("<l", -5), b"r" + struct.pack("<L", 2**32 - 1) + b"N", b"I" + b"9" * 9000 + b"\n",
                                             b"(" * 5000 + b"t" * 5000, b"]" * 3000 + b"a" * 2999])))  # fmt: skip
        case _:
            return draw(st.sampled_from([1, "x", [], {}, (), {"state_dict": {"state_dict": {}}}, {1: 2}, {(): 1}]) | floats)


# ------------------------------------------------------------------------------------------------ check


def check(folder: Path, work: Path) -> None:
    """Imports: the result is a complete, finite encoder that can be built, or an error and no files."""
    last: UserError | None = None
    for path in sorted(folder.glob("*.[ps]*t*")):
        for backbone in (TINY, None) if path.suffix == ".safetensors" else (TINY,):
            out = work / f"{path.stem}-{backbone is None}"
            try:
                importing.import_encoder(path, out, backbone, None, None)
            except UserError as error:
                assert not out.exists(), f"left behind: {list(out.iterdir())}"
                last = error
                continue
            network, facts = weights.encoder(out)
            assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
            json.dumps(facts, allow_nan=False)
    if (folder / "encoder.json").exists():
        weights.encoder(folder)
    if last:
        raise last
