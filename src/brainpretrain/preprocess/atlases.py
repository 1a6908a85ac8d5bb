"""The atlas whose space volumes may be brought into: the ICBM152 head of the package nilearn, or a volume of the user's.

Reasons of a `BadVolume` raised here are those of the reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path

from brainpretrain.errors import UserError
from brainpretrain.preprocess.nifti import Volume, read_volume
from brainpretrain.preprocess.recipes import ICBM152

_SHIPPED = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True)
class Atlas:
    """An atlas: its volume, the name that tables show, and the checksum of header and voxels."""

    volume: Volume
    name: str
    checksum: str


@lru_cache(maxsize=2)
def load(name: str) -> Atlas:
    """The atlas `icbm152`, or the volume at a path.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    if name == ICBM152:
        with as_file(files("nilearn") / "datasets" / "data" / _SHIPPED) as path:  # located only: importing nilearn takes seconds
            volume = read_volume(path)
    else:
        try:
            volume = read_volume(Path(name))
        except UserError as error:  # no rejection: it concerns every volume
            problem = f"the atlas cannot be used: {error.problem}"
            raise UserError(problem, where=name, fix="give icbm152, or a NIfTI file") from error
    return Atlas(volume, ICBM152 if name == ICBM152 else Path(name).name, volume.facts["checksum"])
