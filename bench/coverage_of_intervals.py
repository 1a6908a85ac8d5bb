"""How often the intervals and tests of a table hold, in simulated studies of which the truth is known.

    python bench/coverage_of_intervals.py [--samples 2000] [--json results/bench/coverage.json] [--figure docs/coverage.svg]

A difference of two arms is drawn as: draw of training cases + seed of each arm + subject + noise. The true difference is 0, or a
given one for power and equivalence. Settings are standard deviations in points of Dice. The estimates are those of the tables
(`report/crossed.py`). It prints Markdown tables; docs/statistics.md has those of 2,000 samples.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainpretrain.cohorts.splits import fold_order
from brainpretrain.files import atomic, write_json
from brainpretrain.report import crossed, power, statistics
from brainpretrain.report.statistics import Cases

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """Standard deviations of a difference: draw of training cases, seed of one arm, subject, noise of a case."""

    name: str
    draw: float
    seed: float
    subject: float
    noise: float


@dataclass(frozen=True)
class Layout:
    """How many draws, seeds and subjects a study has; `n_train`: each draw scores the rest of the subjects (cohort `val`)."""

    subjects: int
    draws: int
    seeds: int
    n_train: int = 0


SETTINGS = (
    Setting("calm", 0.5, 0.3, 1.5, 2),
    Setting("like hippocampus", 1, 0.5, 1.5, 2),
    Setting("like brains", 5, 2, 2, 3),
    Setting("subjects dominate", 0.2, 0.1, 3, 2),
)
FIXED = tuple(Layout(*sizes) for sizes in ((52, 3, 1), (52, 3, 3), (52, 6, 1), (52, 6, 3), (17, 3, 1), (17, 3, 3), (17, 6, 1)))
VAL = tuple(
    Layout(*sizes) for sizes in ((17, 3, 1, 6), (17, 3, 3, 6), (17, 6, 1, 6), (60, 3, 1, 20), (60, 6, 1, 20), (60, 6, 1, 50))
)
ONE_DRAW = (Layout(52, 1, 1), Layout(17, 1, 1))


def differences(setting: Setting, layout: Layout, samples: int, rng: np.random.Generator, shared: float = 0.0) -> np.ndarray:
    """Differences of simulated studies, the mean over the seeds of a draw: (samples, draws, subjects), NaN where not scored.

    `shared`: correlation of the effects of draws, as of draws that share training cases.
    """
    n, f, s, r = samples, layout.draws, layout.subjects, layout.seeds
    common = math.sqrt(shared) * rng.normal(0, setting.draw, (n, 1, 1))
    drawn = common + math.sqrt(1 - shared) * rng.normal(0, setting.draw, (n, f, 1))
    trained = rng.normal(0, math.sqrt(2) * setting.seed, (n, f, r)).mean(-1)[..., None]
    noise = rng.normal(0, setting.noise / math.sqrt(r), (n, f, s))
    d = drawn + trained + rng.normal(0, setting.subject, (n, 1, s)) + noise
    there = scored(layout)
    return np.where(there, d, np.nan)[..., there.any(0)]


def scored(layout: Layout) -> np.ndarray:
    """Which subjects each draw scores: all, or those that it does not train on, by the order of the splits: (draws, subjects)."""
    if not layout.n_train:
        return np.ones((layout.draws, layout.subjects), bool)
    names = [f"{number:03d}" for number in range(layout.subjects)]
    orders = [fold_order(names, draw, layout.n_train, 17)[: layout.n_train] for draw in range(layout.draws)]
    return np.array([[name not in trained for name in names] for trained in orders])


def coverage(d: np.ndarray, confidence: float = 0.95) -> dict[str, float]:
    """Share of studies whose interval holds 0, which is the share in which the test rejects nothing, and its mean width."""
    found = crossed.moments(d)
    half = _quantiles(found["df"], (1 + confidence) / 2) * np.sqrt(found["variance"])
    return {"coverage": float((np.abs(found["mean"]) <= half).mean()), "width": float(2 * half.mean())}


def _quantiles(df: np.ndarray, probability: float) -> np.ndarray:
    return np.array([crossed.quantile(value, probability) for value in df])


def of_these_models(d: np.ndarray, resamples: int = 500) -> dict[str, float]:
    """The interval that takes the trained models as given (bootstrap over subjects), and its signed-rank test, for a true 0."""
    means = np.nanmean(d, 1)
    weights = statistics.draws(d.shape[-1], resamples, 0) / d.shape[-1]
    low, high = np.quantile(weights @ means.T, [0.025, 0.975], axis=0)
    rejected = [statistics.signed_rank(line).p < 0.05 for line in means[: max(len(means) // 4, 1)]]
    return {"models": float(((low <= 0) & (high >= 0)).mean()), "rejected": float(np.mean(rejected))}


def decisions(d: np.ndarray, margin: float) -> tuple[float, float]:
    """Share of studies that find a difference, and share that find equivalence within the margin, at 5 %."""
    found = crossed.moments(d)
    error, size = np.sqrt(found["variance"]), np.abs(found["mean"])
    different = size > _quantiles(found["df"], 0.975) * error
    return float(different.mean()), float((size + _quantiles(found["df"], 0.95) * error < margin).mean())


def with_missing_labels(setting: Setting, layout: Layout, samples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Studies of three labels of which each case lacks one in five: what its subjects contribute to the fold scores."""
    for _ in range(samples):
        one = differences(setting, layout, 1, rng)[0].T[..., None]
        values = one + rng.normal(0, setting.noise, (*one.shape[:2], 3))
        counts = (rng.random((layout.subjects, 1, 3)) < 0.8) & np.ones_like(values, bool)
        cases = Cases((), np.where(counts, values, 0), counts.astype(float))
        yield crossed.contributions(cases, counts.any(-1))


# --- tables


def simulate(samples: int, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """All rows: coverage by setting and layout; what goes wrong where draws share cases; power and equivalence."""
    rng = np.random.default_rng(seed)
    rows = []
    for setting in SETTINGS:
        for layout in (*ONE_DRAW, *FIXED, *VAL):
            d = differences(setting, layout, samples, rng)
            row = {"setting": setting.name, **vars(layout), **of_these_models(d)}
            rows.append(row | (coverage(d) if layout.draws >= crossed.FEWEST_DRAWS else {}))
    others = []
    for setting in SETTINGS:
        row = {"setting": setting.name}
        for layout in (FIXED[0], FIXED[2]):
            row[f"shared {layout.draws}"] = coverage(differences(setting, layout, samples, rng, 0.25))["coverage"]
        held = [crossed.estimate(d).p > 0.05 for d in with_missing_labels(setting, FIXED[2], max(samples // 4, 1), rng)]
        others.append(row | {"missing labels": float(np.mean(held))})
    return {"coverage": rows, "others": others, "power": list(_powers(samples, rng))}


def _powers(samples: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """At the difference that `power.visible` names, and at the margin that `power.narrowest` names."""
    for setting in SETTINGS:
        for layout in (FIXED[0], FIXED[2], FIXED[3]):
            of_draw = setting.draw**2 + 2 * setting.seed**2 / layout.seeds
            parts = crossed.Components(of_draw, setting.subject**2, setting.noise**2 / layout.seeds)
            found = parts.variance(layout.draws, layout.subjects)
            size, margin = power.visible(*found), power.narrowest(*found)
            d = differences(setting, layout, samples, rng)
            yield {
                "setting": setting.name, "draws": layout.draws, "seeds": layout.seeds, "subjects": layout.subjects,
                "visible": size, "found": decisions(d + size, size)[0],
                "margin": margin, "equivalent": decisions(d, margin)[1], "falsely equivalent": decisions(d + margin, margin)[1],
            }  # fmt: skip


def markdown(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> str:
    """Rows as a Markdown table; `columns`: key to heading. Shares are percent, other numbers are points."""
    shares = {
        "coverage",
        "models",
        "rejected",
        "found",
        "equivalent",
        "falsely equivalent",
        "shared 3",
        "shared 6",
        "missing labels",
    }
    lines = [" | ".join(columns.values()), " | ".join("---" for _ in columns)]
    for row in rows:
        cells = []
        for key in columns:
            value = row.get(key, "–")
            cells.append(
                f"{100 * value:.0f} %"
                if key in shares and value != "–"
                else f"{value:.1f}"
                if isinstance(value, float)
                else str(value)
            )
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Coverage of both intervals in every row, with the range of 92 to 97 %."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "coverage", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 9))
    axes.axvspan(92, 97, color="#cfe8cf", label="92 to 97 %")
    axes.axvline(95, color="grey", linewidth=0.8)
    for key, mark, colour, label in (("models", "x", "#b03030", "these trained models"), ("coverage", "o", "#205080", "crossed")):
        there = [(100 * row[key], -i) for i, row in enumerate(rows) if key in row]
        axes.scatter(*zip(*there, strict=True), marker=mark, color=colour, s=22, label=label)
    names = [
        f"{row['setting']}: {row['draws']} x {row['seeds']}, {row['subjects']}"
        + (f" less {row['n_train']}" if row["n_train"] else "")
        for row in rows
    ]
    axes.set_yticks([-i for i in range(len(rows))], names, fontsize=6)
    axes.set_xlabel("studies whose 95 % interval holds the true difference, %")
    axes.set_title("draws x seeds, subjects (less the training cases of each draw)", fontsize=9)
    axes.set_xlim(0, 100)
    axes.legend(loc="lower left", fontsize=8)
    figure.tight_layout()
    with atomic(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="studies in each row")
    parser.add_argument("--json", type=Path, default=ROOT / "results/bench/coverage.json")
    parser.add_argument("--figure", type=Path, help="SVG to draw")
    args = parser.parse_args()
    found = simulate(args.samples)
    write_json(args.json, found)
    sizes = {"setting": "setting", "subjects": "subjects", "draws": "draws", "seeds": "seeds"}
    columns = sizes | {
        "n_train": "training cases left out",
        "models": "these models cover",
        "rejected": "signed-rank test rejects",
    }
    print(markdown(found["coverage"], columns | {"coverage": "crossed covers", "width": "width"}), end="\n\n")
    correlated = {"shared 3": "3 draws, correlation 0.25", "shared 6": "6 draws", "missing labels": "a label in five is missing"}
    print(markdown(found["others"], {"setting": "setting", **correlated}), end="\n\n")
    powers = {"visible": "difference", "found": "found", "margin": "margin", "equivalent": "equivalent, difference 0"}
    print(markdown(found["power"], sizes | powers | {"falsely equivalent": "equivalent, difference = margin"}))
    covered = [row["coverage"] for row in found["coverage"] if "coverage" in row]
    print(f"\ncrossed: {100 * min(covered):.1f} to {100 * max(covered):.1f} %")
    if args.figure:
        draw(found["coverage"], args.figure)


if __name__ == "__main__":
    main()
