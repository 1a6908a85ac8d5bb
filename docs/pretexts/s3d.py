"""Draws docs/pretexts/s3d.png: a patch of a phantom, and what the variants of S3D leave of it.

python docs/pretexts/s3d.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from brainpretrain import backbones, config, pretext
from brainpretrain.datasets import phantom
from brainpretrain.preprocess import nifti, volumes
from brainpretrain.report.figures.canvas import figure_at

HERE = Path(__file__).parent
SETTINGS = config.load(HERE.parents[1] / "config")
NAMES = ("s3d_mask60", "s3d", "s3d_mask90", "s3d_code")
SIDE = 160


def patch() -> torch.Tensor:
    """The middle of a synthetic head at 1 mm, (1 1 x y z)."""
    options = SETTINGS.datasets["phantom"].options | {"subjects": 0, "unlabelled_subjects": 1}
    with tempfile.TemporaryDirectory() as folder:
        phantom.generate(Path(folder), **options)
        volume = nifti.read_volume(sorted(Path(folder).rglob("*T1w*.nii.gz"))[0])
    image = volumes.preprocess(volume, None, SETTINGS.preprocess["amaes"].model_dump(mode="json"))[0].astype(np.float32)
    padded = np.pad(image, [(max(0, SIDE - n) // 2 + 1,) * 2 for n in image.shape])
    starts = [(n - SIDE) // 2 for n in padded.shape]
    return torch.from_numpy(padded[tuple(slice(start, start + SIDE) for start in starts)])[None, None]


def main() -> None:
    image = patch()
    slices, titles = [image[0, 0, :, :, SIDE // 2]], ["patch"]
    for name in NAMES:
        entry = SETTINGS.pretexts[name]
        encoder = backbones.build("resenc", 1, widths=[1] * 6, blocks=[1] * 6)
        task = pretext.build(entry.method, encoder, 1, **entry.options)
        hidden, _ = task._mask(image, [3])
        slices.append(torch.where(hidden, torch.nan, image)[0, 0, :, :, SIDE // 2])
        titles.append(f"{name}: {hidden.float().mean():.0%} hidden")
    with figure_at(HERE / "s3d.png", 1500, 340) as figure:
        for axis, shown, title in zip(figure.subplots(1, len(slices)), slices, titles, strict=True):
            axis.set_facecolor("#8aa0b8")
            axis.imshow(shown.T, cmap="gray", origin="lower", vmin=0, vmax=1)
            axis.set_title(title, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])


main()
