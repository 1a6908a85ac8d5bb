"""Inputs of fixtures, which are given by formula: `seq('name', (2, 3)) + 0.1`, `0.5 + 0.5*sin(0.11*i + ...)`."""

from __future__ import annotations

import ast
import math
import operator
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

_STEP, _MODULUS = 0.7548776662466927, 1000
_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def seq(name: str, shape: Sequence[int]) -> np.ndarray:
    """flat[i] = cos(i * 0.7548776662466927 + crc32(name) % 1000), float64 rounded to float32, in C order."""
    n = np.arange(math.prod(shape))
    return np.cos(n * _STEP + zlib.crc32(name.encode()) % _MODULUS).astype(np.float32).reshape(tuple(shape))


def filling(name: str, shape: Sequence[int]) -> torch.Tensor:
    """The filling of a network's tensor, float32, by its name and shape."""
    n = np.arange(math.prod(shape))
    values = np.cos(n * _STEP + zlib.crc32(name.encode()) % _MODULUS)
    if len(shape) >= 2:
        values = values * np.sqrt(2 / math.prod(shape[1:]))
    else:
        values = 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
    return torch.from_numpy(values.astype(np.float32).reshape(tuple(shape)))


def image(text: str, shape: Sequence[int], **fixed: int) -> np.ndarray:
    """A volume by its formula in i, j, k and, if it has them, b and c, such as `x[b,c,i,j,k] = 0.5 + 0.5*sin(0.11*i)`.

    Args:
        text: formula, with a left side, and with remarks behind a comma; `float32` among these rounds it.
        shape: (b c x y z), (c x y z) or (x y z).
        fixed: `b` or `c` as a number, where the shape has no such axis.
    """
    formula, *remarks = re.split(r",(?![^\[(]*[\])])", text.partition("=")[2], maxsplit=1)
    axes = np.indices(tuple(shape))
    names = dict(zip("bcijk"[-len(shape) :], axes, strict=True))
    values = np.broadcast_to(evaluate(formula, {"b": 0, "c": 0} | names | fixed), tuple(shape))
    return np.array(values, dtype=np.float32 if "float32" in "".join(remarks) else np.float64)


def evaluate(text: str, names: Mapping[str, Any] | None = None) -> Any:
    """Value of a formula of numbers, names, + - * / % **, seq, sin, cos, floor, arange, and `clamp(x, min 0)`.

    Shapes may end in `...`, which `names["..."]`, a shape, completes.

    Raises:
        ValueError: anything else is in it.
    """
    words = re.sub(r"\bmin (-?[\d.]+)", r"\1", text).replace("crc32(utf-8 name)", "0")
    return _value(ast.parse(words.strip(), mode="eval").body, names or {})


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(int() | float() | str()):
            return node.value
        case ast.Name(name) if name in names:
            return names[name]
        case ast.Tuple(items) | ast.List(items):
            return _shape(items, names)
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand, names)
        case ast.BinOp(left, kind, right) if type(kind) in _OPERATORS:
            return _OPERATORS[type(kind)](_value(left, names), _value(right, names))
        case ast.Call(ast.Name(name), arguments, []) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
    raise ValueError(f"not a formula of a fixture: {ast.unparse(node)}")


def _shape(items: list[ast.expr], names: Mapping[str, Any]) -> tuple[int, ...]:
    """A shape, or any tuple of numbers; `...` at its end is completed to that of names["..."]."""
    if items and isinstance(items[-1], ast.Constant) and items[-1].value is ...:
        known, whole = [_value(item, names) for item in items[:-1]], list(names["..."])
        return (*known, *whole[len(known) :])
    return tuple(_value(item, names) for item in items)


_FUNCTIONS: dict[str, Callable] = {
    "seq": seq,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "arange": np.arange,
    "clamp": np.maximum,
}


def formulas(text: str) -> dict[str, str]:
    """Formulas of a text such as `base = seq('a', (3, 16)) + 0.3; target = seq('b', (3, 4)) + 0.2`, by name."""
    return {name.strip(): formula for name, _, formula in (part.partition("=") for part in text.split(";")) if formula}
