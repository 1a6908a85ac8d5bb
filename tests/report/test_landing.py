from __future__ import annotations

from pathlib import Path

import pytest
from docutils.core import publish_doctree, publish_parts
from docutils.nodes import reference

from brainpretrain import config
from brainpretrain.files import write_json, write_tsv
from brainpretrain.plan import tables as plan
from brainpretrain.plan.runs import Plan
from brainpretrain.report import landing, verdicts
from helpers import ROOT


@pytest.fixture(scope="module")
def demo() -> Plan:
    return plan.make(config.load(ROOT / "config", {"study": "demo"}))


def finish(planned: Plan, study: Path, folds: int) -> None:
    """Leaves what a finished training and its evaluation leave, for the first folds."""
    run = {"hardware": "a machine", "commit": "0123456789abcdef", "finished": "2026-01-02T03:04:05+00:00", "seconds": 60.0}
    for pretraining in planned.pretrainings:
        write_json(study / pretraining.path / "run.json", run | {"seconds": 3600.0})
    for evaluation in planned.evaluations:
        if evaluation.fold < folds:
            write_json(study / evaluation.path / ".." / "run.json", run)
            (study / evaluation.path).mkdir(parents=True, exist_ok=True)
            (study / evaluation.path / "scores.tsv").touch()


def shown(planned: Plan, study: Path) -> str:
    """As a reader sees it; anything that docutils warns of is an error."""
    return publish_doctree(landing.text(planned, study), settings_overrides={"halt_level": 2, "report_level": 2}).astext()


def test_nothing_ran_yet(demo: Plan, tmp_path: Path) -> None:
    words = shown(demo, tmp_path)
    assert words.startswith("Demo: synthetic phantoms")
    assert (
        "4 of 4 runs are missing: unet_tiny, scratch, n=3, phantom_tissue (test): 2 folds, unet_tiny, amaes_demo-on-phantom"
        in words
    )
    assert "Pretrainings: 0 of 1 finished" in words and "Hardware" not in words


def test_half_of_it_ran(demo: Plan, tmp_path: Path) -> None:
    finish(demo, tmp_path, folds=1)
    words = shown(demo, tmp_path)
    assert "2 of 4 runs are missing" in words and "scratch, n=3, phantom_tissue (test): 1 fold," in words
    assert "Pretrainings: 1 of 1 finished, 1 h 00 min in all." in words
    assert "Fine-tunings: 2 of 4 finished, 2 min 00 s in all." in words


def test_all_of_it_ran(demo: Plan, tmp_path: Path) -> None:
    finish(demo, tmp_path, folds=2)
    words = shown(demo, tmp_path)
    assert "2 rows, 1 column, 2 folds; all 4 runs are scored." in words and "missing" not in words
    assert (
        "pretrains 1 encoder: amaes_demo on phantom_unlabelled (unet_tiny); it fine-tunes 2 arms in 2 folds for phantom" in words
    )
    assert "Hardware: a machine. Commit: 0123456789ab." in words and "Finished: 2026-01-02." in words
    links = [link["refuri"] for link in publish_doctree(landing.text(demo, "results/demo")).findall(reference)]
    assert links == ["javascript:app.showResultInfo('results/demo/tables/demo.html')"]


def test_the_papers_study_says_what_it_is_in_one_screen(tmp_path: Path) -> None:
    planned = plan.make(config.load(ROOT / "config", {"study": "amaes"}))
    text = landing.text(planned, tmp_path)
    assert len(text.splitlines()) < 25 and "and 3 more" in text
    shown(planned, tmp_path)


def test_what_means_something_in_rst_is_escaped() -> None:
    hostile = "a_ *b* `c <javascript:x>`__ |d| ::"
    page = publish_parts(landing.escaped(hostile), writer="html")["body"]
    assert "<a" not in page and "<em" not in page
    assert publish_doctree(landing.escaped(hostile)).astext() == hostile


def test_the_result_comes_first(demo: Plan, tmp_path: Path) -> None:
    finish(demo, tmp_path, folds=2)
    line = dict.fromkeys(verdicts.COLUMNS, "") | {
        "row": "unet_tiny, amaes_demo", "baseline": "unet_tiny, scratch", "column": "phantom", "delta": "0.0123",
        "delta_low": "-0.002", "delta_high": "0.0266", "verdict": "undecided", "to_decide": "about 9 draws would decide",
    }  # fmt: skip
    lines = [line, line | {"verdict": "missing"}, line | {"delta_low": "", "delta_high": "", "verdict": "helps", "to_decide": ""}]
    write_tsv(tmp_path / "tables" / "demo_verdicts.tsv", lines, verdicts.COLUMNS)
    (tmp_path / "tables" / "demo.txt").write_text("Synthetic\n\nModel\n────\n  a < b & c    75.41\n\nDice x 100: a note.\n")
    words = shown(demo, tmp_path)
    pair = "unet_tiny, amaes_demo, against unet_tiny, scratch, on phantom: +1.23"
    assert f"{pair} [−0.20, +2.66] (Dice); undecided. about 9 draws would decide." in words
    assert f"{pair} (Dice); helps." in words and words.count(pair) == 2
    assert words.index("Result") < words.index(pair) < words.index("What ran")
    page = publish_parts(landing.text(demo, tmp_path), writer="html")["body"]
    assert "  a &lt; b &amp; c    75.41\n" in page and "a note" not in page  # notes are on the page of the table
