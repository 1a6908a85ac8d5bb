"""The simulation of coverage, on few studies; docs/statistics.md has the numbers of 2,000."""

import importlib
import math

import numpy as np
import pytest

from helpers import ROOT


@pytest.fixture(scope="module")
def coverage():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "bench"))
        yield importlib.import_module("coverage_of_intervals")


def test_intervals_hold_what_they_promise(coverage):
    """4,000 studies of each layout, so the standard error of a coverage of 95 % is 0.34 %; four of them around 92 to 97 %."""
    rng = np.random.default_rng(1)
    hippocampus, margin = coverage.SETTINGS[1], 4 * math.sqrt(0.95 * 0.05 / 4000)
    for layout in (coverage.FIXED[0], coverage.FIXED[3], coverage.VAL[0], coverage.VAL[5]):
        d = coverage.differences(hippocampus, layout, 4000, rng)
        assert 0.92 - margin < coverage.coverage(d)["coverage"] < 0.97 + margin, layout
        assert coverage.of_these_models(d[:400])["models"] < 0.9


def test_an_interval_that_ignores_the_draws_would_be_noticed(coverage):
    d = coverage.differences(coverage.SETTINGS[1], coverage.FIXED[0], 400, np.random.default_rng(2))
    same_draw = np.broadcast_to(d[:, :1], d.shape) + np.random.default_rng(3).normal(0, 0.01, d.shape)
    assert coverage.coverage(same_draw)["coverage"] < 0.7


def test_the_script_writes_its_tables_and_figure(coverage, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["coverage", "--samples", "8", "--json", f"{tmp_path}/c.json", "--figure", f"{tmp_path}/c.svg"]
    )
    monkeypatch.setattr(coverage, "SETTINGS", coverage.SETTINGS[:1])
    coverage.main()
    printed = capsys.readouterr().out
    assert printed.count("| calm |") == len(coverage.ONE_DRAW + coverage.FIXED + coverage.VAL) + 1 + 3
    assert "crossed covers" in (printed) and (tmp_path / "c.svg").stat().st_size > 1000
