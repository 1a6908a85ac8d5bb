from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainpretrain.errors import UserError
from brainpretrain.report import budgets, costs
from brainpretrain.report.figures import canvas as plots
from helpers import ROOT
from report_fixtures import PRETRAINED, budget_scores, budget_spec, row, runs, scores, spec, two_arms


def words(path: Path) -> str:
    """The text of an SVG, which is stored as text."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)<", path.read_text(encoding="utf-8")))


def size_px(path: Path) -> tuple[float, float]:
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return picture.size
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', path.read_text(encoding="utf-8")).groups()
    return float(width) * 96 / 72, float(height) * 96 / 72


def log(n: int = 20) -> pd.DataFrame:
    step = np.arange(1, n + 1) * 10
    every_fifth = step % 50 == 0
    return pd.DataFrame(
        {
            "epoch": np.arange(1, n + 1),
            "step": step,
            "seconds": step * 0.1,
            "loss": 0.2 * np.exp(-step / 50) + 0.003,
            "lr": 1e-4,
            "patches_per_s": 20.0,
            "data_wait": 0.05,
            "peak_memory_gb": 3.0,
            "loss_zero": 0.12,
            "loss_mean": 0.02,
            "val_loss": np.where(every_fifth, 0.01, np.nan),
            "val_loss_zero": np.where(every_fifth, 0.12, np.nan),
            "val_loss_mean": np.where(every_fifth, 0.02, np.nan),
        }
    )


def npz(path: Path, n: int = 4, hidden: bool = True) -> Path:
    rng = np.random.default_rng(0)
    target = rng.random((n, 32, 24), np.float32)
    hide = np.kron(rng.random((n, 8, 6)) < 0.6, np.ones((1, 4, 4))).astype(bool) & hidden
    arrays = {"input": target, "masked": target * ~hide, "output": target * 0.9, "target": target, "hidden": hide}
    np.savez_compressed(path, names=np.array([f"sub-{i:02d}_ses-1_T1w" for i in range(n)]), **arrays)
    return path


def cube(low: int, high: int, shape: tuple[int, int, int] = (30, 40, 20), value: int = 1) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[low:high, low:high, low:high] = value
    return labels


def overlay(reference: np.ndarray, prediction: np.ndarray, rank: str = "worst") -> plots.Overlay:
    image = np.random.default_rng(0).integers(0, 900, reference.shape).astype(np.int16)
    pick = {"rank": rank, "volume": "sub-01_ses-1_T1w", "fold": "2", "dice": 0.6125}
    return plots.Overlay(pick, image, reference, prediction, (1.0, 1.0, 3.0))


def corpus_and_tables(n: int = 30) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Two sources; the first has `n` T1w of which two are rejected, the second has 5 FLAIR."""
    tables = {}
    for name, sequence, number, rejected in (("ixi", "T1w", n, 2), ("wmh", "FLAIR", 5, 0)):
        ok = np.arange(number) >= rejected
        tables[name] = pd.DataFrame(
            {
                "volume": [f"sub-{i:03d}__{sequence}" for i in range(number)],
                "subject": [f"sub-{i:03d}" for i in range(number)],
                "session": "",
                "sequence": sequence,
                "status": np.where(ok, "ok", "rejected"),
                "native_spacing_mm": np.where(ok, "0.9 0.9 3.0" if name == "wmh" else "1.0 1.0 1.2", ""),
                "mean": np.where(ok, "0.25", ""),
            }
        )
    parts = [frame[frame["status"] == "ok"].assign(dataset=name) for name, frame in tables.items()]
    corpus = pd.concat(parts, ignore_index=True)[["dataset", "volume", "subject", "session", "sequence"]]
    return corpus.assign(role=["val" if i < 3 else "train" for i in range(len(corpus))]), tables


def augmented(n: int = 5) -> list[tuple]:
    before = np.random.default_rng(0).random((32, 24), np.float32)
    return [(f"transform {i}", f"drawn {i}", before, before * (1 - 0.1 * i)) for i in range(n)]


def curves_and_matches(**changes) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = budget_scores(**changes)
    points = budgets.curves(table, budget_spec(), {"hippocampus": 160.0})
    return points, budgets.matched(table, budget_spec(), points, {"resamples": 50, "confidence": 0.95, "seed": 0})


FIGURES: dict[str, Callable[[Path, Path], None]] = {
    "augmentations.png": lambda path, tmp: plots.augmentations(augmented(12), path, "amaes", "CC BY"),
    "loss.svg": lambda path, tmp: plots.loss_curves(log(), path, "amaes on ixi"),
    "reconstructions.png": lambda path, tmp: plots.reconstructions(npz(tmp / "r.npz"), path),
    "overlays.png": lambda path, tmp: plots.overlays(
        [overlay(cube(8, 14), cube(9, 15), r) for r in ("worst", "median", "best")], path
    ),
    "composition.svg": lambda path, tmp: plots.composition(*corpus_and_tables(), path),
    "composition.png": lambda path, tmp: plots.composition(*corpus_and_tables(), path),
    "paired.svg": lambda path, tmp: plots.paired_cases(two_arms(), spec(), path),
    "paired.png": lambda path, tmp: plots.paired_cases(two_arms(), spec(), path),
    "costs.svg": lambda path, tmp: plots.costs(costs.arms(two_arms(), spec(), runs()), spec(), path),
    "costs.png": lambda path, tmp: plots.costs(costs.arms(two_arms(), spec(), runs()), spec(), path),
    "budgets.svg": lambda path, tmp: plots.label_budgets(*curves_and_matches(), budget_spec(), path),
    "budgets.png": lambda path, tmp: plots.label_budgets(*curves_and_matches(), budget_spec(), path),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_small_and_repeatable(name: str, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    FIGURES[name](tmp_path / name, tmp_path)
    FIGURES[name](again / name, tmp_path)
    assert (tmp_path / name).read_bytes() == (again / name).read_bytes()
    assert (tmp_path / name).stat().st_size < 150_000
    width, height = size_px(tmp_path / name)
    assert 400 <= width <= 1600
    assert 300 <= height <= 900


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import pandas as pd; from brainpretrain.report.figures import canvas as plots;"
        "assert 'matplotlib' not in sys.modules;"
        "plots.loss_curves(pd.DataFrame({'step': [1, 2], 'loss': [1.0, 0.5]}), Path(sys.argv[1]));"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    source = str(ROOT / "src")
    command = [sys.executable, "-c", code, "loss.svg"]
    done = subprocess.run(command, env={"PYTHONPATH": source, "HOME": str(tmp_path)}, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_the_users_style_is_neither_used_nor_changed(tmp_path: Path) -> None:
    import matplotlib

    plots.loss_curves(log(), tmp_path / "a.svg")
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        plots.loss_curves(log(), tmp_path / "b.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pdf"):
        plots.loss_curves(log(), tmp_path / "loss.pdf")
    assert not list(tmp_path.iterdir())


# --- training curves


def test_loss_curves_of_a_pretraining(tmp_path: Path) -> None:
    plots.loss_curves(log(), tmp_path / "loss.svg", "amaes on ixi")
    text = words(tmp_path / "loss.svg")
    for expected in (
        "amaes on ixi",
        "training loss",
        "validation loss",
        "predicting zero (validation)",
        "predicting the local mean (training)",
        "Learning rate",
        "Patches per second",
        "Time waiting for data (%)",
        "Peak memory (GB)",
    ):
        assert expected in text
    assert "Validation Dice" not in text


def test_the_loss_beside_the_baselines_is_that_of_hidden_voxels(tmp_path: Path) -> None:
    everywhere = log()[["step", "loss", "val_loss", "loss_zero"]]
    hidden = everywhere.assign(loss_hidden=everywhere["loss"], val_loss_hidden=everywhere["val_loss"])
    plots.loss_curves(everywhere, tmp_path / "everywhere.svg")
    plots.loss_curves(hidden.assign(loss=9.0, val_loss=9.0), tmp_path / "hidden.svg")
    axes_and_words = words(tmp_path / "hidden.svg")
    assert axes_and_words.replace("Loss at hidden voxels", "Loss") == words(tmp_path / "everywhere.svg")


def test_loss_curves_of_a_fine_tuning(tmp_path: Path) -> None:
    plots.loss_curves(log()[["step", "loss", "lr"]].assign(val_dice=0.8), tmp_path / "loss.svg")
    text = words(tmp_path / "loss.svg")
    assert "Validation Dice x 100" in text
    assert "predicting zero" not in text
    assert "Patches per second" not in text


@pytest.mark.parametrize("columns", [["step"], ["step", "lr"], ["step", "loss"]])
def test_loss_curves_of_a_short_or_bare_log(columns: list[str], tmp_path: Path) -> None:
    plots.loss_curves(log(1)[columns], tmp_path / "loss.svg")
    assert ("no loss was logged" in words(tmp_path / "loss.svg")) == ("loss" not in columns)


def test_a_log_that_diverged_is_drawn(tmp_path: Path) -> None:
    plots.loss_curves(log().assign(loss=[np.inf] * 10 + [np.nan] * 10), tmp_path / "loss.svg")


def test_a_long_log_stays_a_small_file_and_says_so(tmp_path: Path) -> None:
    plots.loss_curves(log(5000), tmp_path / "loss.svg")
    assert (tmp_path / "loss.svg").stat().st_size < 150_000
    assert "each point is the mean of 13 lines of the log" in words(tmp_path / "loss.svg")


def test_read_log(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,step,loss,val_loss\n1,10,0.5,\n2,20,0.25,0.3\n")
    read = plots.read_log(tmp_path / "log.csv")
    assert read["loss"].tolist() == [0.5, 0.25]
    assert read["val_loss"].isna().tolist() == [True, False]


@pytest.mark.parametrize("content", [None, "", "epoch,step,loss\n"])
def test_a_log_without_a_line_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "log.csv").write_text(content)
    with pytest.raises(UserError, match="file not found" if content is None else "no line"):
        plots.read_log(tmp_path / "log.csv")


# --- reconstructions


def test_a_slice_shows_right_to_the_right_and_anterior_up() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = np.zeros((10, 20))
    image[7:, 15:] = 1  # right and anterior
    figure = Figure(figsize=(1, 2), dpi=50)
    plots._slice(figure.add_axes((0, 0, 1, 1)), image)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., 0]
    assert picture[5, 45] == 255
    assert picture[95, 45] == picture[5, 5] == picture[95, 5] == 0


@pytest.mark.parametrize("n", [1, 2])
def test_reconstructions_of_few_cases(n: int, tmp_path: Path) -> None:
    plots.reconstructions(npz(tmp_path / "r.npz", n), tmp_path / "r.svg")
    text = words(tmp_path / "r.svg")
    assert all(title in text for title in ("input", "masked input", "output", "target", "error", "sub-00_ses-1_T1w"))
    assert text.count("hidden 0.") == n


def test_reconstructions_of_a_task_that_hides_nothing(tmp_path: Path) -> None:
    plots.reconstructions(npz(tmp_path / "r.npz", hidden=False), tmp_path / "r.svg")
    assert "hidden" not in words(tmp_path / "r.svg")


def test_a_perfect_reconstruction_is_drawn(tmp_path: Path) -> None:
    with np.load(npz(tmp_path / "r.npz")) as arrays:
        stack = dict(arrays) | {"output": arrays["target"]}
    np.savez(tmp_path / "perfect.npz", **stack)
    plots.reconstructions(tmp_path / "perfect.npz", tmp_path / "r.png")


# --- overlays


def picks(dice: list[float | str]) -> list[tuple[str, str]]:
    table = scores({("scratch", "0", f"v{i}", "x"): value for i, value in enumerate(dice)})
    return [(pick["rank"], pick["volume"]) for pick in plots.pick_cases(table)]


def test_augmentations_say_what_they_show(tmp_path: Path) -> None:
    plots.augmentations(augmented(), tmp_path / "a.svg", "amaes", "Lesjak et al., CC BY")
    said = words(tmp_path / "a.svg")
    for expected in ("amaes", "Lesjak et al., CC BY", "transform 0", "drawn 4", "up to 0.4"):
        assert expected in said
    assert "up to 0 " in said + " "  # nothing changed is said, too


def test_worst_median_and_best_case() -> None:
    assert picks([0.5, 0.9, 0.1, 0.7, 0.3]) == [("worst", "v2"), ("median", "v0"), ("best", "v1")]
    assert picks([0.5, 0.9, 0.1, "nan", 0.7]) == [("worst", "v2"), ("median", "v0"), ("best", "v1")]  # lower of 0.5, 0.7
    assert picks([0.5, 0.5, 0.5]) == [("worst", "v0"), ("median", "v1"), ("best", "v2")]
    assert picks([0.5, 0.1]) == [("worst", "v1"), ("best", "v0")]
    assert picks([0.5]) == [("worst", "v0")]
    assert picks(["nan"]) == []


def test_a_pick_names_its_run() -> None:
    pick = plots.pick_cases(two_arms())[0]
    assert (pick["init"], pick["fold"], pick["volume"], round(pick["dice"], 2)) == ("scratch", "0", "sub-1", 0.6)


def test_the_slice_with_most_of_the_reference() -> None:
    reference, prediction = cube(5, 8), cube(15, 18)
    reference[5:10, 5:10, 6] = 1
    assert plots._busiest_slice(reference, prediction) == 6
    assert plots._busiest_slice(np.zeros_like(reference), prediction) == 15
    assert plots._busiest_slice(np.zeros_like(reference), np.zeros_like(reference)) == 10


def test_the_detail_is_square_in_mm_and_holds_everything() -> None:
    mask = np.zeros((100, 50), bool)
    mask[40:60, 20:24] = True
    x, y = plots._detail_box(mask, (1.0, 2.0, 1.0))
    assert (x.stop - x.start) * 1.0 == pytest.approx((y.stop - y.start) * 2.0, abs=2)
    assert x.start < 40 and x.stop > 60 and y.start < 20 and y.stop > 24
    assert plots._detail_box(np.zeros((6, 8), bool), (1.0, 1.0, 1.0)) == (slice(0, 6), slice(0, 8))


def test_outlines_follow_the_voxel_edges() -> None:
    from matplotlib.figure import Figure

    labels = np.zeros((6, 6), int)
    labels[2:4, 2:5] = 1
    labels[3, 2:5] = 2
    axes = Figure().subplots()
    plots._outline(axes, labels, "red", 1)
    segments = {tuple(map(tuple, segment)) for segment in axes.collections[0].get_segments()}
    border = {((x, y), (x, y + 1)) for x in (1.5, 2.5, 3.5) for y in (1.5, 2.5, 3.5)}  # left, between the labels, right
    border |= {((x, y), (x + 1, y)) for x in (1.5, 2.5) for y in (1.5, 4.5)}
    assert segments == border


def test_overlays_say_what_they_show(tmp_path: Path) -> None:
    plots.overlays([overlay(cube(8, 14), cube(9, 15))], tmp_path / "o.svg")
    text = words(tmp_path / "o.svg")
    assert all(
        word in text for word in ("reference", "prediction", "worst", "sub-01_ses-1_T1w", "fold 2", "Dice 61.25", "slice 9 of 20")
    )


def test_overlays_without_foreground_or_without_cases(tmp_path: Path) -> None:
    nothing = np.zeros((30, 40, 20), np.uint8)
    plots.overlays([overlay(nothing, nothing)], tmp_path / "empty.png")
    plots.overlays([], tmp_path / "none.svg")
    assert "no case with a defined Dice" in words(tmp_path / "none.svg")


# --- composition


def test_composition_counts(tmp_path: Path) -> None:
    plots.composition(*corpus_and_tables(), tmp_path / "c.svg")
    text = words(tmp_path / "c.svg")
    assert "33 volumes of 33 subjects, 2 volumes rejected" in text
    assert "28, 3 for validation, 2 rejected" in text
    assert text.count("rejected") == 3  # title, bar, legend
    assert all(word in text for word in ("ixi", "wmh", "T1w", "FLAIR", "Native spacing, coarsest axis (mm)"))


def test_many_sources_and_sequences_are_summed_up(tmp_path: Path) -> None:
    _, tables = corpus_and_tables(2 + 3)
    frame = tables["ixi"]
    many = {f"source{i:02d}": frame.assign(sequence=f"seq{i % 12}") for i in range(44)}
    corpus = pd.concat([t[t["status"] == "ok"].assign(dataset=name, role="train") for name, t in many.items()])
    plots.composition(corpus, many, tmp_path / "c.svg")
    text = words(tmp_path / "c.svg")
    assert "other sources" in text
    assert f"{15 * 3}, {15 * 2} rejected" in text  # 29 sources have a bar of their own
    assert size_px(tmp_path / "c.svg")[1] <= 900


def test_unknown_spacing_is_said_to_be_unknown(tmp_path: Path) -> None:
    corpus, tables = corpus_and_tables()
    plots.composition(corpus, {name: t.assign(native_spacing_mm="") for name, t in tables.items()}, tmp_path / "c.svg")
    assert words(tmp_path / "c.svg").count("not recorded") == 2


# --- paired cases


def test_paired_cases_count_and_mean(tmp_path: Path) -> None:
    values: dict = {}
    for volume, before, after in (("a", 0.5, 0.6), ("b", 0.7, 0.65), ("c", 0.2, 0.3)):
        for fold in ("0", "1"):
            values["scratch", fold, volume, "x"] = before
            values[PRETRAINED, fold, volume, "x"] = after
    plots.paired_cases(scores(values), spec(), tmp_path / "p.svg")
    text = words(tmp_path / "p.svg")
    assert "mean +5.00" in text
    assert "2 of 3 better" in text
    assert all(word in text for word in ("Hippocampus (test)", "U-Net scratch", "→ U-Net AMAES"))


def test_paired_cases_use_the_folds_that_both_arms_have() -> None:
    table = two_arms()
    table = table[(table["init"] == "scratch") | (table["fold"] == "1")]
    cases = plots.tables.case_scores(plots.tables.valued(table, spec()))
    both = plots._paired(cases, *spec()["rows"], spec())
    assert both.round(4).values.tolist() == [[0.7, 0.8], [0.7, 0.8]]


def test_paired_cases_without_runs_or_without_pairs(tmp_path: Path) -> None:
    plots.paired_cases(two_arms().head(0), spec(), tmp_path / "missing.svg")
    assert "runs missing" in words(tmp_path / "missing.svg")
    plots.paired_cases(two_arms(), spec(rows=[row("alone", "scratch")]), tmp_path / "alone.svg")
    assert "no row to compare" in words(tmp_path / "alone.svg")


def test_paired_cases_that_are_all_perfect(tmp_path: Path) -> None:
    table = two_arms()
    plots.paired_cases(table[table["status"] == "ok"].assign(dice="1.0"), spec(), tmp_path / "p.svg")
    assert "0 of 2 better" in words(tmp_path / "p.svg")


def test_a_big_table_and_a_big_cohort_stay_within_bounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [row(f"{name} {init}", init, backbone=name) for name in "abcde" for init in ("scratch", PRETRAINED)]
    parts = []
    for line in rows:
        dice = {(line["init"], "0", f"v{i}", "x"): round(float(rng.random()), 4) for i in range(150)}
        parts.append(scores(dice, backbone=line["backbone"]))
    columns = [{"title": f"T{i}", "task": "hippocampus", "cohort": "test"} for i in range(4)]
    plots.paired_cases(pd.concat(parts, ignore_index=True), spec(rows=rows, folds=[0], columns=columns), tmp_path / "p.png")
    width, height = size_px(tmp_path / "p.png")
    assert width <= 1600 and height <= 900
    assert (tmp_path / "p.png").stat().st_size < 300_000


def test_a_table_of_budgets_on_four_tasks_names_its_pairs_once_per_column(tmp_path: Path) -> None:
    columns = [{"title": f"T{i}", "task": "hippocampus", "cohort": "test"} for i in range(4)]
    plots.paired_cases(budget_scores(), budget_spec(columns=columns), tmp_path / "p.svg")
    text = words(tmp_path / "p.svg")
    assert text.count("→ AMAES, n=40") == 2 and text.count("of 8 better") == 16
    width, height = size_px(tmp_path / "p.svg")
    assert width <= 1600 and height <= 900


# --- costs and label budgets


def tips(path: Path) -> list[str]:
    return [unescape(tip) for tip in re.findall(r"<title>(.*?)</title>", path.read_text(), flags=re.DOTALL)]


def test_costs_have_their_numbers_under_the_pointer(tmp_path: Path) -> None:
    plots.costs(costs.arms(two_arms(), spec(), runs()), spec(), tmp_path / "c.svg")
    shown = tips(tmp_path / "c.svg")
    assert shown[1].splitlines() == [
        "2  U-Net AMAES",
        "Dice x 100: 77.50 ± 3.54",
        "pretraining 30 h 00 min, fine-tuning 2 h 00 min",
        "peak memory 40.00 GB",
        "H100; RTX",
    ]
    text = words(tmp_path / "c.svg")
    assert all(
        part in text for part in ("1  U-Net scratch", "2  U-Net AMAES", "largest 40 GB", "hours of pretraining", "Dice x 100")
    )
    assert shown[0].startswith("1  U-Net scratch") and len(shown) == 2


def test_the_area_of_a_bubble_is_the_memory(tmp_path: Path) -> None:
    """Widths of 8 and 40 GB: their squares are as 1 to 5."""
    plots.costs(costs.arms(two_arms(), spec(), runs()), spec(), tmp_path / "c.svg")
    widths = []
    for number in (1, 2):
        group = (tmp_path / "c.svg").read_text().split(f'<g id="cost-hippocampus-test-{number}">')[1]
        outline = re.search(r'<path[^>]* d="([^"]*)"', group)[1]
        x = [float(place) for place in re.findall(r"-?[\d.]+", outline)[::2]]
        widths.append(max(x) - min(x))
    assert (widths[1] / widths[0]) ** 2 == pytest.approx(5, rel=1e-3)


def test_costs_choose_their_unit_and_say_what_is_not_known(tmp_path: Path) -> None:
    quick = {place: run | {"seconds": run["seconds"] / 3600} for place, run in runs().items()}
    plots.costs(costs.arms(two_arms(), spec(), quick), spec(), tmp_path / "s.svg")
    assert "seconds of pretraining" in words(tmp_path / "s.svg")
    arms = costs.arms(two_arms(), spec(), runs()).assign(pretrained_elsewhere=[False, True])
    plots.costs(arms, spec(), tmp_path / "e.svg")
    assert (
        "* hours of the pretraining not known" in words(tmp_path / "e.svg")
        and "pretraining not known" in tips(tmp_path / "e.svg")[1]
    )
    plots.costs(costs.arms(two_arms(), spec(), {}), spec(), tmp_path / "n.svg")
    assert "runs missing" in words(tmp_path / "n.svg") and not tips(tmp_path / "n.svg")


def test_costs_of_a_big_table_stay_within_bounds(tmp_path: Path) -> None:
    rows = [row(f"network {i}, n={n}", "scratch", backbone=f"b{i}", n_train=n) for i in range(5) for n in (5, 10, 20, 40, 80)]
    columns = [{"title": f"T{i}", "task": f"t{i}", "cohort": "test"} for i in range(10)]
    parts = [
        scores(
            {("scratch", "0", "v", "x"): 0.5 + 0.01 * i}, backbone=line["backbone"], n_train=line["n_train"], task=column["task"]
        )
        for i, line in enumerate(rows)
        for column in columns
    ]
    places = {
        f"finetune/{column['task']}/{line['backbone']}/scratch/amaes/n{line['n_train']}/fold0": {
            "seconds": 100.0 * (i + 1), "peak_memory_gb": 1.0 + i, "hardware": "x",
        }
        for i, line in enumerate(rows)
        for column in columns
    }  # fmt: skip
    table = spec(rows=rows, columns=columns, folds=[0])
    plots.costs(costs.arms(pd.concat(parts), table, places), table, tmp_path / "c.svg")
    width, height = size_px(tmp_path / "c.svg")
    assert width <= 1600 and height <= 900
    assert (tmp_path / "c.svg").stat().st_size < 1_000_000
    assert "rows of the table not drawn: 1" in words(tmp_path / "c.svg")


def test_budget_curves_say_where_they_reach_full_supervision(tmp_path: Path) -> None:
    plots.label_budgets(*curves_and_matches(spread=0.0), budget_spec(), tmp_path / "b.svg")
    text = words(tmp_path / "b.svg")
    assert all(part in text for part in ("10", "20", "40", "all", "(160)", "scratch", "AMAES", "labelled training subjects"))
    assert tips(tmp_path / "b.svg")[3] == "scratch\nn_train all (160 subjects)\n80.00 ± 0.00"


def test_budget_curves_without_runs(tmp_path: Path) -> None:
    points = budgets.curves(budget_scores().head(0), budget_spec(), {"hippocampus": 160.0})
    matches = budgets.matched(budget_scores().head(0), budget_spec(), points, {"resamples": 5, "confidence": 0.9, "seed": 0})
    plots.label_budgets(points, matches, budget_spec(), tmp_path / "b.svg")
    assert "runs missing" in words(tmp_path / "b.svg")


def test_a_hostile_title_stays_text_in_a_figure(tmp_path: Path) -> None:
    table = spec(rows=[row("<script>alert(1)</script>", "scratch")])
    plots.costs(costs.arms(two_arms(), table, runs()), table, tmp_path / "c.svg")
    assert "<script" not in (tmp_path / "c.svg").read_text() and tips(tmp_path / "c.svg")[0].startswith("1  <script>")
