"""Finds every tensor of a network in a file of another program, and says what each other tensor of the file is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from brainpretrain.errors import UserError
from brainpretrain.weights.foreign import same
from brainpretrain.weights.store import misfit

SHOWN = 20  # problems that a message lists
Layout = Callable[[str], list[str]]  # from a tensor's name to its names in a file, the trained one first


@dataclass(frozen=True)
class Match:
    """Where the tensors of a network are in a file.

    Attributes:
        names: the name in the file of each tensor of the network.
        copies: other names of the same tensor, with equal values, and the name in the network.
        stale: other names of the same tensor, with other values, which were not trained, and the name in the network.
        left: names of tensors outside the network: decoders and heads.
    """

    names: dict[str, str]
    copies: dict[str, str] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def match(
    own: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    layouts: Sequence[Layout],
    path: Path,
    part: str = "",
    heads: Sequence[str] = (),
    advice: str = "choose the backbone that the file was trained with, or fetch the file again",
) -> Match:
    """Finds every tensor of a network in a file, under the layout and the prefix that fit most names.

    A prefix may be anything that ends in a dot: `encoder.`, `decoder.encoder.`, `student.backbone.`.

    Args:
        own: state dict of the network to fill.
        tensors: tensors of the file, by their names without wrappers.
        layouts: the known ones.
        path: of the file, for messages.
        part: prefix to read, where the file holds several such networks.
        heads: beginnings of names that no encoder has, even under the prefix of one.
        advice: what to do about a file that does not fit.

    Raises:
        UserError: a tensor is missing, of another shape or type, or not finite, or one is left over inside the network (lists
            them by the names in the file); or there are two networks of this layout with different values.
    """
    layout, prefix, others = _choose(own, tensors, layouts, part)
    if layout is None:
        some = ", ".join(list(tensors)[:3])
        under = f" under '{part}'" if part else ""
        problem = f"none of the {len(own)} tensors is in the file{under}, whose tensors are called {some} ..."
        raise UserError(problem, where=path, fix=advice)
    found = _copies(own, tensors, layout, prefix)
    problems = list(_problems(own, tensors, layout, prefix, found))
    second = []
    for other in others:
        if different := _second(own, tensors, layout, prefix, other, found):
            second.append((other, different))
    used = {*found.names.values(), *found.copies, *found.stale}
    # a tensor left over inside the network means a larger network; those outside belong to decoders and heads
    inside = (prefix,) if prefix else tuple({name.split(".")[0] + "." for name in found.names.values()})
    extra = sorted(name for name in tensors if name not in used)
    outside = tuple(prefix + head for head in heads)
    problems += [f"not in this backbone: {name}" for name in extra if name.startswith(inside) and not name.startswith(outside)]
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(
            "\n  ".join([f"nothing was imported, {len(problems)} problems:", *problems[:SHOWN], *more]), where=path, fix=advice
        )
    if second and not part:
        lines = [f"under '{other}', {count} tensors have other values" for other, count in second]
        raise UserError(
            "\n  ".join([f"the file holds several networks of this layout; beside '{prefix}':", *lines]),
            where=path,
            fix=f"name the one to import: --part '{prefix}' or --part '{second[0][0]}'",
        )
    return Match(found.names, found.copies, found.stale, extra)


def prefixes(own: Sequence[str], tensors: Mapping[str, object], layout: Layout) -> set[str]:
    """What stands in front of the names of a layout in a file."""
    step = max(1, len(own) // 16)  # a few names are enough, since only a file that has nearly all is imported
    endings = {alternative for name in list(own)[::step] for alternative in layout(name)}
    found = set()
    for name in tensors:
        for ending in endings:
            if name.endswith(ending) and (len(name) == len(ending) or name[-len(ending) - 1] == "."):
                found.add(name[: len(name) - len(ending)])
    return found


def _choose(
    own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], layouts: Sequence[Layout], part: str
) -> tuple[Layout | None, str, list[str]]:
    """The layout and the prefix that fit most names, the shorter prefix of two; and the other prefixes that fit as many."""
    best: tuple[int, int, str, Layout | None] = (0, 0, "", None)
    choices = []
    for layout in layouts:
        for prefix in [part] if part else sorted(prefixes(list(own), tensors, layout)):
            count = sum(any(prefix + other in tensors for other in layout(name)) for name in own)
            choices.append((count, layout, prefix))
            if count and (count, -len(prefix)) > best[:2]:
                best = (count, -len(prefix), prefix, layout)
    count, _, prefix, layout = best
    same_size = {other for found, its, other in choices if its is layout and found == count}
    others = sorted(same_size - {prefix}, key=lambda other: (len(other), other))
    return layout, prefix, others


def _copies(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], layout: Layout, prefix: str) -> Match:
    """The first name of each tensor that is there, and what its other names hold."""
    found = Match({})
    for name in own:
        present = [prefix + other for other in layout(name) if prefix + other in tensors]
        found.names[name] = present[0] if present else prefix + layout(name)[0]
        for other in present[1:]:
            (found.copies if same(tensors[present[0]], tensors[other]) else found.stale)[other] = name
    return found


def _second(
    own: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    layout: Layout,
    prefix: str,
    other: str,
    found: Match,
) -> int:
    """Enters the tensors of a second network, if it is the same one, as copies; else the number of tensors that differ."""
    pairs = [(name, prefix + ending, other + ending) for name in own for ending in layout(name) if other + ending in tensors]
    different = sum(first in tensors and not same(tensors[first], tensors[again]) for _, first, again in pairs)
    if not different:
        for name, first, again in pairs:
            (found.stale if first in found.stale else found.copies)[again] = name
    return different


def _problems(
    own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], layout: Layout, prefix: str, found: Match
) -> Iterator[str]:
    for name, where in sorted(found.names.items(), key=lambda pair: pair[1]):
        if where not in tensors:
            yield f"missing: {where}"
        elif found.stale and where != prefix + layout(name)[0]:
            yield f"missing: {prefix}{layout(name)[0]}; {where} has initial values, as in the layers that have both"
    yield from filter(None, (misfit(where, own[name], tensors[where]) for name, where in found.names.items() if where in tensors))
