"""The harness of the benchmarks in `bench/`."""

from __future__ import annotations

import importlib
import json
import math

import pytest

from helpers import ROOT


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("harness")


PARTY = """
import sys
sys.path.insert(0, {bench!r})
from harness import arguments, seconds, serve
print("what a library prints does not disturb")
serve("test", {{"add": lambda a, b: a + b + arguments()["c"], "spend": lambda: seconds(lambda: sum(range(10**6)))}})
"""


def test_a_party_answers_from_a_process_of_its_own(harness, tmp_path):
    script = tmp_path / "party.py"
    script.write_text(PARTY.format(bench=str(ROOT / "bench")))
    party = harness.Party(script, {"c": 3})
    assert party.name == "test" and party("add", a=1, b=2) == 6
    assert 0 < party("spend") < 5
    party.close()
    assert party.process.returncode == 0


def test_a_party_that_cannot_run_is_missing(harness, tmp_path):
    with pytest.raises(harness.Missing, match="does not exist"):
        harness.Party(tmp_path / "x.py", {}, python=tmp_path / "python")
    (tmp_path / "x.py").write_text("raise SystemExit(3)")
    with pytest.raises(harness.Missing, match="code 3"):
        harness.Party(tmp_path / "x.py", {})


def test_rounds_are_interleaved_and_every_column_runs_in_each(harness):
    order = []
    columns = {name: lambda number, name=name: order.append((number, name)) or [float(number), 2.0] for name in "abc"}
    found = harness.interleaved(columns, 4)
    assert found == {name: [[float(n), 2.0] for n in range(4)] for name in "abc"}
    rounds = [[name for n, name in order if n == number] for number in range(4)]
    assert all(sorted(names) == list("abc") for names in rounds) and len({tuple(names) for names in rounds}) > 1


def test_the_summary_is_the_median_of_the_rounds(harness):
    found = harness.summary([[1.0, 3.0], [10.0, 10.0], [3.0, 3.0]])
    assert found["median_of_rounds"] == 3 and found["mean"] == 5 and found["samples"] == 6
    assert found["error"] == pytest.approx(math.sqrt(((16 + 4 + 25 + 25 + 4 + 4) / 5) / 6))


def test_a_section_is_replaced_and_the_rest_of_the_page_stays(harness, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- one -->\nold\n<!-- end one -->\nbelow\n")
    harness.write_section(page, "one", harness.table(["a", "b"], [["x", "1"]]))
    assert page.read_text() == "above\n<!-- one -->\n| a | b |\n| --- | ---: |\n| x | 1 |\n<!-- end one -->\nbelow\n"


def test_facts_name_the_machine_and_the_commit(harness):
    facts = harness.facts()
    assert "cores" in facts["machine"] and len(facts["date"]) == 10 and facts["commit"]


def test_results_of_all_benchmarks_have_one_form(harness, tmp_path):
    figures = [
        harness.figure("B4", "seconds of v", "ours", "s", [3.0, 1.0, 2.0]),
        harness.figure("B4", "seconds of v", "peer", "s", []),
    ]
    goals = [harness.goal("B4", "seconds", "peer", value, at_least=2) for value in (2.0, 1.9, None)]
    goals.append(harness.goal("B4", "difference", "peer", 0.5, at_most=0.1))
    facts = {"machine": "m", "load": "1.0", "date": "2026-01-01", "commit": "abc", "python": "3"}
    harness.write_results(tmp_path / "new" / "speed.json", facts, figures, goals)
    found = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert found["name"] == "speed" and found["machine"] == "m" and found["commit"] == "abc" and found["details"] == {}
    assert found["figures"] == figures and [row["median"] for row in figures] == [2.0, None]
    assert [row["met"] for row in found["goals"]] == [True, False, None, False]


def test_patches_lie_inside_and_at_the_same_place_of_other_grids(harness):
    for number in range(20):
        box, turned = (harness.patch_box(number, shape, (128, 128, 128)) for shape in ((200, 100, 128), (201, 100, 128)))
        assert box[1:] == (slice(0, 100), slice(0, 128)) and box[0].stop - box[0].start == 128 and 0 <= box[0].start <= 72
        assert abs(box[0].start - turned[0].start) <= 1
    assert len({str(harness.patch_box(number, (200, 200, 200), (128, 128, 128))) for number in range(20)}) > 15


def test_goals_of_augmentation_are_ratios_of_medians(harness):
    augmentation = importlib.import_module("augmentation")
    medians = {"amaes": 0.05, "amaes_linear": 0.05, "yucca": 1.0}
    samples = {"disk": {name: harness.summary([[value, value]]) for name, value in medians.items()}, "memory": {}}
    names = {"yucca": "y", "nnunet": "u"}
    found = [(goal["id"], goal["against"], goal["value"], goal["met"]) for goal in augmentation.goals(samples, names)]
    y20 = pytest.approx(20)
    assert found == [("B1", "y", y20, True), ("B3", "u", None, None), ("B2", "y", y20, False), ("B3", "u", None, None)]
    figures = augmentation.figures(samples, names)
    assert [row["median"] for row in figures if row["party"] in ("amaes", "y", "u")] == [0.05, 1.0, None, None, None]
