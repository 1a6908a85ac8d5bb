"""Whether a pretraining beat the local mean, by its log. `tests/workflow/test_workflow.py` looks at where a reader finds it."""

from pathlib import Path

import pytest

from brainpretrain import local_mean
from brainpretrain.report import printers
from brainpretrain.report.write import local_mean_warnings, write_table
from report_fixtures import spec, two_arms

HEAD = "step,loss,val_loss_hidden,val_loss_mean\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "pretrain/ixi/amaes/unet_b/log.csv"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("rows", "found", "warns"),
    [
        ("1,1,0.05,0.04\n2,1,,\n3,1,0.03,0.04\n4,1,,\n", (0.03, 0.04), False),
        ("1,1,0.03,0.04\n2,1,0.05,0.04\n", (0.05, 0.04), True),
        ("1,1,0.04,0.04\n", (0.04, 0.04), True),
        ("1,1,,\n", None, False),
    ],
)
def test_the_last_validation_counts(log: Path, rows: str, found: tuple[float, float] | None, warns: bool) -> None:
    log.write_text(HEAD + rows)
    assert local_mean.errors(log) == found and bool(local_mean.warning(log, "x")) is warns


def test_a_pretext_without_hidden_voxels_and_a_missing_log_say_nothing(log: Path) -> None:
    assert local_mean.warning(log, "x") == ""
    log.write_text("step,loss\n1,0.3\n")
    assert local_mean.errors(log) is None


def test_each_file_of_a_table_has_the_warning_of_its_pretraining_alone(log: Path, tmp_path: Path) -> None:
    log.write_text(HEAD + "1,1,0.05,0.04\n")
    other = tmp_path / "pretrain/ixi/amaes/unet_xl/log.csv"
    other.parent.mkdir()
    other.write_text(log.read_text())
    words = "The pretraining amaes-on-ixi, unet_b, ends no better than the local mean: validation error at hidden voxels 0.0500"
    (warning,) = local_mean_warnings(spec(), [log, other])
    assert warning.startswith(words)
    shown = write_table(tmp_path, two_arms(), spec(), {}, pretrainings=[log, other])
    assert shown.warnings == (warning,)
    for name in ("demo.md", "demo_verdicts.txt", "demo_labels.tex", "demo_ranks.html", "demo_metrics.html"):
        assert words in (tmp_path / name).read_text().replace("\\_", "_"), name
    assert f'<li class="warning">{warning}</li>' in (tmp_path / "demo.html").read_text()
    assert "\033[31m! The pretraining" in printers.text(shown, colour=True)
    assert r"\textcolor{red}{The pretraining" in (tmp_path / "demo.tex").read_text()
