"""One YAML file to plain data, safely: no code, bounded size and depth, and only values that JSON has, too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any, ClassVar

import yaml

from brainpretrain.errors import UserError

MAX_YAML_BYTES = 4 << 20
MAX_YAML_NODES = 200_000  # an alias counts with all the nodes that it repeats: a few lines of aliases can expand to gigabytes
MAX_YAML_DEPTH = 40
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")  # the tags of JSON's values; a date is text

# control characters and unpaired surrogates: no path and no file can hold them
_UNUSABLE = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff]")

# YAML 1.1, which PyYAML reads, demands a point and a sign (1.0e-4); in YAML 1.2 and for every user, 1e-4 is a number
_SHORT_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """SafeLoader of JSON's values alone, bounded in size; reads `1e-4` as a number.

    Refuses a key given twice, where YAML silently takes the last.
    """

    yaml_constructors: ClassVar[dict] = {
        tag: function
        for tag, function in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _PLAIN
    }
    yaml_implicit_resolvers: ClassVar[dict] = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_nodes(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # a scalar that does not fit its tag
            raise _wrong(f"not a valid {node.tag.rpartition(':')[2]}: {str(node.value)[:40]!r}", node.start_mark) from error
        if isinstance(value, int | float) and not -(2**63) <= value < 2**64:  # infinite and NaN, too
            raise _wrong(f"not a usable number: {str(node.value)[:40]}", node.start_mark)
        if isinstance(value, str) and _UNUSABLE.search(value):
            raise _wrong(f"a control character or half of a surrogate pair: {value[:40]!r}", node.start_mark)
        return value

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        keys = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key_node, yaml.ScalarNode):
                raise _wrong("a key must be a word", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                line = key_node.start_mark.line + 1
                raise UserError(f"key '{key}' is given twice", where=f"{key_node.start_mark.name}:{line}", fix="keep one")
            keys.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[arg-type]


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _SHORT_FLOAT, list("-+.0123456789"))


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML file as a mapping, read without running code. It has only values that JSON has, too.

    Raises:
        UserError: the file is missing, too large, not valid YAML or not a mapping; a key is given twice, or a value is unusable.
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise UserError(f"larger than {MAX_YAML_BYTES >> 20} MiB", where=path, fix="give a config file, not a data file")
        with open(path, encoding="utf-8") as stream:
            _check_depth(stream)
            stream.seek(0)
            content = yaml.load(stream, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        raise UserError("config file not found", where=path, fix="check the name and the folder") from error
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", where=path, fix="check that it is a file and that you may read it"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"not valid YAML: {_in_words(error, path)}", where=path, fix="correct the line named above") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError("the file must be a mapping of sections", where=path, fix="start it with a section such as 'tasks:'")
    return content


# what libyaml says, and what it nearly always means
_MEANINGS = {
    "cannot start any token": "this character cannot begin a value; put the text in quotes",
    "could not find expected ':'": "a key without ': ' after it, or a quote that is not closed above",
    "mapping values are not allowed": "a ': ' where no key can be; put text with a colon in quotes, and check the indentation",
    "did not find expected key": "the indentation differs from that of the keys above, or a bracket above is not closed",
    "did not find expected '-'": "the indentation differs from that of the list above",
    "did not find expected ',' or": "a bracket is not closed, or a comma is missing",
    "found unexpected end of stream": "a quote is not closed",
    "found undefined alias": "a value that begins with * stands for an anchor; put it in quotes",
}


def _in_words(error: Exception, path: Path) -> str:
    """A YAML error as line and meaning, followed by what the parser says."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    text = lines[mark.line] if mark.line < len(lines) else ""
    said = f"{getattr(error, 'context', None) or ''} {getattr(error, 'problem', None) or ''}".strip()
    meaning = next((words for start, words in _MEANINGS.items() if start in said), "")
    if "\t" in text[: len(text) - len(text.lstrip())]:
        meaning = "a tab in the indentation; use spaces"
    return f"line {mark.line + 1}, column {mark.column + 1}: {f'{meaning} ({said})' if meaning else said}"


def _wrong(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _check_depth(stream: IO[str]) -> None:
    """Limits the nesting before nodes are composed, since composing recurses once per level."""
    depth = 0
    for event in yaml.parse(stream, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise _wrong(f"more than {MAX_YAML_DEPTH} levels", event.start_mark)


def _count_nodes(node: yaml.Node, counts: dict[int, int]) -> int:
    """Nodes below and including `node`, an alias counted at each use. `counts`: by id of a node, 0 while it is counted."""
    if id(node) in counts:
        if not counts[id(node)]:
            raise _wrong("an alias is used inside its own anchor", node.start_mark)
        return counts[id(node)]
    counts[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    count = 1 + sum(_count_nodes(child, counts) for child in children)
    if count > MAX_YAML_NODES:
        raise _wrong(f"more than {MAX_YAML_NODES} values, aliases written out", node.start_mark)
    counts[id(node)] = count
    return count
