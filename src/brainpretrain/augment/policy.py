"""A policy draws parameters per sample on the CPU and applies them to a batch on its device.

Rule: spatial transforms move image and target alike, intensity transforms change the image only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from brainpretrain.augment import intensity, spatial
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.errors import UserError
from brainpretrain.seeds import as_ints, generator

Params = dict[str, Any]


class Policy:
    """An entry of `augmentations:` at work.

    Args:
        config: the entry, as PolicyConfig or as plain mapping.
    """

    def __init__(self, config: PolicyConfig | Mapping[str, Any]) -> None:
        self.config = config if isinstance(config, PolicyConfig) else PolicyConfig.model_validate(config)

    def crop_size(self, patch_size: Sequence[int]) -> list[int]:
        """Size of the crop to load for a patch: larger if a spatial transform may read beyond the patch (181 for 128)."""
        spatials = (self.config.rotation, self.config.scale, self.config.elastic)
        factor = self.config.crop_factor if any(fields and fields.p > 0 for fields in spatials) else 1.0
        return [int(factor * n) for n in patch_size]

    def sample(self, seeds: Sequence[int] | torch.Tensor, shape: Sequence[int], patch_size: Sequence[int]) -> Params:
        """Draws what happens to each sample; depends on its seed alone, not on batch or device.

        Args:
            seeds: one per sample, ints >= 0.
            shape: (c x y z) of the crops that are loaded.
            patch_size: (x y z) of the patches that come out.

        Returns:
            `size`, the patch size, and, for each transform that fires at all, a mapping of CPU tensors: `samples` (k),
            the places in the batch, and its parameters (k ...).

        Raises:
            UserError: the crop is smaller than the patch.
        """
        size = tuple(int(n) for n in patch_size)
        if any(crop < n for crop, n in zip(shape[1:], size, strict=True)):
            raise UserError(f"a crop of {list(shape[1:])} holds no patch of {list(size)}", fix="load crops of `crop_size`")
        seeds, shape = as_ints(seeds), (int(shape[0]), *size)
        params: Params = {"size": size, **self._sample_spatial(seeds, size)}
        for name, transform in intensity.TRANSFORMS.items():
            drawn = self._draw(seeds, name, lambda rng, fields, draw=transform.draw: draw(rng, fields, shape))
            if drawn:
                params[name] = _stack(drawn)
        return params

    def _draw(self, seeds: Sequence[int], name: str, draw: Any) -> dict[int, Any]:
        """Draws of the samples on which transform `name` fires, by place in the batch."""
        fields = getattr(self.config, name)
        drawn = {}
        if fields is not None:
            for place, seed in enumerate(seeds):
                rng = generator(seed, name)
                found = draw(rng, fields) if rng.random() < fields.p else None
                if found is not None:
                    drawn[place] = found
        return drawn

    def _sample_spatial(self, seeds: Sequence[int], size: tuple[int, ...]) -> Params:
        rotations = self._draw(seeds, "rotation", spatial.draw_rotation)
        scales = self._draw(seeds, "scale", spatial.draw_scale)
        shifts = self._draw(seeds, "elastic", lambda rng, fields: spatial.draw_elastic(rng, fields, size))
        params: Params = {}
        for name, places in (
            ("affine", (rotations.keys() | scales.keys()) - shifts.keys()),
            ("elastic", shifts.keys()),  # and whatever else fires on these samples: one resampling for all
        ):
            drawn = {}
            for place in sorted(places):
                matrix = rotations.get(place, np.eye(3)) @ scales.get(place, np.eye(3))
                drawn[place] = {"matrix": matrix} | ({"shift": shifts[place]} if place in shifts else {})
            if drawn:
                params[name] = _stack(drawn)
        return params

    @torch.no_grad()
    def apply(
        self,
        image: torch.Tensor,
        params: Params,
        *,
        target: torch.Tensor | None = None,
        label: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Augments a batch on its device, in float32.

        Args:
            image: (b c x y z), the crops that `params` were drawn for.
            params: from `sample`.
            target: image (b c x y z) that moves along, trilinear; pass `image` itself to have it resampled once.
            label: integers (b x y z) that move along, nearest neighbour. Give a target or a label, not both.

        Returns:
            Image, and target or label, of patch size. A sample on which nothing fires is the centre of its crop, bit
            by bit. The two may share memory: do not write into them.
        """
        with torch.autocast(image.device.type, enabled=False):
            moved = _move(image.float(), params, spatial.sample_image)
            other = None
            if label is not None:
                other = _move(label[:, None], params, spatial.sample_label)[:, 0]
            elif target is not None:
                other = moved if target is image else _move(target.float(), params, spatial.sample_image)
            return _change_intensity(moved, params), other


def _move(x: torch.Tensor, params: Params, read: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Centre crop, and the spatial transforms of the samples on which one fires; `read` samples x at a grid."""
    size, crop = params["size"], tuple(x.shape[2:])
    out = spatial.centre_crop(x, size)
    if "affine" in params or "elastic" in params:
        out = out.clone()
    for name in ("affine", "elastic"):
        if name in params:
            places, drawn = _on(params[name], x.device)
            out[places] = read(x[places], spatial.sampling_grid(drawn["matrix"], drawn.get("shift"), crop, size))
    return out.contiguous()


def _change_intensity(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Intensity transforms in their order, each clipped to the range it found in a sample's channel."""
    names = [name for name in intensity.TRANSFORMS if name in params]
    out = x.clone() if names else x
    for name in names:
        places, drawn = _on(params[name], x.device)
        before = out[places]
        low, high = (extreme[..., None, None, None] for extreme in before.flatten(2).aminmax(dim=2))
        out[places] = intensity.TRANSFORMS[name].apply(before, **drawn).clamp(low, high)
    return out


def _on(drawn: Mapping[str, torch.Tensor], device: torch.device) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Places in the batch and the other parameters, on `device`."""
    moved = {key: value.to(device, non_blocking=True) for key, value in drawn.items()}
    return moved.pop("samples"), moved


def _stack(drawn: Mapping[int, Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Draws by place -> one tensor per parameter; real numbers as float32."""
    keys = next(iter(drawn.values())).keys()
    stacked = {key: torch.from_numpy(np.stack([np.asarray(one[key]) for one in drawn.values()])) for key in keys}
    stacked = {key: value.float() if value.is_floating_point() else value for key, value in stacked.items()}
    return {"samples": torch.tensor(list(drawn), dtype=torch.int64), **stacked}
