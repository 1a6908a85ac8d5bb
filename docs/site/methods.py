"""Generated pages of the site: one for each pretext, backbone, decoder and fine-tuning recipe, from code, config and docs/."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from brainpretrain import config, named, pretext
from brainpretrain.config.reading import read_yaml

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "brainpretrain"
PRETEXTS = "docs/pretexts.md"  # its sections with the name of a pretext have pages of their own on the site
KINDS = {
    "reconstruction": "the network reconstructs voxels",
    "voxels": "the network names the class of each voxel",
    "crops": "the network names the class of a crop",
    "views": "the network names how a view was made",
}


def pages() -> dict[str, str]:
    """Address -> Markdown of all pages of methods."""
    return {f"methods/{address}": text for part in (_pretexts(), _networks(), _recipes()) for address, text in part.items()}


# ---------------------------------------------------------------------------------------------------------------- shared


def _tree(package: str, name: str) -> ast.Module:
    return ast.parse((SOURCE / package / f"{name}.py").read_text(encoding="utf-8"))


def _build(tree: ast.Module) -> ast.FunctionDef | None:
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "build"), None)


def _words(docstring: str) -> dict[str, str]:
    """Argument -> its words, of the section Args of a docstring."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for names, words in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8,}.*)*)", section.group(1) if section else "", re.MULTILINE):
        found |= {name: " ".join(words.split()) for name in names.split(", ")}
    return found


def _options(build: ast.FunctionDef) -> Iterator[str]:
    """Table of the keyword parameters of `build`, which are the options in the config."""
    words = _words(ast.get_docstring(build) or "")
    rows = []
    for argument, default in zip(build.args.kwonlyargs, build.args.kw_defaults, strict=True):
        kind = ast.unparse(argument.annotation).replace(" | ", " or ") if argument.annotation else ""
        shown = f"`{ast.unparse(default)}`" if default else "**needed**"
        rows.append(f"| `{argument.arg}` | {kind} | {shown} | {words.get(argument.arg, '').replace('|', chr(92) + '|')} |")
    if rows:
        yield from ("## Options", "", "| option | type | default | meaning |", "|---|---|---|---|", *rows, "")


def _entries(section: str, file: str, chosen: list[str]) -> Iterator[str]:
    """The entries of a catalogue as they are written there."""
    raw = read_yaml(ROOT / "config" / file)[section]
    if chosen:
        yield from ("## Entries", "", f"As written in `config/{file}`; `like` names the entry that one completes.", "")
    for name in chosen:
        yield from (
            "```yaml",
            yaml.dump({name: raw[name]}, sort_keys=False, default_flow_style=None, width=120).rstrip(),
            "```",
            "",
        )


def _root(entries: dict[str, Any], name: str, key: str) -> Any:
    """The value of a key of an entry, from the entry that it is like if need be."""
    entry = entries[name]
    return entry[key] if key in entry else _root(entries, entry["like"], key)


def _doc(tree: ast.Module) -> str:
    return ast.get_docstring(tree) or ""


# --------------------------------------------------------------------------------------------------------------- pretexts


def sections(text: str) -> dict[str, tuple[str, str]]:
    """Of the text of docs/pretexts.md: pretext, or entry in parentheses, -> (heading, section without its heading)."""
    known = {re.sub(r"\W|_", "", name): name for name in named.names("pretext") if name not in ("about", "planning")}
    found = {}
    for heading, body in re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        word = re.sub(r".*\((\w+)\)", r"\1", heading)
        name = known.get(re.sub(r"[\W_]", "", word.lower()), word if word != heading else "")
        if name:
            found[name] = heading, body
    return found


def moved(text: str) -> dict[str, str]:
    """Anchor of docs/pretexts.md -> address of the page that has this section, for headings inside of sections, too."""
    found = {}
    for name, (heading, body) in sections(text).items():
        for words in (heading, *re.findall(r"^###+ (.*)$", body, re.MULTILINE)):
            found[re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")] = f"methods/pretexts/{name}.md"
    return found


def shortened(text: str) -> str:
    """docs/pretexts.md with links in place of the sections that are pages of their own on the site."""
    for name, (heading, body) in sections(text).items():
        text = text.replace(f"## {heading}\n{body}", f"- [{heading}](#{_anchor(heading)})\n" if name else "")
    return text


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _pretexts() -> dict[str, str]:
    raw = read_yaml(ROOT / "config" / "pretext.yaml")["pretexts"]
    written = sections((ROOT / PRETEXTS).read_text())
    methods = [name for name in named.names("pretext") if name not in ("about", "planning")]
    found = {}
    for name in [*methods, *(entry for entry in written if entry not in methods)]:
        method = name if name in methods else _root(raw, name, "method")
        heading, body = written.get(name, (name, ""))
        tree = _tree("pretext", method)
        entries = [entry for entry in raw if _root(raw, entry, "method") == method]
        others = [other for other in written if other not in methods and _root(raw, other, "method") == method]
        entries = [entry for entry in entries if _page_of(entry, method, others) == name]
        lines = [f"# {heading}", "", *_facts(method)]
        # links of the section start from docs/, those of this page from methods/pretexts/
        lines += [re.sub(r"\]\((?!https?:|#)", "](../../", body).strip() or _doc(tree), ""]
        build = _build(tree)
        options = list(_options(build)) if build else []
        lines += ["", f"## {heading}: options and entries", "", *(line.replace("## ", "### ") for line in options)]
        lines += [line.replace("## ", "### ") for line in _entries("pretexts", "pretext.yaml", entries)]
        found[f"pretexts/{name}.md"] = "\n".join(lines)
    return found


def _page_of(entry: str, method: str, sections_of: list[str]) -> str:
    """The page of an entry: its method's, or that of a section about an entry of this method, such as `mae` and its variants."""
    return next((name for name in sections_of if entry == name or entry.startswith(f"{name}_")), method)


def _facts(method: str) -> Iterator[str]:
    about = pretext.about(method)
    networks = ", ".join(f"`{name}`" for name in about.architectures) or "all"
    yield from (
        "| property | value |", "|---|---|",
        f"| kind of task | {'; '.join(KINDS.get(kind, kind) for kind in about.kinds)} |",
        f"| hides voxels | {'yes: no output may depend on a hidden voxel' if about.hides else 'no'} |",
        f"| backbones | {networks} |",
        f"| samples in a batch | at least {about.samples} |",
        f"| guesses without a network, in `log.csv` | {', '.join(f'`{name}`' for name in sorted(about.baselines))} |",
        f"| file | `src/brainpretrain/pretext/{method}.py` |", "",
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- backbones and decoders


def _networks() -> dict[str, str]:
    raw = read_yaml(ROOT / "config" / "backbones.yaml")["backbones"]
    found = {}
    for package, key in (("backbones", "architecture"), ("decoders", "decoder")):
        for name in named.names(package):
            tree = _tree(package, name)
            build = _build(tree)
            if not build:
                continue
            first, _, rest = _doc(tree).partition("\n\n")
            lines = [f"# {name}", "", first, "", rest, "", f"File: `src/brainpretrain/{package}/{name}.py`.", ""]
            raises = re.search(r"Raises:\n(.*)", ast.get_docstring(build) or "", re.DOTALL)
            if raises:
                lines += [f"Refused: {' '.join(raises.group(1).replace('UserError:', '').split())}", ""]
            chosen = [entry for entry in raw if _root(raw, entry, key) == name]
            lines += _options(build)
            lines += _counts(raw, chosen) if package == "backbones" else _used(chosen)
            lines += _entries("backbones", "backbones.yaml", chosen) if package == "backbones" else []
            found[f"{package}/{name}.md"] = "\n".join(lines)
    return found


def _used(chosen: list[str]) -> Iterator[str]:
    if chosen:
        yield f"Backbones of the catalogue that use it for fine-tuning: {', '.join(f'`{entry}`' for entry in chosen)}."


def _counts(raw: dict[str, Any], chosen: list[str]) -> Iterator[str]:
    """Counts of the networks, which `brainpretrain params` and the tests compare with what is built."""
    rows = []
    for entry in chosen:
        for network in raw[entry].get("expected", []):
            what = f"with the pretext `{network['pretext']}`" if "pretext" in network else "encoder"
            what = f"segmentation, {network['classes']} classes" if "classes" in network else what
            rows.append(f"| `{entry}` | {what} | {network['parameters']:,} | {network.get('gflop', '–')} |")
    if rows:
        yield from (
            "## Sizes",
            "",
            "`brainpretrain params` and the tests compare these counts with the networks that are built.",
            "",
        )
        yield from ("| entry | network | parameters | GFLOP of a patch of 128^3 |", "|---|---|---:|---:|", *rows, "")


# ---------------------------------------------------------------------------------------------------------------- recipes


def _recipes() -> dict[str, str]:
    raw = read_yaml(ROOT / "config" / "finetune.yaml")["finetune"]
    read = config.load(ROOT / "config").finetune
    training = (ROOT / "docs" / "training.md").read_text()
    found = {}
    for name in raw:
        recipe = read[name]
        note = raw[name].get("note", "")
        lines = [f"# {name}", "", f"{note[:1].upper()}{note[1:]}", "", "## Phases", ""]
        lines += ["| steps | of these warm-up | peak learning rate | decay | trained |", "|---:|---:|---:|---|---|"]
        for phase in recipe.phases:
            decay = f"{phase.decay}, exponent {phase.exponent}" if phase.exponent else phase.decay
            lines.append(f"| {phase.steps:,} | {phase.warmup_steps:,} | {phase.lr:g} | {decay} | {phase.train} |")
        lines += ["", "## Settings", "", "| key | value |", "|---|---|", *_settings(recipe), ""]
        rows = _deviations(training, name)
        if rows:
            lines += ["## Deviations", "", "| paper or authors' code | here |", "|---|---|", *rows, ""]
        lines += _entries("finetune", "finetune.yaml", [name])
        lines += [
            "The keys are explained in the [reference](../../reference/config/finetune.md), the recipes compared in",
            "[Training](../../training.md).",
        ]
        found[f"recipes/{name}.md"] = "\n".join(lines)
    return found


def _settings(recipe: Any) -> Iterator[str]:
    for key, value in recipe.model_dump(mode="json").items():
        if key not in ("note", "phases"):
            shown = ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else value
            yield f"| `{key}` | {shown} |"


def _deviations(training: str, recipe: str) -> list[str]:
    """Rows of the table of differences in docs/training.md that name the recipe, by its name or a pattern."""
    rows, names = [], []
    for line in training.split("## Differences from the papers")[1].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("| ") else []
        if len(cells) == 2:  # the first cell is empty: of the recipes above
            cells = ["", *cells]
        if len(cells) == 3 and cells[0] != "recipe":
            names = re.findall(r"`([^`]+)`", cells[0]) or names
            own = any(fnmatch(recipe, name) for name in names)
            if own:
                rows.append(f"| {cells[1]} | {cells[2]} |")
    return rows
