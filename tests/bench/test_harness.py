"""The harness of the benchmarks in `bench/`."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import subprocess
import sys

import numpy as np
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


def test_peers_that_cannot_run_keep_their_names(harness, tmp_path, capsys):
    script = importlib.import_module("script")
    scripts = {
        "ours": PARTY.format(bench=str(ROOT / "bench")),
        "good": PARTY.format(bench=str(ROOT / "bench")),
        "bad": "raise SystemExit(3)",
    }
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
    peers = {name: harness.Peer(str(tmp_path / f"{name}.py"), f"{name} 1", given={"c": 3}) for name in ("good", "bad")}
    peers["none"] = harness.Peer("party.py", "none 1", newest=True)
    args = argparse.Namespace(peers=sys.executable, newest=tmp_path / "python", core=0)
    given = {"d": 4, "c": 0, "work": str(tmp_path)}
    parties, names = script.open_parties(str(tmp_path / "ours.py"), peers, given, args)
    assert list(parties) == ["ours", "good"]
    assert names == {"ours": "brainpretrain", "good": "test", "bad": "bad 1", "none": "none 1"}
    assert parties["good"]("add", a=1, b=2) == 6 and parties["ours"]("add", a=1, b=2) == 3
    for party in parties.values():
        party.close()
    output = capsys.readouterr().err
    assert "no bad 1: the process ended with code 3" in output and "no none 1: " in output and "does not exist" in output


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
    assert [row["median"] for row in figures if row["party"] in ("brainpretrain, amaes", "y", "u")] == [
        0.05,
        1.0,
        None,
        None,
        None,
    ]


def test_augmentation_without_peers_is_measured_and_the_gaps_show(harness, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- augmentation -->\n<!-- end augmentation -->")
    line = f"--peers {tmp_path}/none --newest {tmp_path}/none --patch 32 --rounds 1 --draws 2 --repeats 1 --page {page}"
    command = [sys.executable, str(ROOT / "bench" / "augmentation.py"), *line.split(), "--json", str(tmp_path / "found.json")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    ours = ("brainpretrain, ", "floor")
    assert all((row["median"] is not None) == row["party"].startswith(ours) for row in found["figures"])
    assert all(goal["met"] is None for goal in found["goals"]) and len(found["details"]["transforms"]) == 12
    assert sum(row.count("not measured") for row in page.read_text().splitlines()) == 7 + 12 + 5 * 12


def test_tables_of_transforms_show_ratios_blanks_and_what_was_not_measured(harness):
    augmentation = importlib.import_module("augmentation")
    seconds = {"brainpretrain": 0.01, "yucca": 0.05, "yucca_newest": 0.04, "torchio": 0.002}
    rows = [
        {"transform": "blur", "seconds": seconds, "differences": {"yucca": 1e-7, "yucca_newest": 2e-7}},
        {"transform": "noise", "seconds": {"brainpretrain": 0.01, "yucca_newest": 0.02}, "differences": {}},
    ]
    names = {key: peer.name for key, peer in augmentation.PEERS.items()}
    found = augmentation.transform_table(rows, "y").splitlines()[2:]
    assert found == ["| blur | 10.0 | 50.0 | 5.0x | 1.0e-07 |", "| noise | 10.0 | not measured |  |  |"]
    found = augmentation.others_table(rows, names, ["yucca_newest", "torchio", "gardening_tools", "monai"]).splitlines()[2:]
    assert found == [
        "| blur | 10.0 | 40.0 (4.0x) | 2.0e-07 |  | 2.0 (0.2x) | not measured |  |",
        "| noise | 10.0 | 20.0 (2.0x) | own draws |  |  | not measured |  |",
    ]


def test_ratios_of_samples_are_next_to_their_goals(harness):
    augmentation = importlib.import_module("augmentation")
    medians = {"amaes": 0.05, "yucca": 1.0, "yucca_newest": 0.5, "torchio": 0.1}
    columns = {name: harness.summary([[value, value]]) for name, value in medians.items()}
    names = {key: peer.name for key, peer in augmentation.PEERS.items()}
    found = augmentation.sample_table({"memory": columns}, names).splitlines()
    assert [word.strip() for word in found[0].split("|")[5:-1]] == [
        "against yucca 1.1.7", "at least", "against nnU-Net 2.8", "at least", "against yucca 2.3.7",
        "against gardening_tools 0.3.5", "against torchio 1.2.1",
    ]  # fmt: skip
    assert found[2] == "| memory to tensor | `amaes` | 50.0 | 50.0 ± 0.0 | 20.0x | 14x |  |  | 10.0x |  | 2.0x |"
    assert "| memory to tensor | gardening_tools 0.3.5 | not measured |  |  |  |  |  |  |  |  |" in found


def test_a_library_offers_the_transforms_that_it_has(harness, tmp_path):
    transforms = importlib.import_module("transforms")
    image = np.random.default_rng(0).random((4, 5, 6), np.float32)
    np.save(tmp_path / "image.npy", image)
    builders = {
        "blur": lambda sigma: lambda x: x.mul_(sigma),
        "spatial": lambda size: (lambda x: transforms.centre(x, (size,) * 3)) if size < 4 else None,
    }
    tasks = transforms.tasks(builders, tmp_path / "out.npy")
    assert tasks["has"]("blur", {"sigma": 2}) and tasks["has"]("spatial", {"size": 2})
    assert not tasks["has"]("gibbs", {}) and not tasks["has"]("spatial", {"size": 4})
    assert tasks["one"]("blur", str(tmp_path / "image.npy"), {"sigma": 2}, 0) >= 0
    assert np.array_equal(np.load(tmp_path / "out.npy"), 2 * image)
    tasks["one"]("spatial", str(tmp_path / "image.npy"), {"size": 2}, 0)
    assert np.array_equal(np.load(tmp_path / "out.npy"), image[1:3, 1:3, 2:4])
