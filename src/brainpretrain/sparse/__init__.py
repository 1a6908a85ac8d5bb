"""Networks on the visible part of an image: the same encoders, on maps that know which of their voxels are visible."""

from brainpretrain.sparse.cells import Cells
from brainpretrain.sparse.maps import Masked, Packed, SparseMap, sparse

__all__ = ["Cells", "Masked", "Packed", "SparseMap", "sparse"]
