from pathlib import Path

import pytest

from brainpretrain.errors import UserError
from brainpretrain.training.log import read_curves, read_log


def test_curves_are_numbers_and_an_empty_cell_is_nan(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,step,loss,val_loss\n1,10,0.5,\n2,20,0.25,0.3\n")
    curves = read_curves(tmp_path / "log.csv")
    assert curves["loss"].tolist() == [0.5, 0.25]
    assert curves["val_loss"].isna().tolist() == [True, False]


@pytest.mark.parametrize("content", [None, "", "epoch,step,loss\n"])
def test_a_log_without_a_line_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "log.csv").write_text(content)
    with pytest.raises(UserError, match="file not found" if content is None else "no row"):
        read_curves(tmp_path / "log.csv")


def test_a_row_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,step,loss\n1,10,0.5\n2,20,0.25\n3,3")
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == ["10", "20"]
    assert read_curves(tmp_path / "log.csv")["step"].tolist() == [10, 20]
    assert read_log(tmp_path / "nowhere.csv") == []
