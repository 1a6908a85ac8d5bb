"""Networks applied to whole volumes: logits from overlapping patches, or the feature maps of an encoder in one pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F

from brainpretrain import scales
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError
from brainpretrain.files import atomic
from brainpretrain.preprocess import nifti, sessions
from brainpretrain.scales import Rule
from brainpretrain.weights import store


@torch.no_grad()
def sliding_window(
    network: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    patch_size: Sequence[int],
    overlap: float,
    weights: str,
    batch_size: int,
    mirror: Sequence[str],
    sides: Sequence[tuple[int, int]] = (),
) -> torch.Tensor:
    """Logits of a volume: at each voxel the weighted mean over all patches that contain it. Computed by MONAI.

    A volume smaller than the patch is padded with 0 on both sides, and the padding is removed again; the last patch along
    an axis ends where the volume ends.

    Args:
        network: patch (b c x y z) -> logits (b classes x y z).
        image: (1 c x y z).
        patch_size: (x y z).
        overlap: share of a patch that its neighbour contains too, 0 <= overlap < 1.
        weights: `constant`, or `gaussian` (voxels far from the patch centre count less).
        batch_size: patches per call of the network.
        mirror: axes out of `x y z`. The logits of a patch are the mean over all flips along them: 2 ** len(mirror) calls.
        sides: pairs of classes (left, right), which change places in the logits of a patch that was flipped along x.

    Returns:
        (1 classes x y z), float32.
    """
    from monai.inferers.utils import sliding_window_inference  # here, since importing MONAI takes seconds

    logits = sliding_window_inference(
        image, tuple(patch_size), batch_size, _mirrored(network, mirror, sides), overlap=overlap, mode=weights, cval=0.0
    )
    return cast(torch.Tensor, logits)


def _mirrored(
    network: Callable[[torch.Tensor], torch.Tensor], mirror: Sequence[str], sides: Sequence[tuple[int, int]]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """`network` averaged over the flips of a patch, as float32: half precision is too coarse for weighted sums."""
    opposite = {**{left: right for left, right in sides}, **{right: left for left, right in sides}}
    axes = [2 + "xyz".index(axis) for axis in mirror]
    flips = [flip for n in range(1, len(axes) + 1) for flip in itertools.combinations(axes, n)]

    def mean(patch: torch.Tensor) -> torch.Tensor:
        total = network(patch).float()
        for flip in flips:
            logits = network(patch.flip(flip)).flip(flip)
            if sides and 2 in flip:
                logits = logits[:, [opposite.get(number, number) for number in range(logits.shape[1])]]
            total = total + logits
        return total / (1 + len(flips)) if flips else total

    return mean


@torch.inference_mode()
def features(encoder: Encoder, image: torch.Tensor, scale: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Feature maps of a volume, finest first.

    A side that is no multiple of the encoder's divisor is padded at its end with 0, the value of the background. Cells of a
    map that cover nothing but padding are removed, so a side of n voxels gives ceil(n / stride) cells.

    Args:
        encoder: in evaluation mode.
        image: (b c x y z).
        scale: (c 4) of the encoder's rule of intensities, see `scales.py`.

    Returns:
        One map (b channels[i] x/strides[i] ...) per level.

    Raises:
        UserError: the volume is so small that the coarsest map would be one voxel.
    """
    size = image.shape[2:]
    padding = [-n % encoder.divisor for n in size]
    maps = encoder(scales.apply(F.pad(image, [0, padding[2], 0, padding[1], 0, padding[0]]), scale))
    return [level[:, :, *(slice(-(-n // stride)) for n in size)] for level, stride in zip(maps, encoder.strides, strict=True)]


def write_features(encoder_folder: Path, volume: Path, raw: bool, out: Path) -> list[tuple[int, ...]]:
    """Writes the feature maps of one volume as an .npz with an array (b c x y z) per level, `level0` the finest.

    A GPU is used if there is one.

    Args:
        encoder_folder: folder of encoder.safetensors and encoder.json.
        volume, raw: as `path` and `raw` of `read_image`.

    Returns:
        The shapes of the maps.

    Raises:
        UserError: as `read_image`, or the encoder cannot be loaded.
    """
    torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds the inputs of convolutions to 10 bits
    encoder, facts = store.encoder(encoder_folder)
    image, scale = read_image(volume, facts, raw)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scale = None if scale is None else scale.to(device)
    maps = [level.cpu().numpy() for level in features(encoder.to(device), image.to(device), scale)]
    with atomic(out) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **{f"level{number}": level for number, level in enumerate(maps)})
    return [level.shape for level in maps]


def read_image(path: Path, facts: Mapping[str, Any], raw: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A volume (b c x y z), float32, and the scale (c 4) of its intensities for the encoder; None: they stay as they are.

    Args:
        path: NIfTI, or an array (x y z), (c x y z) or (b c x y z) in a `.npy` file.
        facts: the encoder's facts.
        raw: use the values unchanged. Otherwise a NIfTI is prepared with the encoder's preprocess recipe: RAS, cropped,
            scaled to 0..1, resampled; an array is refused, since it has neither spacing nor orientation.

    Raises:
        UserError: the file is missing or damaged, or the encoder cannot take its shape or values.
    """
    moments: list[tuple[float, float]] = []
    if path.suffix == ".npy":
        array = _read_array(path, raw)
    elif raw:
        limits = nifti.Limits.of(facts["preprocess"]) if facts["preprocess"] else nifti.PLAUSIBLE
        array = nifti.read_volume(path, limits=limits).array
    elif facts["preprocess"] is None:
        raise UserError(
            "the encoder's JSON does not say how its volumes were prepared",
            where=path,
            fix="import it with --preprocess, or use --raw",
        )
    else:
        recipe = facts["preprocess"]
        limits = nifti.Limits.of(recipe)
        (own,) = sessions.prepare([(nifti.read_volume(path, limits=limits), None)], recipe)
        array, moments = own.image, [(own.facts["mean"], own.facts["std"])]
    image = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    image = image[(None,) * (5 - image.ndim)]
    if image.shape[1] != facts["in_channels"] or not image.isfinite().all():
        problem = f"shape {list(array.shape)}, but the encoder takes {facts['in_channels']} channel(s) of finite values"
        raise UserError(problem, where=path, fix="give (x y z), (c x y z) or (b c x y z)")
    scale = Rule.of_facts(facts).of_moments(moments) if moments else None
    return image, None if scale is None else torch.from_numpy(scale)


def _read_array(path: Path, raw: bool) -> np.ndarray:
    if not raw:
        raise UserError("an array has neither spacing nor orientation", where=path, fix="use --raw, or give a NIfTI file")
    try:
        array = np.load(path)
    except (OSError, ValueError, EOFError) as error:  # ValueError: it contains objects, which would need pickle
        raise UserError(f"no readable array: {error}", where=path, fix="save it with numpy.save, as numbers") from error
    if array.ndim not in (3, 4, 5) or array.dtype.kind not in "fiub":
        raise UserError(f"{array.ndim} axes of {array.dtype}", where=path, fix="give numbers (x y z), (c x y z) or (b c x y z)")
    return array
