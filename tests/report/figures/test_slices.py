from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainpretrain.report.figures import slices
from figure_fixtures import augmented, npz, svg_text


def test_a_slice_shows_right_to_the_right_and_anterior_up() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = np.zeros((10, 20))
    image[7:, 15:] = 1  # right and anterior
    figure = Figure(figsize=(1, 2), dpi=50)
    slices.draw_slice(figure.add_axes((0, 0, 1, 1)), image)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., 0]
    assert picture[5, 45] == 255
    assert picture[95, 45] == picture[5, 5] == picture[95, 5] == 0


@pytest.mark.parametrize("n", [1, 2])
def test_reconstructions_of_few_cases(n: int, tmp_path: Path) -> None:
    slices.reconstructions(npz(tmp_path / "r.npz", n), tmp_path / "r.svg")
    text = svg_text(tmp_path / "r.svg")
    assert all(title in text for title in ("input", "masked input", "output", "target", "error", "sub-00_ses-1_T1w"))
    assert text.count("hidden 0.") == n


def test_reconstructions_of_a_task_that_hides_nothing(tmp_path: Path) -> None:
    slices.reconstructions(npz(tmp_path / "r.npz", hidden=False), tmp_path / "r.svg")
    assert "hidden" not in svg_text(tmp_path / "r.svg")


def test_a_perfect_reconstruction_is_drawn(tmp_path: Path) -> None:
    with np.load(npz(tmp_path / "r.npz")) as arrays:
        stack = dict(arrays) | {"output": arrays["target"]}
    np.savez(tmp_path / "perfect.npz", **stack)
    slices.reconstructions(tmp_path / "perfect.npz", tmp_path / "r.png")


def test_augmentations_say_what_they_show(tmp_path: Path) -> None:
    slices.augmentations(augmented(), tmp_path / "a.svg", "amaes", "Lesjak et al., CC BY")
    text = svg_text(tmp_path / "a.svg")
    for expected in ("amaes", "Lesjak et al., CC BY", "transform 0", "drawn 4", "up to 0.4"):
        assert expected in text
    assert "up to 0 " in text + " "  # a transform that changes nothing
