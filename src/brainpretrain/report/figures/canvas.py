"""Figures of the report: training curves, reconstructions, overlays, corpus composition, paired cases, costs, label budgets.

matplotlib is imported when a figure is drawn, without pyplot and without the user's style. The same input gives
the same file. Figures are at most 900 px high, since the report cuts taller ones, and 1600 px wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainpretrain import files
from brainpretrain.errors import UserError
from brainpretrain.report import results as tables
from brainpretrain.report.layouts import percent, signed
from brainpretrain.report.pages import html as pages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PX_PER_INCH = {".png": 100, ".svg": 96}
SETTINGS = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d8dee4",
    "legend.frameon": False,
    "svg.hashsalt": "brainpretrain",
    "svg.fonttype": "none",
}
# Distinct in colour blindness and, by their lightness or line style, in greyscale.
BLUE, ORANGE, GREEN, RED, GREY, DARK = "#0a5ea8", "#d9730d", "#1b7f3b", "#b3261e", "#6e7781", "#1f2328"
SEQUENCE_COLOURS = ["#0a5ea8", "#e69f00", "#1b9e77", "#cc79a7", "#7fc7ff", "#8c564b", "#b8b000", "#5e3c99", "#444444"]
MAX_POINTS = 400
MAX_SOURCES = 30
MAX_PAIRS = 11
MAX_ROWS = 24


@contextmanager
def figure_at(path: Path | str, width_px: int, height_px: int, tips: Mapping[str, str] | None = None) -> Iterator[Figure]:
    """A figure of that size, saved to `path` (.png or .svg) when the block ends.

    `tips`: gid of an artist -> words that a browser shows over it, in an .svg.
    """
    import matplotlib
    from matplotlib.figure import Figure

    suffix = Path(path).suffix
    if suffix not in PX_PER_INCH:
        raise UserError(f"cannot draw a figure as '{suffix}'", where=path, fix="use .svg or .png")
    dpi = PX_PER_INCH[suffix]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = Figure(figsize=(width_px / dpi, height_px / dpi), dpi=dpi, layout="constrained", facecolor="white")
        yield figure
        with files.atomic(path) as temporary:
            if suffix == ".svg":
                figure.savefig(temporary, metadata={"Date": None, "Creator": None})
                _add_tips(temporary, tips or {})
            else:
                _save_png(figure, temporary)


def _add_tips(svg: Path, tips: Mapping[str, str]) -> None:
    """A <title> in the group of each artist: a browser shows it under the pointer, without any script."""
    if not tips:
        return
    text = svg.read_text(encoding="utf-8")
    for gid, words in tips.items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}">\n<title>{escape(words)}</title>', 1)
    svg.write_text(text, encoding="utf-8")


def _save_png(figure: Figure, path: Path) -> None:
    """Saves with a palette of 256 colours: less than half the bytes, and no difference to the eye."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    picture = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def _say(axes: Axes, words: str, colour: str = "") -> None:
    """Words in place of a picture."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", color=colour or GREY, transform=axes.transAxes)


# --- training curves


def read_log(path: Path | str) -> pd.DataFrame:
    """The log.csv of a training as numbers, NaN for an empty cell.

    Raises:
        UserError: the file is missing or has no line yet.
    """
    try:
        log = pd.read_csv(path)
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="run the training") from error
    except pd.errors.EmptyDataError:
        log = pd.DataFrame()
    if log.empty:
        raise UserError("the log has no line", where=path, fix="let the training run for an epoch at least")
    return log.apply(pd.to_numeric, errors="coerce")


def loss_curves(log: pd.DataFrame, path: Path | str, title: str = "", schedule: pd.DataFrame | None = None) -> None:
    """Loss with its trivial baselines, validation Dice, learning rate, throughput, waiting, memory over steps.

    Where loss_hidden is logged, it and val_loss_hidden stand for the loss: the baselines are of hidden voxels too.

    Args:
        log: what `read_log` returned: step and any of loss, val_loss, loss_hidden, val_loss_hidden, loss_zero, loss_mean,
            val_loss_zero, val_loss_mean, loss_dice, loss_ce, val_dice (0..1), lr, patches_per_s, data_wait (0..1),
            peak_memory_gb.
        path: .svg or .png.
        title: above the figure.
        schedule: planned learning rates (schedule.tsv), drawn behind those of the log, with what is frozen.
    """
    log, rows_per_point = _thinned(log)
    note = f"each point is the mean of {rows_per_point} lines of the log" if rows_per_point > 1 else ""
    with figure_at(path, 1100, 620) as figure:
        figure.suptitle("\n".join(filter(None, [title, note])), x=0.01, ha="left")
        left, right = figure.subfigures(1, 2, width_ratios=[2, 1])
        if _known(log, "val_dice"):
            loss, dice = left.subplots(2, 1, height_ratios=[2, 1], sharex=True)
            _draw_series(dice, log, "val_dice", 100, BLUE)
            dice.set_title("Validation Dice x 100", loc="left")
        else:
            loss = left.subplots()
        _draw_loss(loss, log)
        left.supxlabel("step", fontsize=10)
        _draw_small(right, log, schedule)


SMALL_PANELS = [
    ("lr", "Learning rate", 1),
    ("patches_per_s", "Patches per second", 1),
    ("data_wait", "Time waiting for data (%)", 100),
    ("peak_memory_gb", "Peak memory (GB)", 1),
]
LOSSES = [  # column, words, colour, line style, width
    ("loss_zero", "predicting zero (training)", GREY, (0, (1, 1.5)), 1.2),
    ("val_loss_zero", "predicting zero (validation)", GREY, "-.", 1.5),
    ("loss_mean", "predicting the local mean (training)", GREEN, (0, (1, 1.5)), 1.2),
    ("val_loss_mean", "predicting the local mean (validation)", GREEN, "-.", 1.5),
    ("loss_dice", "Dice part (training)", GREEN, "-.", 1.5),
    ("loss_ce", "cross-entropy part (training)", GREY, (0, (1, 1.5)), 1.5),
    ("loss", "training loss", BLUE, "-", 1.8),
    ("val_loss", "validation loss", ORANGE, "--", 2.0),
]


def _known(log: pd.DataFrame, name: str) -> bool:
    return name in log and bool(log[name].notna().any())


def _draw_small(figure: Figure, log: pd.DataFrame, schedule: pd.DataFrame | None) -> None:
    panels = [panel for panel in SMALL_PANELS if _known(log, panel[0])]
    if not panels:
        return
    for axes, (name, words, scale) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _draw_series(axes, log, name, scale, DARK)
        axes.set_title(words, loc="left", fontsize=10)
        top = log[name].max()
        if name == "lr" and schedule is not None:
            from brainpretrain.report.figures import learning_rates as curves

            axes.lines[0].set(linestyle="none", marker=".", markersize=4)  # rows of a log may be too few for a curve
            shades = curves.draw(axes, schedule, color=BLUE, linewidth=1, zorder=1)
            if shades:
                axes.legend(list(shades.values()), list(shades), loc="upper right", fontsize=8)
            top = max(top, schedule["lr"].max())
        axes.set_ylim(0, 1.1 * scale * top or 1)
        axes.yaxis.set_major_formatter("{x:g}")
    figure.supxlabel("step", fontsize=10)


def _thinned(log: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """At most MAX_POINTS rows, each the mean of as many consecutive ones, so that a long log stays a small file."""
    rows_per_point = -(-len(log) // MAX_POINTS)
    if rows_per_point <= 1:
        return log, 1
    return log.groupby(np.arange(len(log)) // rows_per_point).mean(), rows_per_point


def _draw_loss(axes: Axes, log: pd.DataFrame) -> None:
    from matplotlib.ticker import LogLocator

    title = "Loss"
    if _known(log, "loss_hidden"):
        title = "Loss at hidden voxels"
        log = log.drop(columns=["loss", "val_loss"], errors="ignore")
        log = log.rename(columns={"loss_hidden": "loss", "val_loss_hidden": "val_loss"})
    values = []
    for name, words, colour, style, width in LOSSES:
        if _known(log, name):
            _draw_series(axes, log, name, 1, colour, label=words, linestyle=style, linewidth=width)
            values.append(log[name].replace([np.inf, -np.inf], np.nan).dropna())
    axes.set_title(title, loc="left")
    if not values:
        _say(axes, "no loss was logged")
        return
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none")
    shown = pd.concat(values)
    if len(shown) and shown.min() > 0 and shown.max() > 20 * shown.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()


def _draw_series(axes: Axes, log: pd.DataFrame, name: str, scale: float, colour: str, **style: Any) -> None:
    known = log[["step", name]].dropna()
    marker = "o" if len(known) <= (30 if name in ("val_loss", "val_dice") else 1) else None
    axes.plot(known["step"], scale * known[name], color=colour, marker=marker, markersize=3.5, **style)
    axes.set_xlim(left=0)


# --- reconstructions

PANELS = [("input", "input"), ("masked", "masked input"), ("output", "output"), ("target", "target")]


def reconstructions(npz: Path | str, path: Path | str) -> None:
    """What the network makes of masked patches: a row per case; input, masked input, output, target, error.

    Args:
        npz: input, masked, output, target (n, X, Y) in 0..1, hidden (n, X, Y) bool, True = masked out, and
            names (n,): axial slices in RAS, so that left in the picture is left in the patient.
        path: .png or .svg.
    """
    with np.load(npz) as arrays:
        stack = {name: arrays[name] for name in arrays.files}
    errors = np.abs(stack["output"].astype(np.float32) - stack["target"].astype(np.float32))
    top = float(np.quantile(errors, 0.995)) or 1.0
    n = len(stack["names"])
    with figure_at(path, 1200, 60 + 205 * n) as figure:
        axes = figure.subplots(n, 6, squeeze=False, width_ratios=[0.8, 1, 1, 1, 1, 1])
        for i in range(n):
            _say(axes[i, 0], _reconstruction_words(stack, errors, i), DARK)
            for j, (name, words) in enumerate(PANELS, start=1):
                _slice(axes[i, j], stack[name][i])
                axes[0, j].set_title(words)
            _mark_sides(axes[i, 1])
            _tint(axes[i, 2], stack["hidden"][i])
            shown = _slice(axes[i, 5], errors[i], top=top, colours="magma")
        axes[0, 5].set_title("error")
        figure.colorbar(shown, ax=list(axes[:, 5]), label="|output − target|", shrink=0.9)


def _reconstruction_words(stack: Mapping[str, np.ndarray], errors: np.ndarray, i: int) -> str:
    words = f"{fill(str(stack['names'][i]), 20)}\n\nmean error\nall {errors[i].mean():.3f}"
    hidden = stack["hidden"][i].astype(bool)
    return f"{words}\nhidden {errors[i][hidden].mean():.3f}" if hidden.any() else words


# --- augmentation

_BLOCKS = 3  # transforms side by side


def augmentations(pictures: Sequence[tuple[str, str, np.ndarray, np.ndarray]], path: Path | str, title: str, credit: str) -> None:
    """What each transform does: before, after, and the difference on a scale of its own.

    Args:
        pictures: name, what was drawn, and axial slices (x y) in 0..1 before and after.
        path: .png or .svg.
        title: above the figure.
        credit: below it, whose image it is.
    """
    rows = -(-len(pictures) // _BLOCKS)
    with figure_at(path, 1580, 60 + 210 * rows) as figure:
        figure.suptitle(title, fontweight="bold")
        figure.supxlabel(credit, fontsize=8, color=GREY)
        axes = figure.subplots(rows, 3 * _BLOCKS, squeeze=False).reshape(-1, 3)
        for triple in axes:
            for one in triple:
                one.set_axis_off()
        for (before, after, difference), (name, words, image, changed) in zip(axes, pictures, strict=False):
            _slice(before, image)
            _slice(after, changed)
            change = changed - image
            most = float(np.abs(change).max()) or 1.0
            difference.imshow(change.T, cmap="RdBu_r", vmin=-most, vmax=most, origin="lower", interpolation="nearest")
            before.set_title(name, loc="left")
            after.set_title(fill(words, 26), fontsize=8, fontweight="normal")
            difference.set_title(f"difference,\nup to {np.abs(change).max():.2g}", fontsize=8, fontweight="normal")


def _slice(axes: Axes, image: np.ndarray, *, top: float = 1.0, aspect: float = 1.0, colours: str = "gray") -> AxesImage:
    """An axial slice (x y) in RAS: anterior up, left is left."""
    axes.set_axis_off()
    options = {"origin": "lower", "interpolation": "nearest", "aspect": aspect}
    return axes.imshow(image.T, cmap=colours, vmin=0, vmax=top, **options)


def _mark_sides(axes: Axes) -> None:
    for x, side in ((0.03, "L"), (0.97, "R")):
        box = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 1.5}
        place = {"ha": "left" if side == "L" else "right", "va": "bottom", "transform": axes.transAxes}
        axes.text(x, 0.03, side, color="white", fontsize=8, bbox=box, **place)


def _tint(axes: Axes, hidden: np.ndarray) -> None:
    """Hidden voxels in a colour of their own: black would look like air."""
    colour = np.zeros((*hidden.T.shape, 4))
    colour[hidden.T.astype(bool)] = (0.20, 0.36, 0.55, 1.0)
    axes.imshow(colour, origin="lower", interpolation="nearest")


# --- overlays


@dataclass(frozen=True)
class Overlay:
    """A case to draw: image, reference and prediction (x y z) on one RAS grid, labels as integers, 0 background.

    `pick` is the case's entry of `pick_cases`.
    """

    pick: Mapping[str, Any]
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    spacing_mm: Sequence[float]


def pick_cases(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Worst, median and best case by mean Dice over labels, of the runs in `scores`.

    Returns:
        up to three of {rank, task, cohort, backbone, init, recipe, n_train, fold, volume, dice}, worst first; cases
        without a defined Dice are left out; of an even number the median is the lower one.
    """
    cases = tables.case_scores(tables.check(scores), "dice").dropna(subset="dice").round({"dice": 6})
    cases = cases.sort_values(["dice", "volume", "fold"], ignore_index=True)
    last = len(cases) - 1
    places = {"worst": 0, "median": last // 2, "best": last}
    picked: dict[int, dict[str, Any]] = {}
    for rank in ("worst", "best", "median"):
        if last >= 0 and places[rank] not in picked:
            picked[places[rank]] = {"rank": rank} | cases.iloc[places[rank]].to_dict()
    return [picked[place] for place in sorted(picked)]


def overlays(cases: Sequence[Overlay], path: Path | str) -> None:
    """Outlines of reference and prediction on the axial slice with most of the reference: a row per case.

    Args:
        cases: the cases of `pick_cases`.
        path: .png or .svg.
    """
    from matplotlib.lines import Line2D

    with figure_at(path, 1040, 70 + 275 * max(len(cases), 1)) as figure:
        if not cases:
            _say(figure.subplots(), "no case with a defined Dice")
            return
        axes = figure.subplots(len(cases), 4, squeeze=False, width_ratios=[0.6, 1, 1, 1])
        for row, case in zip(axes, cases, strict=True):
            _draw_overlay(row, case)
        for ax, words in zip(axes[0, 1:], ("whole slice", "detail", "detail with outlines"), strict=True):
            ax.set_title(words)
        lines = [
            Line2D([], [], color=REFERENCE, linewidth=3),
            Line2D([], [], color=PREDICTION, linewidth=1.3),
        ]
        figure.legend(lines, ["reference", "prediction"], loc="outside upper right", ncols=2)


REFERENCE, PREDICTION = "#2fa4ff", "#ff6a13"
DETAIL_MARGIN_MM = 12


def _draw_overlay(row: Sequence[Axes], case: Overlay) -> None:
    from matplotlib.patches import Rectangle

    z = _busiest_slice(case.reference, case.prediction)
    image, reference, prediction = (a[:, :, z] for a in (case.image, case.reference, case.prediction))
    low, high = np.quantile(image, [0.002, 0.998])
    image = (image - low) / ((high - low) or 1.0)
    aspect = case.spacing_mm[1] / case.spacing_mm[0]
    box = _detail_box((reference > 0) | (prediction > 0), case.spacing_mm)
    pick = case.pick
    words = [pick["rank"], fill(pick["volume"], 26), f"fold {pick['fold']}", f"Dice {percent(pick['dice'])}"]
    _say(row[0], "\n".join([*words, f"slice {z + 1} of {case.image.shape[2]}"]), DARK)
    for axes in row[1:]:
        _slice(axes, image, aspect=aspect)
    _mark_sides(row[1])
    size = [edge.stop - edge.start for edge in box]
    corner = (box[0].start - 0.5, box[1].start - 0.5)
    if size[0] * size[1] < 0.6 * reference.size:
        row[1].add_patch(Rectangle(corner, *size, fill=False, edgecolor=PREDICTION, linewidth=1.5))
    for axes in row[2:]:
        axes.set(xlim=(corner[0], corner[0] + size[0]), ylim=(corner[1], corner[1] + size[1]))
    width = float(np.clip(50 / max(size), 0.6, 1.3))  # thin where voxels are small, or lines hide the picture
    _outline(row[3], reference, REFERENCE, 2.3 * width)
    _outline(row[3], prediction, PREDICTION, width)


def _busiest_slice(reference: np.ndarray, prediction: np.ndarray) -> int:
    """The axial slice with most reference voxels; of the prediction if that is empty; the middle if both are."""
    for mask in (reference, prediction):
        counts = np.count_nonzero(mask, axis=(0, 1))
        if counts.any():
            return int(counts.argmax())
    return reference.shape[2] // 2


def _detail_box(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[slice, slice]:
    """The part of a slice that holds `mask` and a margin, as long in x as in y where the slice allows it."""
    if not mask.any():
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    bounds = [(np.flatnonzero(mask.any(axis=1 - d)) + 0.5) * spacing_mm[d] for d in (0, 1)]
    half_mm = max(b[-1] - b[0] for b in bounds) / 2 + DETAIL_MARGIN_MM
    box = []
    for d in (0, 1):
        middle = (bounds[d][0] + bounds[d][-1]) / 2
        start, stop = (round((middle + side * half_mm) / spacing_mm[d]) for side in (-1, 1))
        box.append(slice(max(start, 0), min(stop, mask.shape[d])))
    return box[0], box[1]


def _outline(axes: Axes, labels: np.ndarray, colour: str, width: float) -> None:
    """The voxel edges between different labels (x y): exact, for one label or many."""
    from matplotlib.collections import LineCollection

    padded = np.pad(labels, 1)
    lines = []
    for x, y in np.argwhere(padded[1:, :] != padded[:-1, :]):
        lines.append([(x - 0.5, y - 1.5), (x - 0.5, y - 0.5)])
    for x, y in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        lines.append([(x - 1.5, y - 0.5), (x - 0.5, y - 0.5)])
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, capstyle="round"), autolim=False)


# --- corpus composition


def composition(corpus: pd.DataFrame, stored: Mapping[str, pd.DataFrame], path: Path | str) -> None:
    """Volumes of a corpus by source and sequence, their native spacing and their stored intensity.

    Args:
        corpus: dataset, volume, subject, session, sequence, role ('train' or 'val').
        stored: each dataset of the corpus -> rows of its table of stored volumes with volume, status, native_spacing_mm
            ('1.0 1.0 3.0'), mean.
        path: .svg or .png.
    """
    facts = _with_facts(corpus, stored)
    sequences = _ranked(corpus["sequence"], len(SEQUENCE_COLOURS), "other")
    sources = _ranked(corpus["dataset"], MAX_SOURCES, "other sources")
    facts["sequence"] = facts["sequence"].where(facts["sequence"].isin(sequences), "other")
    facts["source"] = facts["dataset"].where(facts["dataset"].isin(sources), "other sources")
    rejected = pd.Series(0, index=sources)
    for dataset, source in dict(zip(facts["dataset"], facts["source"], strict=True)).items():
        rejected[source] += int((stored[dataset]["status"] == "rejected").sum())
    colours = dict(zip(sequences, SEQUENCE_COLOURS, strict=False))
    with figure_at(path, 1200, min(880, max(560, 200 + 24 * len(sources)))) as figure:
        grid = figure.add_gridspec(3, 5)
        bars = figure.add_subplot(grid[:, :3])
        _draw_sources(bars, facts, sources, rejected, colours)
        figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", ncols=len(colours) + 1)
        for i, (name, words) in enumerate(HISTOGRAMS):
            _draw_histogram(figure.add_subplot(grid[i, 3:]), facts, name, words, colours)
        subjects = corpus[["dataset", "subject"]].drop_duplicates()
        figure.suptitle(
            f"{len(corpus):,} volumes of {len(subjects):,} subjects, {rejected.sum():,} volumes rejected",
            x=0.01,
            ha="left",
        )


HISTOGRAMS = [
    ("finest_mm", "Native spacing, finest axis (mm)"),
    ("coarsest_mm", "Native spacing, coarsest axis (mm)"),
    ("mean", "Mean intensity of the stored volume"),
]


def _with_facts(corpus: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The corpus with finest and coarsest native spacing and mean intensity of each volume."""
    stored = pd.concat([frame.assign(dataset=name) for name, frame in tables.items()])
    stored = stored[["dataset", "volume", "native_spacing_mm", "mean"]]
    facts = corpus[["dataset", "volume", "sequence", "role"]]
    facts = facts.merge(stored, on=["dataset", "volume"], how="left", validate="one_to_one")
    spacing = facts["native_spacing_mm"].fillna("").str.split().map(lambda words: [float(word) for word in words])
    return facts.assign(
        finest_mm=spacing.map(lambda mm: min(mm, default=np.nan)),
        coarsest_mm=spacing.map(lambda mm: max(mm, default=np.nan)),
        mean=pd.to_numeric(facts["mean"]),
    )


def _ranked(names: pd.Series, most: int, rest: str) -> list[str]:
    """Names from frequent to rare, the same order at every run; beyond `most` they are summed up as `rest`."""
    counts = names.value_counts()
    ranked = sorted(counts.index, key=lambda name: (-counts[name], name))
    return ranked if len(ranked) <= most else [*ranked[: most - 1], rest]


def _draw_sources(axes: Axes, facts: pd.DataFrame, sources: list[str], rejected: pd.Series, colours: Mapping) -> None:
    counts = facts.groupby(["source", "sequence"]).size().unstack(fill_value=0).reindex(index=sources, columns=list(colours))
    left = np.zeros(len(sources))
    for sequence, colour in colours.items():
        axes.barh(sources, counts[sequence], left=left, color=colour, edgecolor="white", label=sequence)
        left += counts[sequence].to_numpy()
    out = rejected[sources].to_numpy()
    if out.any():
        some = np.flatnonzero(out)
        names = [sources[i] for i in some]
        style = {"color": "white", "edgecolor": DARK, "hatch": "////", "label": "rejected"}
        axes.barh(names, out[some], left=left[some], **style)
    for i, source in enumerate(sources):
        val = int((facts.loc[facts["source"] == source, "role"] == "val").sum())
        counted = [
            f"{int(left[i]):,}",
            f"{val:,} for validation" if val else "",
            f"{out[i]:,} rejected" if out[i] else "",
        ]
        words = ", ".join(filter(None, counted))
        axes.annotate(words, (left[i] + out[i], i), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(xlim=(0, 1.4 * max(left + out, default=1)), ylim=(max(len(sources), 4) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    axes.set_title("Volumes by source and sequence", loc="left")


def _draw_histogram(axes: Axes, facts: pd.DataFrame, name: str, words: str, colours: Mapping[str, str]) -> None:
    known = facts[facts[name].notna()]
    if known.empty:
        _say(axes, f"{words}: not recorded")
        return
    groups = [known.loc[known["sequence"] == sequence, name] for sequence in colours]
    edges = np.histogram_bin_edges(known[name], bins=30)
    axes.hist(groups, bins=edges, stacked=True, histtype="stepfilled", color=list(colours.values()))
    axes.set_title(words, loc="left", fontsize=10)
    axes.set_ylabel("volumes")


# --- paired cases


def paired_cases(scores: pd.DataFrame, spec: Mapping[str, Any], path: Path | str) -> None:
    """Every case from the baseline to the pretrained arm: a panel per column of the table, a pair of points per row.

    The score of a case, by the table's metric, is the mean over labels, then over the folds that both arms have scored.

    Args:
        scores, spec: as for `tables.build`; the first 11 rows that have a baseline are drawn.
        path: .png or .svg.
    """
    metric = tables.metric_of(spec)
    cases = tables.case_scores(tables.valued(scores, spec)).dropna(subset="value")
    cases["value"] *= metric.scale
    pairs = [(tables.baseline_row(row, spec), row) for row in spec["rows"]]
    compared = [(base, row) for base, row in pairs if base]
    pairs = compared[:MAX_PAIRS]
    columns = spec["columns"]
    panel_px = max(340, 60 + 130 * len(pairs))
    wide = min(len(columns), max(1, 1500 // panel_px))
    high = -(-len(columns) // wide)
    with figure_at(path, max(560, 60 + wide * panel_px), min(880, 60 + 400 * high)) as figure:
        panels = figure.subplots(high, wide, squeeze=False, sharex=bool(pairs), sharey=True).ravel()
        for axes in panels[max(0, len(columns) - wide) : len(columns)]:
            axes.tick_params(labelbottom=True)  # of the lowest panel in each column of panels
        for axes, column in zip(panels, columns, strict=False):
            of_column = cases[(cases["task"] == column["task"]) & (cases["cohort"] == column["cohort"])]
            _draw_pairs(axes, of_column, pairs, spec)
            axes.set_title(f"{column['title']} ({column['cohort']})", loc="left")
        for axes in panels[len(columns) :]:
            axes.set_axis_off()
        lowest, highest = _limits(cases["value"], metric)
        panels[0].set_ylim(lowest, highest + 0.2 * (highest - lowest))
        figure.supylabel(f"{score_words(spec)} of a case", fontsize=10)
        if pairs:
            _explain_lines(figure, left_out=len(compared) - len(pairs))


def _limits(values: pd.Series, metric: tables.Metric) -> tuple[float, float]:
    """Of the axis of a metric: a share ends at 1, anything else begins at 0."""
    if not len(values):
        return 0.0, 100.0
    if metric.high == 1:
        return 10 * min(values.min() // 10, 9), 100.0
    return 0.0, values.max() or 1.0


def _draw_pairs(axes: Axes, cases: pd.DataFrame, pairs: Sequence[tuple], spec: Mapping[str, Any]) -> None:
    """A line per case from the baseline's score to the arm's; thick: their means."""
    if not pairs:
        _say(axes, "the table has no row to compare")
        return
    for i, (base, row) in enumerate(pairs):
        both = _paired(cases, base, row, spec)
        words = "runs missing"
        if len(both):
            better = (both["arm"] > both["base"]) if tables.metric_of(spec).higher else (both["arm"] < both["base"])
            _draw_pair(axes, [2 * i, 2 * i + 1], both, better)
            change = signed((both["arm"] - both["base"]).mean() / 100)
            words = f"mean {change}\n{int(better.sum())} of {len(both)} better"
        axes.text(2 * i + 0.5, 0.99, words, ha="center", va="top", fontsize=9, transform=axes.get_xaxis_transform())
    names = [f"{fill(base['title'], 20)}\n→ {fill(row['title'], 18)}" for base, row in pairs]
    axes.set_xticks([2 * i + 0.5 for i in range(len(pairs))], names, fontsize=8)
    axes.set_xlim(-0.5, 2 * len(pairs) - 0.5)
    axes.grid(axis="x", visible=False)


def _explain_lines(figure: Figure, left_out: int) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=GREEN, linewidth=1),
        Line2D([], [], color=RED, linewidth=1, linestyle=(0, (4, 1.5))),
        Line2D([], [], color=DARK, linewidth=2.5, marker="o"),
    ]
    names = ["better", "not better", "mean of cases"]
    if left_out:
        lines.append(Line2D([], [], linestyle=""))
        names.append(f"rows of the table not drawn: {left_out}")
    figure.legend(lines, names, loc="outside lower right", ncols=4)


def _draw_pair(axes: Axes, x: Sequence[float], both: pd.DataFrame, better: pd.Series) -> None:
    for rows, colour, style in ((both[better], GREEN, "-"), (both[~better], RED, (0, (4, 1.5)))):
        for line in axes.plot(x, rows.T, color=colour, linestyle=style, linewidth=0.8, alpha=0.45):
            line.set_rasterized(len(both) > 100)  # or the file grows with the cohort
    axes.plot(x, both.mean(), color=DARK, linewidth=2.5, marker="o", markersize=6)


def _paired(cases: pd.DataFrame, base: Mapping, row: Mapping, spec: Mapping[str, Any]) -> pd.DataFrame:
    """Value of each volume in both arms (columns base, arm), mean over the folds of the spec that both have."""
    arms = []
    for arm in (base, row):
        mine = cases[(cases[tables.ARM] == [str(arm[name]) for name in tables.ARM]).all(axis=1)]
        mine = mine[mine["fold"].isin([str(fold) for fold in spec["folds"]])]
        arms.append(mine.set_index(["volume", "fold"])["value"])
    both = pd.concat(dict(zip(("base", "arm"), arms, strict=True)), axis=1, join="inner")
    return both.groupby("volume").mean()


# --- costs (AMAES Figure 1)


def score_words(spec: Mapping[str, Any]) -> str:
    """What the metric of a table is called on an axis: 'Dice x 100', 'HD95 (mm)'."""
    metric = tables.metric_of(spec)
    return f"{metric.title} {metric.unit}" if metric.unit.startswith("x") else f"{metric.title} ({metric.unit})"


def costs(arms: pd.DataFrame, spec: Mapping[str, Any], path: Path | str) -> None:
    """Hours of training against the score, the area of a bubble is the memory: a panel per column of the table.

    A line leads from the baseline to each arm that is compared with it; hollow: trained from scratch.

    Args:
        arms: what `costs.arms` returned; the first 24 rows are drawn.
        spec: the table, as for `tables.build`.
        path: .svg (with the numbers under the pointer) or .png.
    """
    words, scale = score_words(spec), tables.metric_of(spec).scale
    left_out = max(0, arms["number"].max() - MAX_ROWS)
    arms = arms[arms["number"] <= MAX_ROWS]
    drawn = arms.dropna(subset=["hours", "score", "memory_gb"])
    unit, per_hour = _time_unit(drawn["hours"].max())
    drawn = drawn.assign(time=per_hour * drawn["hours"])
    titles = [column["title"] for column in spec["columns"]]
    wide = min(len(titles), 3 if len(titles) <= 9 else 4)
    high = -(-len(titles) // wide)
    colours = dict(zip(dict.fromkeys(arms["backbone"]), SEQUENCE_COLOURS * 3, strict=False))
    tips = {_gid(cell): _cost_words(cell, words, scale) for cell in drawn.to_dict("records")}
    size_px = min(1600, 300 + 350 * wide), min(900, max(90 + 330 * high, 150 + 21 * arms["number"].nunique()))
    with figure_at(path, *size_px, tips) as figure:
        panels = figure.subplots(high, wide, squeeze=False).ravel()
        for axes, title, column in zip(panels, titles, spec["columns"], strict=False):
            mine = drawn[(drawn["task"] == column["task"]) & (drawn["cohort"] == column["cohort"])]
            _draw_costs(axes, mine, spec, scale, colours, drawn["memory_gb"].max())
            axes.set_title(f"{title} ({column['cohort']})", loc="left")
        for axes in panels[len(titles) :]:
            axes.set_axis_off()
        figure.supylabel(words, fontsize=10)
        figure.supxlabel(f"{unit} of pretraining and fine-tuning", fontsize=10)
        _explain_costs(figure, arms, drawn["memory_gb"].max(), colours, left_out)


def _time_unit(most_hours: float) -> tuple[str, int]:
    """The unit that reads best, and how many of it are an hour."""
    if most_hours < 1 / 30:
        return "seconds", 3600
    return ("minutes", 60) if most_hours < 2 else ("hours", 1)


def _gid(cell: Mapping[str, Any]) -> str:
    return f"cost-{cell['task']}-{cell['cohort']}-{cell['number']}"


def _cost_words(cell: Mapping[str, Any], words: str, scale: float) -> str:
    """What the pointer shows over a bubble."""
    lines = [
        f"{cell['number']}  {cell['row']}",
        f"{words}: {scale * cell['score']:.2f}" + (f" ± {scale * cell['score_sd']:.2f}" if pd.notna(cell["score_sd"]) else ""),
        f"pretraining {pages.pretraining_time(cell)}, fine-tuning {pages.duration(3600 * cell['finetune_hours'])}",
        f"peak memory {cell['memory_gb']:.2f} GB",
        cell["hardware"],
    ]
    return "\n".join(filter(None, lines))


def _draw_costs(
    axes: Axes, cells: pd.DataFrame, spec: Mapping[str, Any], scale: float, colours: Mapping[str, str], most_gb: float
) -> None:
    from matplotlib.patheffects import withStroke

    if cells.empty:
        _say(axes, "runs missing")
        return
    by_number = {cell["number"]: cell for cell in cells.to_dict("records")}
    for number, cell in by_number.items():
        base = tables.baseline_row(spec["rows"][number - 1], spec)
        other = by_number.get(spec["rows"].index(base) + 1) if base else None
        if other:
            ends = [[end["time"] for end in (other, cell)], [scale * end["score"] for end in (other, cell)]]
            axes.plot(*ends, color=GREY, linewidth=1, zorder=1)
    for number, cell in by_number.items():
        colour = colours[cell["backbone"]]
        face = "white" if cell["init"] == spec["baseline"] else colour
        place = cell["time"], scale * cell["score"]
        size = 900 * cell["memory_gb"] / most_gb
        axes.scatter(*place, s=size, facecolor=face, edgecolor=colour, alpha=0.75, linewidth=2, zorder=2, gid=_gid(cell))
        text = axes.annotate(str(number), place, (0, 0), textcoords="offset points", ha="center", va="center", fontsize=9)
        text.set(path_effects=[withStroke(linewidth=2.5, foreground="white")], zorder=3)
    times = cells["time"]
    if times.min() > 0 and times.max() > 5 * times.min():
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xlim(times.min() / 1.8, times.max() * 1.8)
        axes.set_xticks(_round_ticks(times.min() / 1.5, times.max() * 1.5))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(0.2)


def _round_ticks(low: float, high: float) -> list[float]:
    """At most seven of 1, 2, 5, 10 ... between two positive numbers."""
    ticks = [step * 10.0**power for power in range(-6, 7) for step in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    tens = [tick for tick in inside if round(np.log10(tick), 6) == round(np.log10(tick))]
    return inside if len(inside) <= 7 else tens


def _explain_costs(figure: Figure, arms: pd.DataFrame, most_gb: float, colours: Mapping[str, str], left_out: int) -> None:
    from matplotlib.lines import Line2D

    handles, names = [], []
    for cell in arms.drop_duplicates("number").to_dict("records"):
        style = {"marker": "o", "linestyle": "", "color": colours[cell["backbone"]], "markersize": 7, "markeredgewidth": 1.8}
        handles.append(Line2D([], [], fillstyle="none" if cell["init"] == "scratch" else "full", **style))
        names.append(f"{cell['number']}  {fill(cell['row'], 34)}" + (" *" if cell["pretrained_elsewhere"] else ""))
    notes = [f"area: peak memory, largest {most_gb:.3g} GB"] if pd.notna(most_gb) else []
    notes += ["* hours of the pretraining not known"] if arms["pretrained_elsewhere"].any() else []
    notes += [f"rows of the table not drawn: {left_out}"] if left_out else []
    handles += [Line2D([], [], linestyle="") for _ in notes]
    names += notes
    figure.legend(handles, names, loc="outside right upper", fontsize=9, labelspacing=0.35)


# --- label budgets

MARKERS = "os^Dv<>ph"


def label_budgets(points: pd.DataFrame, matches: pd.DataFrame, spec: Mapping[str, Any], path: Path | str) -> None:
    """The score over the number of labelled subjects: a panel per column, a line per arm, mean over folds, band: SD over folds.

    Dotted: the baseline with all labels; on it, where an arm reaches it, with the bootstrap interval.

    Args:
        points, matches: what `budgets.curves` and `budgets.matched` returned.
        spec: the table.
        path: .svg (with the numbers under the pointer) or .png.
    """
    words, scale = score_words(spec), tables.metric_of(spec).scale
    columns = spec["columns"]
    wide = min(len(columns), 3)
    high = -(-len(columns) // wide)
    rows = list(dict.fromkeys(points["row"]))[:MAX_ROWS]
    looks = {
        row: {"color": SEQUENCE_COLOURS[i % 9], "marker": MARKERS[i % 9], "linestyle": ("-", "--", ":")[i // 9]}
        for i, row in enumerate(rows)
    }
    tips: dict[str, str] = {}
    size_px = min(1600, 120 + 470 * wide), min(900, 110 + 370 * high + 20 * -(-len(rows) // 3))
    with figure_at(path, *size_px, tips) as figure:
        panels = figure.subplots(high, wide, squeeze=False).ravel()
        for axes, column in zip(panels, columns, strict=False):
            of_column = [
                frame[(frame["task"] == column["task"]) & (frame["cohort"] == column["cohort"])] for frame in (points, matches)
            ]
            _draw_budgets(axes, *of_column, looks, scale, tips)
            axes.set_title(f"{column['title']} ({column['cohort']})", loc="left")
        for axes in panels[len(columns) :]:
            axes.set_axis_off()
        for axes in panels[max(0, len(columns) - wide) : len(columns)]:
            axes.set_xlabel("labelled training subjects")
        figure.supylabel(words, fontsize=10)
        _explain_budgets(figure, looks)


def _draw_budgets(
    axes: Axes, points: pd.DataFrame, matches: pd.DataFrame, looks: Mapping[str, Mapping], scale: float, tips: dict[str, str]
) -> None:
    known = points[points["mean"].notna() & points["row"].isin(list(looks))]
    if known.empty:
        _say(axes, "runs missing")
        return
    for row, arm in known.groupby("row", sort=False):
        mean, sd = scale * arm["mean"], scale * arm["sd"].fillna(0)
        axes.fill_between(arm["subjects"], mean - sd, mean + sd, color=looks[row]["color"], alpha=0.15, linewidth=0)
        axes.plot(arm["subjects"], mean, linewidth=1.8, markersize=0, **looks[row] | {"marker": None})
        for point in arm.to_dict("records"):
            gid = f"budget-{point['task']}-{point['cohort']}-{list(looks).index(row)}-{point['n_train']}"
            spread = f" ± {scale * point['sd']:.2f}" if pd.notna(point["sd"]) else ""
            tips[gid] = f"{row}\nn_train {point['n_train']} ({point['subjects']:g} subjects)\n{scale * point['mean']:.2f}{spread}"
            style = {"color": looks[row]["color"], "marker": looks[row]["marker"]}
            axes.scatter(point["subjects"], scale * point["mean"], s=34, zorder=3, gid=gid, **style)
    _draw_matches(axes, matches, looks, scale)
    _budget_ticks(axes, known)


def _draw_matches(axes: Axes, matches: pd.DataFrame, looks: Mapping[str, Mapping], scale: float) -> None:
    targets = matches.dropna(subset="full_score")
    for score in dict.fromkeys(targets["full_score"]):
        axes.axhline(scale * score, color=DARK, linestyle=(0, (1, 1.5)), linewidth=1.2, zorder=1)
    reached = targets[np.isfinite(targets["matched"].astype(float)) & targets["row"].isin(list(looks))]
    for match in reached.to_dict("records"):
        ends = [match["low"], min(match["high"], match["largest"])]
        style = {"color": looks[match["row"]]["color"], "zorder": 4}
        axes.plot(ends, [scale * match["full_score"]] * 2, linewidth=3, alpha=0.5, **style)
        axes.scatter(match["matched"], scale * match["full_score"], s=90, marker="|", linewidth=2.5, **style)


def _budget_ticks(axes: Axes, known: pd.DataFrame) -> None:
    """Every budget by name, as far apart as their logarithms."""
    budgets = known.drop_duplicates("subjects").sort_values("subjects")
    axes.set_xscale("log")
    axes.minorticks_off()
    names = [
        f"all\n({subjects:g})" if n == "all" else n for n, subjects in zip(budgets["n_train"], budgets["subjects"], strict=True)
    ]
    axes.set_xticks(budgets["subjects"], names)
    axes.set_xlim(budgets["subjects"].min() / 1.15, budgets["subjects"].max() * 1.15)


def _explain_budgets(figure: Figure, looks: Mapping[str, Mapping]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=1.8, markersize=6, **look) for look in looks.values()]
    handles.append(Line2D([], [], color=DARK, linestyle=(0, (1, 1.5)), linewidth=1.2))
    handles.append(Line2D([], [], color=GREY, marker="|", markersize=10, markeredgewidth=2.5, linewidth=3, alpha=0.7))
    names = [fill(row, 46) for row in looks]
    names += ["baseline with all labels", "where an arm reaches it, with interval"]
    figure.legend(handles, names, loc="outside lower left", ncols=3 if figure.get_figwidth() > 8 else 2, fontsize=9)
