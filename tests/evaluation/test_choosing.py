from __future__ import annotations

import pandas as pd
import pytest

from brainpretrain import cli
from brainpretrain.errors import UserError
from brainpretrain.evaluation.choosing import choose, score
from brainpretrain.files import read_json, write_tsv
from report_fixtures import score as row
from report_fixtures import scores, two_arms


def candidate(dice: float | str, volume: str = "sub-1") -> pd.DataFrame:
    return scores({("scratch", "0", volume, "x"): dice})


def test_a_score_is_the_mean_over_labels_of_the_mean_over_cases() -> None:
    fold0 = two_arms().query("init == 'scratch' and fold == '0'")
    assert score(fold0) == pytest.approx(0.65)


def test_the_best_rate_is_chosen_and_an_edge_is_named() -> None:
    found = choose([1e-4, 3e-4, 1e-3], [candidate(0.5), candidate(0.7), candidate(0.6)])
    assert found == {"lr": 3e-4, "grid": [1e-4, 3e-4, 1e-3], "dice": [0.5, 0.7, 0.6], "cases": 1, "at_edge": False}
    assert choose([1e-3, 1e-4], [candidate(0.7), candidate(0.7)])["lr"] == 1e-4  # the smallest of equal ones
    assert choose([1e-4, 1e-3], [candidate("nan"), candidate(0.1)]) == {
        "lr": 1e-3, "grid": [1e-4, 1e-3], "dice": [None, 0.1], "cases": 1, "at_edge": True,
    }  # fmt: skip


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match="different cases"):
        choose([1, 2], [candidate(0.5), candidate(0.5, "sub-2")])
    with pytest.raises(UserError, match="no candidate has a defined Dice"):
        choose([1, 2], [candidate("nan"), candidate("nan")])


def test_the_command(tmp_path, capsys) -> None:
    for name, dice in (("a", 0.4), ("b", 0.6)):
        write_tsv(tmp_path / f"{name}.tsv", pd.DataFrame([row(dice)]))
    files = [str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")]
    assert cli.main(["choose-rate", "--scores", *files, "--grid", "0.0001", "0.001", "--out", f"{tmp_path}/rate.json"]) == 0
    assert read_json(tmp_path / "rate.json")["lr"] == 0.001
    assert cli.main(["choose-rate", "--scores", *files, "--grid", "1", "--out", f"{tmp_path}/rate.json"]) == 2
    assert "1 learning rates and 2 tables" in capsys.readouterr().err
