"""The keys of a preprocess recipe: those that every recipe has, and those that came later, with what their absence means.

A later key is written only where it differs from its default, so that the recipe of a finished study stays the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPE_KEYS = (
    "spacing_mm",
    "upper_quantile",
    "crop",
    "antialias",
    "min_size",
    "allow_negative",
    "max_voxels",
    "spacing_range_mm",
)
ICBM152 = "icbm152"  # the atlas that comes along
DEFAULTS: dict[str, Any] = {
    "session": [],  # sequences of one session that are stored together; empty: every volume by itself
    "align": None,  # header, rigid or affine: how the other sequences come onto the grid of the first
    "min_covered": 0.9,  # share of the foreground that an aligned volume must cover
    "bias_correction": None,  # n4
    "n4_shrink": 4,
    "n4_iterations": [50, 50, 50, 50],
    "atlas": None,  # icbm152, or the path of a volume
    "size": None,  # voxels (x, y, z) of every stored volume, padded with 0 or cropped around its centre
    "lower_quantile": 0.0,  # of the voxels above the minimum; 0: the minimum
    "window": None,  # [low, high] in units of the file, in place of both quantiles
}
# in these an encoder and a task must agree
SAME = ("spacing_mm", "upper_quantile", "lower_quantile", "window", "crop", "size", "bias_correction", "atlas")


def option(recipe: Mapping[str, Any], key: str) -> Any:
    """The value of a key, or what its absence means."""
    return recipe.get(key, DEFAULTS.get(key))


def relevant(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a recipe that shapes the stored arrays; a later key only where it differs from its default."""
    later = {key: recipe[key] for key, default in DEFAULTS.items() if key in recipe and recipe[key] != default}
    return {key: recipe[key] for key in RECIPE_KEYS} | later | {"revision": recipe.get("revision", 1)}


def moves(recipe: Mapping[str, Any]) -> bool:
    """True if volumes may be stored on another grid than their own, so that the tables have the columns of alignments."""
    return bool(option(recipe, "align") or option(recipe, "atlas"))
