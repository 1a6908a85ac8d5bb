from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.evaluation.test_scores import RUN, labels_as_predictions, same

import tiny
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.evaluation.scores import evaluate
from brainpretrain.files import read_tsv, write_tsv
from brainpretrain.report.overlays import load_overlays, pick_cases
from report_fixtures import scores, two_arms


def picks(dice: list[float | str]) -> list[tuple[str, str]]:
    table = scores({("scratch", "0", f"v{i}", "x"): value for i, value in enumerate(dice)})
    return [(pick["rank"], pick["volume"]) for pick in pick_cases(table)]


def test_worst_median_and_best_case() -> None:
    assert picks([0.5, 0.9, 0.1, 0.7, 0.3]) == [("worst", "v2"), ("median", "v0"), ("best", "v1")]
    assert picks([0.5, 0.9, 0.1, "nan", 0.7]) == [("worst", "v2"), ("median", "v0"), ("best", "v1")]  # lower of 0.5, 0.7
    assert picks([0.5, 0.5, 0.5]) == [("worst", "v0"), ("median", "v1"), ("best", "v2")]
    assert picks([0.5, 0.1]) == [("worst", "v1"), ("best", "v0")]
    assert picks([0.5]) == [("worst", "v0")]
    assert picks(["nan"]) == []


def test_a_pick_names_its_run() -> None:
    pick = pick_cases(two_arms())[0]
    assert (pick["init"], pick["fold"], pick["volume"], round(pick["dice"], 2)) == ("scratch", "0", "sub-1", 0.6)


def test_overlays_show_worst_and_best_in_ras(cohort: tiny.Cohort, tmp_path: Path) -> None:
    by_subject = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    cases = [by_subject[name][0] for name in ("s4", "s5")]
    labels_as_predictions(cohort, cases, tmp_path / "predictions", same, lambda label: np.roll(label, 2, axis=0))
    write_tsv(tmp_path / "scores.tsv", evaluate(cases, cohort.raw, tmp_path / "predictions", tiny.TASK, RUN))
    overlays = load_overlays([tmp_path], read_tsv(cohort.table), cohort.folder, cohort.raw, tiny.TASK)
    assert [(overlay.pick["rank"], overlay.pick["volume"]) for overlay in overlays] == [("worst", "s5"), ("best", "s4")]
    for overlay in overlays:
        assert overlay.image.shape == overlay.reference.shape == overlay.prediction.shape
        assert overlay.image[overlay.reference == 1].mean() > 200  # the ball is bright
    worst, best = ((overlay.reference != overlay.prediction).any() for overlay in overlays)
    assert worst and not best
