"""The models of an augmentation policy in YAML. Imports no torch.

A policy maps transforms to their fields; a transform that is not named never fires. `p` is the probability per sample,
`p_axis` per axis and `p_channel` per channel once the transform has fired, and a range [low, high] is drawn from
uniformly. The order of the keys has no effect; transforms are applied in the order of `PolicyConfig`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _ordered(values: list[float]) -> list[float]:
    if values[0] > values[1]:
        raise ValueError(f"low {values[0]} is above high {values[1]}")
    return values


_TWO, _ORDERED = Field(min_length=2, max_length=2), AfterValidator(_ordered)

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[list[float], _TWO, _ORDERED]
PositiveRange = Annotated[list[Positive], _TWO, _ORDERED]
NotNegativeRange = Annotated[list[Annotated[float, Field(ge=0)]], _TWO, _ORDERED]
ShareRange = Annotated[list[Annotated[float, Field(gt=0, le=1)]], _TWO, _ORDERED]
CountRange = Annotated[list[Annotated[int, Field(ge=1)]], _TWO, _ORDERED]


class Transform(BaseModel):
    """Base of every transform."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    p: Share


class Rotation(Transform):
    """About the patch centre, one angle per axis."""

    p_axis: Share
    angle_deg: Range


class Scale(Transform):
    """The same factor on all axes; it multiplies the sampled extent, so 0.9 zooms in."""

    factor: PositiveRange


class Elastic(Transform):
    """Uniform(-1, 1) noise per voxel, smoothed by a Gaussian of `sigma_voxels`, times `alpha`: a shift in voxels."""

    alpha: NotNegativeRange
    sigma_voxels: PositiveRange


class Mirror(Transform):
    """Flips image and label along each of `axes` (x: left and right) with probability `p`."""

    axes: Annotated[list[Literal["x", "y", "z"]], Field(min_length=1)]


class Noise(Transform):
    """Adds normal noise of standard deviation `sigma`."""

    sigma: NotNegativeRange


class Blur(Transform):
    """Gaussian blur."""

    p_channel: Share
    sigma_voxels: NotNegativeRange


class MultiplicativeNoise(Transform):
    """Multiplies by 1 + normal noise of standard deviation `sigma`."""

    sigma: NotNegativeRange


class Brightness(Transform):
    """Multiplies by `factor`."""

    factor: NotNegativeRange


class Contrast(Transform):
    """Multiplies the distance of a voxel from the mean of its channel by `factor`."""

    factor: NotNegativeRange


class Ghosting(Transform):
    """Motion ghosts: every `spacing`-th line of k-space along a random axis is multiplied by `alpha`."""

    alpha: NotNegativeRange
    spacing: CountRange


class Gibbs(Transform):
    """Ringing: only the central lines of k-space along a random axis stay.

    Their number is a share `kept` of the patch, or `lines` as in the published code: absolute, an odd number made even. With more
    lines than the patch has, only its highest frequencies stay, which destroys the image.
    """

    kept: ShareRange | None = None
    lines: CountRange | None = None

    @model_validator(mode="after")
    def _one_number(self) -> Gibbs:
        if (self.kept is None) == (self.lines is None):
            raise ValueError("give either 'kept' or 'lines'")
        return self


class LowResolution(Transform):
    """Shrinks an axis to `zoom` of its voxels (nearest) and enlarges it again (cubic)."""

    p_channel: Share
    p_axis: Share
    zoom: ShareRange


class BiasField(Transform):
    """Multiplies by 1 - sum over axes of ((x - c) / size)^2, c being any voxel of the patch."""


class Gamma(Transform):
    """Intensities to the power of gamma between the extremes of the patch.

    Gamma comes from `above` with probability `p_above`, else from `below`; with `p_invert` it works on the inverted
    patch, which is inverted back. `epsilon` is added to the range that intensities are divided by: next to nothing keeps
    the range, 1 is the published code's, which halves an image in [0, 1] before the power.
    """

    epsilon: Positive
    below: PositiveRange
    above: PositiveRange
    p_above: Share
    p_invert: Share


# of a transform that came later: written out as null, it would run finished trainings again
_LATER = Field(None, exclude_if=lambda fields: fields is None)


class PolicyConfig(BaseModel):
    """An entry of `augmentations:`; fields are in the order of application (AMAES Appendix B)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    note: str = Field("", exclude=True)
    crop_factor: Annotated[float, Field(ge=1)] = Field(
        1.0, description="spatial transforms read a crop this many times as large as the patch, so borders need no filling"
    )
    interpolation: Literal["cubic", "linear"] | None = Field(
        None,
        description="how spatial transforms read an image: cubic B-spline as the published code, or trilinear: faster, blurs",
    )
    resample_always: bool = Field(
        False,
        description="every sample is resampled about the centre of its crop, even if nothing is drawn: half a voxel off the"
        " grid where the crop is odd and the patch even (the published code)",
    )
    separate_kspace: bool = Field(
        False,
        description="where ghosting and Gibbs ringing both fire, each takes a magnitude of its own (the published code)"
        " instead of one after both",
    )
    rotation: Rotation | None = None
    scale: Scale | None = None
    elastic: Elastic | None = None
    mirror: Mirror | None = _LATER
    noise: Noise | None = None
    blur: Blur | None = None
    multiplicative_noise: MultiplicativeNoise | None = None
    brightness: Brightness | None = _LATER
    contrast: Contrast | None = _LATER
    ghosting: Ghosting | None = None
    gibbs: Gibbs | None = None
    low_resolution: LowResolution | None = None
    bias_field: BiasField | None = None
    gamma: Gamma | None = None

    @property
    def mirrored(self) -> list[str]:
        """Axes out of `x y z` along which samples are flipped."""
        return self.mirror.axes if self.mirror and self.mirror.p > 0 else []

    @property
    def is_spatial(self) -> bool:
        """Whether anything may move voxels off their grid."""
        return self.resample_always or any(fields and fields.p > 0 for fields in (self.rotation, self.scale, self.elastic))

    @model_validator(mode="after")
    def _says_how_to_read(self) -> PolicyConfig:
        if self.is_spatial and self.interpolation is None:
            raise ValueError("spatial transforms need 'interpolation'")
        return self
