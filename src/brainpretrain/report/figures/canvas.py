"""The canvas that every figure of the report is drawn on: size, style, colours, and the writing of the file.

matplotlib is imported when a figure is drawn, without pyplot and without the user's style. The same input gives
the same file. Figures are at most 900 px high, since the report cuts taller ones, and 1600 px wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainpretrain import files
from brainpretrain.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
# Distinct for colour-blind readers and, by lightness or line style, in greyscale.
BLUE, ORANGE, GREEN, RED, GREY, DARK = "#0a5ea8", "#d9730d", "#1b7f3b", "#b3261e", "#6e7781", "#1f2328"
SEQUENCE_COLOURS = ["#0a5ea8", "#e69f00", "#1b9e77", "#cc79a7", "#7fc7ff", "#8c564b", "#b8b000", "#5e3c99", "#444444"]
MAX_ROWS = 24  # rows of a table that one figure shows


@contextmanager
def figure_at(path: Path | str, width_px: int, height_px: int, tooltips: Mapping[str, str] | None = None) -> Iterator[Figure]:
    """Opens a figure of the given size and saves it to `path` (.png or .svg) when the block ends.

    Args:
        tooltips: gid of an artist -> text that a browser shows when the pointer is over it; only for .svg.

    Raises:
        UserError: the suffix of `path` is neither .png nor .svg.
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
                _add_tooltips(temporary, tooltips or {})
            else:
                _save_png(figure, temporary)


def _add_tooltips(svg: Path, tooltips: Mapping[str, str]) -> None:
    """Adds a <title> to the group of each artist: a browser shows it under the pointer without any script."""
    if not tooltips:
        return
    text = svg.read_text(encoding="utf-8")
    for gid, tooltip in tooltips.items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}">\n<title>{escape(tooltip)}</title>', 1)
    svg.write_text(text, encoding="utf-8")


def _save_png(figure: Figure, path: Path) -> None:
    """Saves with a palette of 256 colours: less than half the bytes, and no visible difference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    picture = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def panels(figure: Figure, count: int, across: int, **options: Any) -> list[Axes]:
    """`count` axes in rows of `across`; the places left over in the last row stay empty.

    Args:
        options: for `Figure.subplots`.
    """
    axes = list(figure.subplots(-(-count // across), across, squeeze=False, **options).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return axes[:count]


def write_message(axes: Axes, message: str, colour: str = GREY) -> None:
    """Replaces the content of the axes by a centred message."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=colour, transform=axes.transAxes)
