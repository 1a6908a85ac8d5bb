from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from brainpretrain.cli import main
from brainpretrain.files import write_tsv
from brainpretrain.report import crossed, power, results
from report_fixtures import budget_scores, spec

BY_HAND = "power --draws 3 6 --subjects 52 --seeds 1 3 --sd-draw 1 --sd-seed 0.5 --sd-subject 1.5 --sd-rest 2"


def lines(capsys: pytest.CaptureFixture) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines() if line and not line.startswith("$")]


def test_variances_by_hand(capsys) -> None:
    assert main([*BY_HAND.split(), "--difference", "1"]) == 0
    _, *rows = lines(capsys)
    assert [row[1:4] for row in rows] == [["3", "1", "52"], ["6", "1", "52"], ["3", "3", "52"], ["6", "3", "52"]]
    parts = crossed.Components(1 + 2 * 0.25 / 3, 2.25, 4 / 3)
    found = parts.variance(6, 52)
    assert rows[3][4:] == [
        f"{power.visible(*found):.2f}", f"{power.narrowest(*found):.2f}", str(power.draws_to_see(parts, 52, 1)),
    ]  # fmt: skip


def test_variances_of_an_earlier_study_in_printed_units(tmp_path: Path, capsys) -> None:
    scores = budget_scores(gain=0.05, folds=3).query("n_train == '20'")
    cells = results.build(scores, spec(folds=[0, 1, 2]))
    write_tsv(tmp_path / "demo.tsv", cells)
    assert main(["power", "--draws", "3", "--subjects", "8", "--table", str(tmp_path / "demo.tsv")]) == 0
    _, row = lines(capsys)
    line = cells.iloc[1]
    parts = crossed.Components(*(line[f"sd_{name}"] ** 2 for name in ("draw", "subject", "rest")))
    assert row[:4] == ["U-Net", "AMAES,", "Hippocampus", "3"]
    assert float(row[6]) == pytest.approx(100 * power.visible(*parts.variance(3, 8)), abs=0.006)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (BY_HAND.replace("--draws 3 6", "--draws 2"), "fewer than 3 draws"),
        (BY_HAND.replace("--sd-rest 2", ""), "the variances are not known"),
        (BY_HAND + " --table x.tsv", "the variances are not known"),
        (BY_HAND.replace("--sd-rest 2", "--sd-rest -2"), "a standard deviation is negative"),
        (BY_HAND + " --difference -1", "above 0"),
        (BY_HAND.replace("--subjects 52", "--subjects 1"), "at least two subjects"),
    ],
)
def test_what_makes_no_sense_is_refused(line: str, message: str, capsys) -> None:
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err


def test_a_table_without_variances_is_refused(tmp_path: Path, capsys) -> None:
    scores = budget_scores(folds=2).query("n_train == '20'")
    for name, frame in (("few", results.build(scores, spec())), ("other", pd.DataFrame({"row": ["a"]}))):
        write_tsv(tmp_path / f"{name}.tsv", frame)
        assert main(["power", "--subjects", "8", "--table", str(tmp_path / f"{name}.tsv")]) == 2
    error = capsys.readouterr().err
    assert "no row has measured variances" in error and "lacks the columns sd_draw" in error
