from __future__ import annotations

from brainpretrain.report.overlays import pick_cases
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
