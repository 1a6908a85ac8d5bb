"""The reference preprocessing as a party: yucca's own preprocessor with the plan of AMAES' pretraining; 1.1.7 or later.

Arguments: `work` (with raw/task/imagesTr/<volume>_000.nii.gz), `recipe`, and `stored_as`, a folder in `work` for its files.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import arguments, peak_memory, seconds, serve

GIVEN = arguments()
WORK = Path(GIVEN["work"])
os.environ |= {"YUCCA_RAW_DATA": str(WORK / "raw"), "YUCCA_PREPROCESSED_DATA": str(WORK / GIVEN["stored_as"])}

if not version("yucca").startswith("1."):
    import torchvision_names  # noqa: F401 - before what needs torchvision
from yucca.functional import preprocessing as functional  # noqa: E402 - reads its paths from the environment
from yucca.functional.utils.loading import read_file_to_nifti_or_np  # noqa: E402
from yucca.pipeline.preprocessing.UnsupervisedPreprocessor import UnsupervisedPreprocessor  # noqa: E402

torch.set_num_threads(1)
SPACING, SCHEME = GIVEN["recipe"]["spacing_mm"], ["volume_wise_znorm"]
PLANS = {
    "plans_name": "plans",
    "normalization_scheme": SCHEME,
    "crop_to_nonzero": True,
    "keep_aspect_ratio_when_using_target_size": False,
    "target_coordinate_system": "RAS",
    "target_spacing": SPACING,
    "target_size": None,
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "dataset_properties": {"classes": [], "data_dimensions": 3, "image_extension": "nii.gz", "intensities": None},
}
(WORK / "plans.json").write_text(json.dumps(PLANS))
PREPROCESSOR = UnsupervisedPreprocessor(str(WORK / "plans.json"), task="task", threads=1)
PREPROCESSOR.initialize_properties()
PREPROCESSOR.initialize_paths()
OUT = Path(PREPROCESSOR.target_dir)
OUT.mkdir(parents=True, exist_ok=True)


def _store(volume: str) -> None:
    for suffix in (".npy", ".pkl"):  # what exists is skipped
        (OUT / f"{volume}{suffix}").unlink(missing_ok=True)
    PREPROCESSOR.preprocess_train_subject(f"{volume}.nii.gz")


def store(names: list[str]) -> float:
    """Seconds per volume from files to stored arrays."""
    return seconds(lambda: [_store(volume) for volume in names]) / len(names)


def memory(names: list[str]) -> int | None:
    """Bytes that `store` needs in addition to those of the process."""
    return peak_memory(lambda: [_store(volume) for volume in names])


def stored(names: list[str]) -> dict[str, Any]:
    """Bytes per stored volume, and the shape of the first."""
    paths = [OUT / f"{volume}.npy" for volume in names]
    return {
        "bytes": sum(path.stat().st_size for path in paths) / len(paths),
        "shape": np.load(paths[0], mmap_mode="r").shape[1:],
    }


def image(volume: str, box: list) -> None:
    """Writes to peer.npy the result of yucca's functions for this box instead of their own, which is one voxel larger."""
    file = read_file_to_nifti_or_np(str(WORK / "raw" / "task" / "imagesTr" / f"{volume}_000.nii.gz"))
    images, _, facts = functional.apply_nifti_preprocessing_and_return_numpy([file], np.array(file.shape), "RAS")
    cut = images[0][tuple(slice(*side) for side in box)]
    size, _, _ = functional.determine_target_size(
        [cut], np.array(facts["original_spacing"]), [0, 1, 2], None, SPACING, keep_aspect_ratio=False
    )
    (result,) = functional.resample_and_normalize_case([cut], size, SCHEME)
    np.save(WORK / "peer.npy", np.asarray(result, np.float32))


serve(f"yucca {version('yucca')}", {"store": store, "memory": memory, "stored": stored, "image": image})
