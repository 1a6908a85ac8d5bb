"""nnU-Net's default training pipeline as a party: its data set, its loader, its transforms. It does less than AMAES'.

Arguments: `volumes` (float32 .npy each), `patch`, `work`. Rotation and scale are trilinear, and there is no elastic
deformation. Labels are empty and without deep supervision, which spares it work.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from harness import arguments, seconds, serve

torch.set_num_threads(1)
np.random.seed(0)
GIVEN = arguments()
PATCH, FOLDER = (GIVEN["patch"],) * 3, Path(GIVEN["work"]) / "nnunet"
TURN = (-np.pi / 6, np.pi / 6)
MIRROR = (0, 1, 2)


def _loader() -> nnUNetDataLoader:
    FOLDER.mkdir()
    for number, path in enumerate(GIVEN["volumes"]):
        image = np.load(path)[None]
        blocks, chunks = comp_blosc2_params(image.shape, PATCH)
        properties = {"class_locations": {1: np.zeros((0, 4), int)}}
        nnUNetDatasetBlosc2.save_case(
            image, np.zeros(image.shape, np.int8), properties, str(FOLDER / f"v{number}"), chunks, blocks, chunks, blocks
        )
    transforms = nnUNetTrainer.get_training_transforms(
        PATCH, TURN, None, MIRROR, do_dummy_2d_data_aug=False, use_mask_for_norm=[False]
    )
    return nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(FOLDER)), 1, get_patch_size(PATCH, TURN, TURN, TURN, (0.85, 1.25)), PATCH,
        LabelManager({"background": 0, "any": 1}, None), transforms=transforms,
    )  # fmt: skip


LOADER = _loader()
for _ in range(40):  # its blur first tries which of its methods is fastest, which takes seconds and is not counted
    LOADER.generate_train_batch()


def augmented(first: int, count: int) -> list[float]:
    """Seconds of samples from disk to tensor."""
    return [seconds(LOADER.generate_train_batch) for _ in range(count)]


serve(f"nnU-Net {version('nnunetv2')}", {"augmented": augmented})
