"""Inputs of figures, and what can be read from a drawn figure."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from brainpretrain.config.sections import Bootstrap
from brainpretrain.plan.runs import Arm
from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import budgets
from brainpretrain.report.overlays import Overlay
from report_fixtures import PRETRAINED, budget_scores, budget_spec, row, spec


def svg_text(path: Path) -> str:
    """The text of an SVG, which is stored as text."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)<", path.read_text(encoding="utf-8")))


def size_px(path: Path) -> tuple[float, float]:
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return picture.size
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', path.read_text(encoding="utf-8")).groups()
    return float(width) * 96 / 72, float(height) * 96 / 72


def tooltips(path: Path) -> list[str]:
    return [unescape(tip) for tip in re.findall(r"<title>(.*?)</title>", path.read_text(), flags=re.DOTALL)]


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


def overlay(reference: np.ndarray, prediction: np.ndarray, rank: str = "worst") -> Overlay:
    image = np.random.default_rng(0).integers(0, 900, reference.shape).astype(np.int16)
    pick = {"rank": rank, "volume": "sub-01_ses-1_T1w", "fold": "2", "dice": 0.6125}
    return Overlay(pick, image, reference, prediction, (1.0, 1.0, 3.0))


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
    return points, budgets.matched(table, budget_spec(), points, Bootstrap(resamples=50, confidence=0.95, seed=0))


def watched() -> tuple[dict[str, pd.DataFrame], dict[str, dict], TableSpec]:
    """Logs and runs of two validated arms with three trainings, the first of which ended early; and their table."""
    rows = [row(title, init, watched="validated") for title, init in (("U-Net scratch", "scratch"), ("U-Net AMAES", PRETRAINED))]
    table = spec(rows=rows, folds=[0, 1, 2])
    logs, runs = {}, {}
    for of_row in table.rows:
        for fold in table.folds:
            steps = range(10, 50 if fold else 30, 10)
            dice = [None if step % 20 else 0.5 + step / 200 + fold / 100 for step in steps]
            path = f"{Arm('hippocampus', *of_row.arm).path}/fold{fold}"
            logs[path] = pd.DataFrame({"step": steps, "loss": 1.0, "val_dice": pd.Series(dice, dtype=float)})
            runs[path] = {"validation": {"selected_step": 20, "pseudo_dice": 0.6 + fold / 100}}
    return logs, runs, table
