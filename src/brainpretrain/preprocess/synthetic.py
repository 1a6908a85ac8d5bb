"""Synthetic head volumes (phantoms), computed from the ICBM152 maps that the package nilearn contains.

A subject is an anatomy: a smooth deformation of the template, lesions, and a head around the brain or none. A volume is a subject
imaged with one sequence on a grid of its own. Image and label are both evaluated at the voxel centres of that grid, so a label
always fits its image. World coordinates are RAS, in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Annotated

import nibabel as nib
import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from scipy import ndimage
from scipy.spatial.transform import Rotation

GREY, WHITE, LESION = 1, 2, 3
LABELS = {GREY: "grey_matter", WHITE: "white_matter", LESION: "lesion"}

UNITS_PER_INTENSITY = 1000  # intensity 1 as stored in int16
FIELD_STEP_MM = 10.0  # spacing of the grid of a smooth field; fine enough for linear interpolation
LESION_EDGE = 12.0  # steepness of the soft border of a lesion
BRAIN_T1 = 0.2  # T1w intensity of the template, in 0..1, at and above which a voxel is entirely brain

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"the lower limit {limits[0]} is above the upper limit {limits[1]}")
    return limits


PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
CountRange = Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], AfterValidator(_rising)]


class Settings(BaseModel):
    """Base of the settings below: no field has a default, unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Anatomy(Settings):
    """Variation between subjects. `deformation_mm`: standard deviation of the displacement at the nodes of a lattice with the
    spacing `deformation_scale_mm`. `size_sd`: standard deviation of the logarithm of the brain's relative size."""

    deformation_mm: NotNegative
    deformation_scale_mm: Positive
    size_sd: NotNegative
    lesion_radius_mm: PositiveRange
    head_fraction: Share
    skull_mm: Positive
    scalp_mm: Positive


class Grid(Settings):
    """Variation between grids: spacing of each axis, air around the object, fraction of oblique grids with rotations up to
    `oblique_deg` about each axis, fraction of grids whose axes are flipped or permuted."""

    spacing_mm: PositiveRange
    air_mm: NotNegative
    oblique_fraction: Share
    oblique_deg: NotNegative
    reoriented_fraction: Share


class Contrast(Settings):
    """Intensity of each tissue in one sequence, in 0..1. `detail`: factor for the T1w detail of the template."""

    grey: NotNegative
    white: NotNegative
    csf: NotNegative
    lesion: NotNegative
    skull: NotNegative
    scalp: NotNegative
    detail: float


class Signal(Settings):
    """Intensities of tissues. `contrast_sd`: relative standard deviation of a tissue's intensity between volumes; `bias`:
    largest logarithmic gain of the coil, which varies over `bias_scale_mm`; `noise`: standard deviation of the noise in
    both channels of the magnitude image, in units of intensity."""

    contrasts: dict[str, Contrast]
    contrast_sd: NotNegative
    bias: NotNegative
    bias_scale_mm: Positive
    noise: NotNegative


class Recipe(Settings):
    """All settings of a phantom except seed and counts."""

    lesions_per_subject: CountRange
    anatomy: Anatomy
    grid: Grid
    signal: Signal


@dataclass(frozen=True)
class Template:
    """Maps (x y z, float32) on one grid: tissue fractions, brain mask, T1w detail and distance from the brain; and in world
    coordinates (mm) the centre (3) and extent (3) of the brain, and points deep in white matter (n 3)."""

    grey: np.ndarray
    white: np.ndarray
    brain: np.ndarray
    detail: np.ndarray
    distance_mm: np.ndarray
    affine: np.ndarray
    centre_mm: np.ndarray
    extent_mm: np.ndarray
    deep_white_mm: np.ndarray

    def sample(self, values: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
        """The values (n) of a map at template points (n 3), interpolated linearly; outside the grid the nearest value."""
        return ndimage.map_coordinates(values, _voxels(self.affine, points_mm), order=1, mode="nearest")


@dataclass(frozen=True)
class SmoothField:
    """A smooth random field: values (components, x, y, z) on a grid with the given affine."""

    values: np.ndarray
    affine: np.ndarray

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """The values (n components) at points (n 3), interpolated linearly."""
        at = _voxels(self.affine, points_mm)
        parts = [ndimage.map_coordinates(values, at, order=1, mode="nearest") for values in self.values]
        return np.stack(parts, axis=1)


@dataclass(frozen=True)
class Subject:
    """One anatomy: displacement field in mm, relative size, lesions (centres in template mm, radii in mm), and a head or none."""

    displacement: SmoothField
    size: float
    lesion_centres_mm: np.ndarray
    lesion_radii_mm: np.ndarray
    head: bool


@lru_cache(maxsize=1)
def load_template(pool: int) -> Template:
    """The ICBM152 2009a maps, averaged over blocks of `pool` mm."""
    images = {kind: _read_map(kind) for kind in ("t1", "gm", "wm")}
    t1, grey, white = (_pooled(np.asarray(image.dataobj, np.float32) / 255, pool) for image in images.values())
    native = np.asarray(images["t1"].affine)
    affine = native @ np.diag([pool, pool, pool, 1.0])
    affine[:3, 3] += native[:3, :3] @ np.full(3, (pool - 1) / 2)
    brain = np.clip(t1 / BRAIN_T1, 0, 1)
    outside = brain <= 0.5
    inside = _world(affine, np.argwhere(~outside))
    low, high = inside.min(axis=0), inside.max(axis=0)
    return Template(
        grey=grey,
        white=white,
        brain=brain,
        detail=_detail(t1, grey, white, brain),
        distance_mm=np.asarray(ndimage.distance_transform_edt(outside, sampling=pool), np.float32),
        affine=affine,
        centre_mm=(low + high) / 2,
        extent_mm=high - low,
        deep_white_mm=_world(affine, np.argwhere(ndimage.uniform_filter(white, 5) > 0.9)),
    )


def draw_subject(recipe: Recipe, template: Template, rng: np.random.Generator) -> Subject:
    """Draws an anatomy. A lesion is the union of three blobs around a point deep in white matter."""
    anatomy = recipe.anatomy
    displacement = _random_field(template, anatomy.deformation_scale_mm, 3, anatomy.deformation_mm, rng)
    size = float(np.exp(rng.normal(0, anatomy.size_sd)))
    head = bool(rng.random() < anatomy.head_fraction)
    centres, radii = [], []
    for _ in range(rng.integers(recipe.lesions_per_subject[0], recipe.lesions_per_subject[1] + 1)):
        centre = template.deep_white_mm[rng.integers(len(template.deep_white_mm))]
        radius = rng.uniform(*anatomy.lesion_radius_mm)
        centres += [centre + rng.normal(0, radius / 2, 3) for _ in range(3)]
        radii += [radius * rng.uniform(0.5, 1) for _ in range(3)]
    return Subject(displacement, size, np.reshape(centres, (-1, 3)), np.asarray(radii), head)


def render(
    subject: Subject, sequence: str, recipe: Recipe, template: Template, rng: np.random.Generator
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Draws a grid and images a subject on it.

    Returns:
        Image (int16, not negative; exactly 0 around the brain unless the subject has a head) and label (uint8), on the same grid.
    """
    shape, affine = _draw_grid(subject, template, recipe, rng)
    orientation = _draw_orientation(recipe.grid, rng)
    points = _world(affine, np.indices(shape).reshape(3, -1).T)
    tissues = _tissues(subject, template, recipe.anatomy, points)
    magnitude = _magnitude(tissues, points, sequence, recipe.signal, template, rng)
    if not subject.head:
        magnitude[tissues["grey"] + tissues["white"] + tissues["csf"] + tissues["lesion"] < 0.5] = 0
    image = np.clip(np.rint(magnitude * UNITS_PER_INTENSITY), 0, np.iinfo(np.int16).max).astype(np.int16)
    label = _label(tissues)
    return _nifti(image.reshape(shape), affine, orientation), _nifti(label.reshape(shape), affine, orientation)


def _magnitude(
    tissues: dict[str, np.ndarray],
    points: np.ndarray,
    sequence: str,
    signal: Signal,
    template: Template,
    rng: np.random.Generator,
) -> np.ndarray:
    """The magnitude image (n) of tissues at `points`: contrast, bias field and Rician noise."""
    contrast = signal.contrasts[sequence].model_dump()
    gains = np.exp(rng.normal(0, signal.contrast_sd, len(contrast)))
    intensity = sum(contrast[name] * gain * tissues[name] for name, gain in zip(contrast, gains, strict=True))
    bias = _random_field(template, signal.bias_scale_mm, 1, 1.0, rng)(points)[:, 0]
    intensity = np.maximum(intensity, 0) * np.exp(signal.bias * np.tanh(bias))
    noise = rng.normal(0, signal.noise, (2, len(points)))
    return np.hypot(intensity + noise[0], noise[1])


def _tissues(subject: Subject, template: Template, anatomy: Anatomy, points: np.ndarray) -> dict[str, np.ndarray]:
    """The fraction of each tissue, and the T1w detail, at world points (n 3)."""
    at = template.centre_mm + (points - template.centre_mm) / subject.size + subject.displacement(points)
    grey, white, brain = (template.sample(values, at) for values in (template.grey, template.white, template.brain))
    lesion = _lesion_fraction(subject, at) * np.clip(2 * white, 0, 1)
    tissues = {
        "grey": grey * (1 - lesion),
        "white": white * (1 - lesion),
        "csf": np.clip(brain - grey - white, 0, 1) * (1 - lesion),
        "lesion": lesion,
        "detail": template.sample(template.detail, at) * (1 - lesion),
    }
    if subject.head:
        distance, skin_mm = template.sample(template.distance_mm, at), anatomy.skull_mm + anatomy.scalp_mm
        tissues["scalp"] = np.clip((distance - anatomy.skull_mm) / 2, 0, 1) * np.clip(skin_mm - distance, 0, 1)
        tissues["skull"] = (distance <= skin_mm) * (1 - brain) * (1 - tissues["scalp"])
    else:
        tissues["scalp"] = tissues["skull"] = np.zeros_like(brain)
    return tissues


def _lesion_fraction(subject: Subject, at: np.ndarray) -> np.ndarray:
    """Soft union of blobs; it is 0.5 at the radius of a single blob."""
    total = np.zeros(len(at))
    for centre, radius in zip(subject.lesion_centres_mm, subject.lesion_radii_mm, strict=True):
        near = np.flatnonzero(np.abs(at[:, 2] - centre[2]) < 3 * radius)
        total[near] += 0.5 ** (((at[near] - centre) ** 2).sum(axis=1) / radius**2)
    return 1 / (1 + np.exp(-LESION_EDGE * (total - 0.5)))


def _label(tissues: dict[str, np.ndarray]) -> np.ndarray:
    grey, white, lesion = tissues["grey"], tissues["white"], tissues["lesion"]
    rest = 1 - grey - white - lesion
    label = np.zeros(len(grey), np.uint8)
    label[(grey > white) & (grey > rest)] = GREY
    label[(white >= grey) & (white > rest)] = WHITE
    label[lesion > 0.5] = LESION
    return label


def _draw_grid(
    subject: Subject, template: Template, recipe: Recipe, rng: np.random.Generator
) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a grid that contains the object, with axes near R, A and S."""
    grid, anatomy = recipe.grid, recipe.anatomy
    spacing = rng.uniform(*grid.spacing_mm, size=3).round(3)
    oblique = rng.random() < grid.oblique_fraction
    angles = rng.uniform(-grid.oblique_deg, grid.oblique_deg, 3) * oblique
    around = grid.air_mm + (anatomy.skull_mm + anatomy.scalp_mm if subject.head else 0)
    shape = np.ceil((template.extent_mm * subject.size + 2 * around) / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = template.centre_mm - affine[:3, :3] @ ((shape - 1) / 2)
    return tuple(int(n) for n in shape), affine


def _draw_orientation(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """A nibabel orientation (axis, flip): a random permutation with random flips, or the identity."""
    axes, flips = rng.permutation(3), rng.choice([-1, 1], 3)
    if rng.random() < grid.reoriented_fraction:
        return np.stack([axes, flips], axis=1)
    return np.stack([np.arange(3), np.ones(3)], axis=1)


def _nifti(array: np.ndarray, affine: np.ndarray, orientation: np.ndarray) -> nib.Nifti1Image:
    image = nib.Nifti1Image(array, affine).as_reoriented(orientation.tolist())
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    return image


def _random_field(template: Template, scale_mm: float, components: int, sd: float, rng: np.random.Generator) -> SmoothField:
    """A cubic B-spline over the template and its surroundings, whose normally distributed coefficients are `scale_mm` apart."""
    nodes = np.ceil(2 * template.extent_mm / scale_mm).astype(int) + 1
    zoom = max(1.0, scale_mm / FIELD_STEP_MM)
    coefficients = rng.normal(0, sd, (components, *nodes))
    values = np.stack([np.asarray(ndimage.zoom(c, zoom, order=3, prefilter=False)) for c in coefficients])
    affine = np.eye(4)
    affine[:3, :3] = np.diag(scale_mm * (nodes - 1) / (np.array(values.shape[1:]) - 1))
    affine[:3, 3] = template.centre_mm - scale_mm * (nodes - 1) / 2
    return SmoothField(values, affine)


def _read_map(kind: str) -> nib.Nifti1Image:
    # Located as a file, since importing nilearn.datasets takes seconds.
    resource = files("nilearn") / "datasets" / "data" / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    with as_file(resource) as path:
        image = nib.Nifti1Image.from_filename(path)
        return nib.Nifti1Image(np.asarray(image.dataobj), image.affine)


def _pooled(array: np.ndarray, pool: int) -> np.ndarray:
    """Means over cubic blocks with edges of `pool` voxels; incomplete blocks are dropped."""
    x, y, z = (n // pool for n in array.shape)
    blocks = array[: x * pool, : y * pool, : z * pool].reshape(x, pool, y, pool, z, pool)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def _detail(t1: np.ndarray, grey: np.ndarray, white: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """The part of the T1w template that tissue fractions do not explain: deep nuclei, vessels, cortical texture."""
    inside = brain > 0.5
    design = np.stack([grey[inside], white[inside], (brain - grey - white)[inside]], axis=1)
    # Rounded, so that the order in which threads add has no effect on voxels.
    weights = np.linalg.lstsq(design, t1[inside], rcond=None)[0].round(6)
    detail = np.zeros_like(t1)
    detail[inside] = t1[inside] - design @ weights
    return detail


def _world(affine: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """World coordinates (n 3) of voxels (n 3)."""
    return np.einsum("ij,nj->ni", affine[:3, :3], voxels) + affine[:3, 3]


def _voxels(affine: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Voxel coordinates (3 n) of points (n 3)."""
    return np.einsum("ij,nj->in", np.linalg.inv(affine[:3, :3]), points_mm - affine[:3, 3])
