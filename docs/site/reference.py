"""Generated pages of the site: every key of the config, from its models, and every command, from its arguments."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from brainpretrain import cli
from brainpretrain.cli.arguments import REGISTERED
from brainpretrain.config.sections import SECTIONS, Settings, Study

MODELS: dict[str, type[BaseModel]] = {"settings": Settings, "study": Study, **SECTIONS}
FILES = {"settings": "config/config.yaml", "study": "config/studies/NAME.yaml", "pretexts": "config/pretext.yaml"}
UNITS = {
    "mm": "mm", "voxels": "voxels", "kb": "kilobytes", "steps": "optimiser steps", "epochs": "epochs", "bytes": "bytes",
    "fraction": "share, 0 to 1", "quantile": "share, 0 to 1", "degrees": "degrees", "gflop": "10^9 operations", "hours": "hours",
    "size": "voxels", "n_train": "subjects", "lr": "per step", "lr_grid": "per step", "p": "probability",
    "p_channel": "probability", "p_axis": "probability", "global_batch": "patches", "batch": "windows",
    "attempts": "attempts", "folds": "draws",
    "confidence": "share, 0 to 1", "near_copy": "correlation", "min_covered": "share, 0 to 1", "overlap": "share of a window",
    "parameters": "numbers", "resamples": "draws", "subjects": "subjects, or a share", "window": "units of the files",
    "n4_shrink": "voxels", "n4_iterations": "iterations", "momentum": "share, 0 to 1",
}  # fmt: skip


def pages() -> dict[str, str]:
    """Address -> Markdown of all pages of the reference."""
    found = {"reference/config.md": _config_index(), "reference/commands.md": _commands_index()}
    found |= {f"reference/config/{name}.md": _section(name, model) for name, model in MODELS.items()}
    return found | {f"reference/commands/{_slug(group)}.md": _group(group) for group in cli.COMMANDS}


def _slug(group: str) -> str:
    return group.replace(" ", "_")


def _file(name: str) -> str:
    return FILES.get(name, f"config/{name}.yaml")


def _first(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0].replace("\n", " ")


# ---------------------------------------------------------------------------------------------------------------- config


def _config_index() -> str:
    rows = [f"| [`{name}`](config/{name}.md) | `{_file(name)}` | {_first(model.__doc__)} |" for name, model in MODELS.items()]
    return "\n".join([
        "# Config keys", "",
        "Every key that a file of `config/` may have. An unknown key is refused, with the nearest valid one. A study file may",
        "contain entries of every section beside the keys of [a study](config/study.md). Each entry may have `like`, the name",
        "of an entry that it completes, and `note`, a text that changes nothing.",
            "",
        "The columns of the tables: *default* is the value of a key that is left out (**needed**: it must be given, in the",
        "entry or in the one that `like` names); *unit* is that of the value, and a dash stands for a value without a unit.",
            "",
        "| section | file | an entry is |", "|---|---|---|", *rows, "",
    ])  # fmt: skip


def fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """(name of the model, key, line of the table) for a section and all models inside it."""
    schema = model.model_json_schema()
    for name, part in _models(model.__name__, schema).items():
        for key, about in part.get("properties", {}).items():
            if key != "note":
                yield name, key, _line(key, about, key in part.get("required", []))


def _models(name: str, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema of a model, and those of the models in it, in the order in which keys name them."""
    found, queue, inner = {}, [(name, schema)], schema.get("$defs", {})
    while queue:
        name, part = queue.pop(0)
        if name not in found:
            found[name] = part
            text = json.dumps(part.get("properties", {}))
            queue += sorted(
                ((key, inner[key]) for key in inner if f'#/$defs/{key}"' in text), key=lambda it: text.find(f'/{it[0]}"')
            )
    return found


def _section(name: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    lines = [f"# {name}", "", f"{_first(model.__doc__)} File: `{_file(name)}`.", ""]
    rows: dict[str, list[str]] = {}
    for owner, _, line in fields(model):
        rows.setdefault(owner, []).append(line)
    for owner, part in _models(model.__name__, schema).items():
        if owner != model.__name__:
            lines += [f"## {owner}", "", _first(part.get("description")), ""]
        lines += ["| key | type | default | unit | meaning |", "|---|---|---|---|---|", *rows.get(owner, []), ""]
    return "\n".join(lines)


def _line(key: str, about: dict[str, Any], needed: bool) -> str:
    default = "**needed**" if needed else f"`{json.dumps(about['default'])}`" if "default" in about else "its keys' defaults"
    meaning = about.get("description", "").replace("|", "\\|").replace("\n", " ").replace("<table>", "TABLE")
    return f"| `{key}` | {_type(about)} | {default} | {unit(key)} | {meaning} |"


def unit(key: str) -> str:
    """The unit of a key, by its name or the last word of it; a dash if it has none."""
    return UNITS.get(key) or UNITS.get(key.rsplit("_", 1)[-1]) or "–"


def _type(about: dict[str, Any]) -> str:
    """The type of a value in words, from its JSON schema."""
    if "$ref" in about:
        name = about["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if choices := about.get("anyOf") or about.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(choice) for choice in choices))
    if "enum" in about or "const" in about:
        return ", ".join(f"`{choice}`" for choice in about.get("enum", [about.get("const")]))
    match about.get("type"):
        case "array":
            low, high = about.get("minItems"), about.get("maxItems")
            number = f" of {low}" if low and low == high else ""
            if "prefixItems" in about:
                return f"list{number}: " + ", ".join(_type(item) for item in about["prefixItems"])
            return f"list{number}: {_type(about.get('items', {}))}"
        case "object":
            values = about.get("additionalProperties")
            return f"mapping of names to {_type(values)}" if isinstance(values, dict) else "mapping"
        case "integer":
            return f"whole number{_range(about)}"
        case "number":
            return f"number{_range(about)}"
        case "string":
            return "name" if about.get("pattern", "").startswith("^[a-z0-9]") else "text"
        case "boolean":
            return "true or false"
        case "null":
            return "null"
    return "any value"


def _range(about: dict[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    parts = [f"{word} {about[key]}" for key, word in words.items() if key in about]
    return f" {' '.join(parts)}" if parts else ""


# -------------------------------------------------------------------------------------------------------------- commands


def _commands_index() -> str:
    lines = [
        "# Commands", "",
        "`brainpretrain COMMAND --help` prints the same. The workflow calls the commands of its stages; each also runs by hand,",
        "with the line that the log of its job shows. Exit codes: 0 done; 2 an error that you can correct; 128 + signal: stopped",
        "by that signal, progress is saved, and the same command continues. Anything else is a fault of the program.",
        "",
    ]  # fmt: skip
    for group, commands in cli.COMMANDS.items():
        lines += [f"## {group[0].upper()}{group[1:]}", "", "| command | what it does |", "|---|---|"]
        lines += [f"| [`{name}`](commands/{_slug(group)}.md#{name}) | {summary} |" for name, (_, summary) in commands.items()]
        lines += [""]
    return "\n".join(lines)


def _group(group: str) -> str:
    title = "Commands to start with" if group == "start here" else f"Commands of the stage {group}"
    return "\n".join([f"# {title}", "", *(line for name in cli.COMMANDS[group] for line in _command(group, name))])


def _command(group: str, name: str) -> Iterator[str]:
    summary = cli.COMMANDS[group][name][1]
    cli.parser(name)  # imports the file of the command
    function, arguments = REGISTERED[name]
    yield from (f"## {name}", "", f"{summary[0].upper()}{summary[1:]}.", "")
    yield from ("```{ .text .help }", inspect.getdoc(function) or "", "```", "")
    if arguments:
        yield from ("| argument | value | default | meaning |", "|---|---|---|---|")
        yield from (_argument(names, options) for names, options in arguments)
        yield ""


def _argument(names: tuple[str, ...], options: dict[str, Any]) -> str:
    value = options.get("metavar") or (names[-1].strip("-").upper() if names[0].startswith("-") else "")
    value = " ".join(value) if isinstance(value, tuple) else value
    if options.get("action") in ("store_true", "store_false"):
        value = "switch"
    elif choices := options.get("choices"):
        value = ", ".join(str(choice) for choice in choices)
    elif kind := {int: "whole number", float: "number"}.get(options.get("type")):
        value = f"{value} ({kind})" if value else kind
    several = {"+": ", one or more", "*": ", any number"}.get(str(options.get("nargs")), "")
    positional = not names[0].startswith("-") and options.get("nargs") not in ("?", "*")
    default = options.get("default")
    shown = "**needed**" if positional or options.get("required") else "–" if default in (None, [], False) else f"`{default}`"
    meaning = (options.get("help") or "").replace("%%", "%").replace("%(default)s", str(default))
    cells = [f"`{'`, `'.join(names)}`", f"{value}{several}" or "–", shown, meaning]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in cells) + " |"
