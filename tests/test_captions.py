"""The captions of the report: plain reStructuredText, one sentence each, and nothing of the config in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from docutils.core import publish_doctree
from docutils.nodes import paragraph
from jinja2 import Environment, StrictUndefined

from helpers import ROOT

FOLDER = ROOT / "rules" / "report"
CAPTIONS = sorted(FOLDER.glob("*.rst"))
EXPECTED = "composition loss overlays paired_cases per_label reconstructions rejected results run_card workflow"


def render(path: Path) -> str:
    """As Snakemake does it, but without the object that holds the config."""
    return Environment(undefined=StrictUndefined).from_string(path.read_text(encoding="utf-8")).render()


def test_every_piece_of_the_report_has_a_caption() -> None:
    assert " ".join(path.stem for path in CAPTIONS) == EXPECTED


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_is_valid_and_needs_no_config(path: Path) -> None:
    publish_doctree(render(path), settings_overrides={"halt_level": 2, "report_level": 2})


@pytest.mark.parametrize("path", [p for p in CAPTIONS if p.stem != "workflow"], ids=lambda path: path.stem)
def test_a_caption_is_one_sentence(path: Path) -> None:
    (only,) = publish_doctree(render(path)).findall(paragraph)
    assert only.astext().endswith(".")
    assert ". " not in only.astext()
