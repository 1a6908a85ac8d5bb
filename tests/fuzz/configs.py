"""Config folders for `config.load` and the plan, and single YAML files for `read_yaml`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from brainpretrain import config
from brainpretrain.config.reading import read_yaml
from brainpretrain.errors import UserError
from brainpretrain.plan import specs, tables
from fuzz.odd import damaged, ints, maybe

MEMORY = 64 << 20
SECONDS = 20
CONFIG = Path(__file__).parents[2] / "config"
# of the catalogue, what the demo needs, so that a load takes a moment
KEPT = {
    "augmentations": ["amaes_finetune", "none"], "backbones": ["unet_b", "unet_tiny"], "datasets": ["phantom"], "finetune": ["amaes"],
    "preprocess": ["amaes", "coarse_3mm"], "pretexts": ["amaes"], "tables": [], "tasks": [], "corpora": [], "weights": ["amaes_released"],
}  # fmt: skip

BOMB = "[&a0 [x, x], " + ", ".join(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)) + "]"
MAPS = "{m0: &m0 {x: 1}, " + ", ".join(f"m{n}: &m{n} {{x: *m{n - 1}, y: *m{n - 1}}}" for n in range(1, 40)) + "}"
MERGES = "{k0: &k0 {x: 1}, " + ", ".join(f"k{n}: &k{n} {{<<: [*k{n - 1}, *k{n - 1}]}}" for n in range(1, 40)) + "}"
ODD = [
    "null", "~", "true", "yes", "", "''", "' '", "0", "-1", "1", "3", "1e5", "1.0e+5", ".nan", ".inf", "-.inf", "0x", "0x1F", "0b", "0b2", "0o8",
    "08", "1:60", "1_000", "_", "+", "9" * 30, "9" * 5000, "1" + "0" * 400, "1.0e+999", "2001-01-01", "2001-99-99", "2001-01-01 99:99:99",
    "!!python/object/apply:os.system ['touch ran']", "!!python/name:os.system", "!!binary 'Z!'", "!!binary YWJj", "!!set {a, b}",
    "!!omap [a: 1]", "!!omap [1]", "!!pairs [a: 1, a: 2]", "!!timestamp x", "!!int x", "!!int ''", "!!float x", "!!bool x", "!!null x",
    "!!str [a]", "!!seq {a: 1}", "!!map [a]", "!foo x", "!<tag:yaml.org,2002:int> 7", "&a [*a]", "&a {k: *a}", "&a {like: *a}", "*nowhere", "{? [a] : b}",
    "{? {a: 1} : b}", "{[a, b]: c}", "{1: x, null: y, true: z}", "{1.5: x}", "{2001-01-01: x}", "{a: 1, a: 2}", "{<<: {a: 1}, a: 2}",
    "{<<: [1]}", "{<<: x}", "{<<: *nowhere}", "{=: 1}", "=", "<<", BOMB, MAPS, MERGES, "[" * 60 + "]" * 60, "[" * 3000 + "]" * 3000, "{a: " * 2000 + "}" * 2000,
    "\"\\0\"", "\"\\ud800\"", "\"\\U0010ffff\"", "../../etc/passwd", "/etc/passwd", "x.yaml", "\"a\\nb\"", "x" * 5000, "[]", "{}", "[[]]", "[null]",
    "[a, b]", "{a: b}", "all", "scratch", "amaes", "amaes-on-phantom_unlabelled", "phantom", "__class__", "__init__", "model_config", "$(touch ran)",
    "?__import__('os').system('touch ran')", "{p: .5}", "[1, 2]", "[2, 1]", "[1, 1, 1]", "[0, 0, 0]", "[1000000000, 32, 32]", "[32, 32, 10000000000000000000000]",
    "{0: a}", "bids", "csv", "nnunet", "{n_shards: 0}", "{layout: x}", "'{'", "'%s'", "'{0}'", "100000000", "9223372036854775808",
]  # fmt: skip
TEXTS = ["%YAML 9.9\n---\n", "---\n...\n---\n", "--- a\n--- b\n", "\ufeff", "\t", "#", "'", "\"", "&", "*", "!", "- a\n", "? a\n", ": b\n", "|\n", ">\n", "@", "`",
         "a: b: c\n", "__use_yte__: true\n", "\x00", "\x07", "\u2028"]  # fmt: skip


@cache
def base() -> dict[str, Any]:
    """The demo study with the part of the catalogue that it needs, as plain data by file."""
    settings = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8")) | {"study": "demo"}
    found: dict[str, Any] = {"config.yaml": settings, "catalogue.yaml": {}}
    for path in sorted(CONFIG.glob("*.yaml")):
        for section, entries in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if section in KEPT:
                wanted = list(KEPT[section])
                for name in wanted:
                    wanted += [entries[name]["like"]] if "like" in entries[name] else []
                found["catalogue.yaml"][section] = {name: entries[name] for name in entries if name in wanted}
    return found | {"studies/demo.yaml": yaml.safe_load((CONFIG / "studies" / "demo.yaml").read_text(encoding="utf-8"))}


def valid() -> dict[str, bytes]:
    """The config of the demo."""
    return {name: yaml.safe_dump(content, sort_keys=False).encode() for name, content in base().items()}


@st.composite
def inputs(draw: Callable[..., Any]) -> dict[str, bytes]:
    """The demo with changes, or one file of odd text."""
    if maybe(draw, 2):
        pieces = (
            st.sampled_from(ODD)
            | st.sampled_from(TEXTS)
            | st.sampled_from(["a: ", "b: ", "\n", "  ", ", "])
            | st.text(max_size=8)
        )
        text = draw(st.sampled_from(["", "a: ", "- "])) + "".join(draw(st.lists(pieces, max_size=5)))
        return {"one.yaml": draw(damaged(text.encode("utf-8", "surrogatepass"), 1))}
    files, raw = copy.deepcopy(base()), {}
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        _mutate(draw, files, raw)
    texts = {name: yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10**6) for name, content in files.items()}
    for name, text in texts.items():
        for mark, odd in raw.items():
            text = text.replace(mark, odd)
        texts[name] = text
    if maybe(draw, 8):
        name = draw(st.sampled_from(sorted(texts)))
        return {other: (draw(damaged(text.encode(), 2)) if other == name else text.encode()) for other, text in texts.items()}
    return {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()}


def _mutate(draw: Callable[..., Any], files: dict[str, Any], raw: dict[str, str]) -> None:
    """One change somewhere in the tree. Text that plain data cannot hold has a mark in its place, which `raw` explains."""
    node: Any = files[draw(st.sampled_from(sorted(files)))]
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or not node[key] or maybe(draw):
            break
        node = node[key]
    match draw(st.sampled_from(["value", "value", "number", "value", "key", "remove", "like", "wrap", "more", "swap"])):
        case "value":
            node[key] = _mark(draw, raw)
        case "number":
            node[key] = draw(ints)
        case "key" if isinstance(node, dict):
            node[_mark(draw, raw)] = node.pop(key)
        case "remove":
            del node[key]
        case "like" if isinstance(node[key], dict):
            names = [name for section in KEPT for name in files["catalogue.yaml"].get(section) or {}]
            node[key]["like"] = draw(st.sampled_from([*names, "demo", str(key)]))
        case "wrap":
            node[key] = draw(st.sampled_from([[node[key]], {"a": node[key]}, [node[key]] * 3, {str(key): node[key]}]))
        case "more" if isinstance(node, dict):
            node[_mark(draw, raw)] = _mark(draw, raw)
        case "swap":
            other = draw(st.sampled_from(keys))
            node[key], node[other] = node[other], node[key]


def _mark(draw: Callable[..., Any], raw: dict[str, str]) -> str:
    mark = f"mark{len(raw)}mark"
    raw[mark] = draw(st.sampled_from(ODD))
    return mark


def check(folder: Path, work: Path) -> None:
    """Reads and plans. An accepted config can be written as JSON, which every rule of the workflow needs."""
    if (folder / "one.yaml").exists():
        content = read_yaml(folder / "one.yaml")
        assert isinstance(content, dict)
        return
    loaded = config.load(folder)
    made = tables.make(loaded)
    for pretraining in made.pretrainings:
        loaded.pretext(pretraining.pretext, pretraining.backbone).model_dump_json()
    for evaluation in made.evaluations:
        json.dumps(specs.finetune_run(loaded, evaluation.arm, evaluation.fold).plain(), allow_nan=False)
    for preprocess in loaded.preprocess:
        json.dumps(loaded.stored_as(preprocess), allow_nan=False)
    for name, release in loaded.weights.items():
        for backbone in release.files:
            try:
                loaded.release(name, backbone)
            except UserError:
                continue
