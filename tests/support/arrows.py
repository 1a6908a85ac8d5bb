"""Which file of the library imports which, read from the source: nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "brainpretrain"


def files(source: Path) -> dict[str, Path]:
    """Files below `source`/brainpretrain by module name, such as `report.pages.html`; the package itself is ''."""
    places = {}
    for path in sorted((source / PACKAGE).rglob("*.py")):
        parts = path.relative_to(source / PACKAGE).with_suffix("").parts
        places[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return places


def _statements(node: ast.AST, types: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements, also those inside functions; those for type checkers only if `types`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not types:
            continue
        else:
            yield from _statements(child, types)


def imported(text: str, modules: set[str], types: bool = True) -> set[str]:
    """Modules of the library that a source text imports."""
    names = set()
    for statement in _statements(ast.parse(text), types):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        else:
            names |= {f"{statement.module}.{alias.name}" for alias in statement.names} | {statement.module or ""}
    inside = {name.removeprefix(PACKAGE).removeprefix(".") for name in names if name.split(".")[0] == PACKAGE}
    return {name for name in inside if name in modules and name}


def arrows(source: Path, types: bool = True) -> dict[str, set[str]]:
    """For each module the modules that it imports. `from a import b` is an arrow to a.b if b is a module, else to a."""
    places = files(source)
    graph = {}
    for name, path in places.items():
        targets = imported(path.read_text(encoding="utf-8"), set(places), types) - {name}
        graph[name] = {target for target in targets if not any(other.startswith(f"{target}.") for other in targets)}
    return graph


def room(module: str, rooms: set[str]) -> str:
    """The room of a module: its folder, or `ground` for a file at the root."""
    first = module.split(".")[0]
    return first if first in rooms else "ground"


def between_rooms(graph: Mapping[str, set[str]], rooms: set[str]) -> dict[str, set[str]]:
    """For each room the rooms that its modules import."""
    found: dict[str, set[str]] = {}
    for module, targets in graph.items():
        here = room(module, rooms)
        found.setdefault(here, set()).update({room(target, rooms) for target in targets} - {here})
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (strongly connected components of more than one node), by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            groups.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return [group for group in groups if len(group) > 1]
