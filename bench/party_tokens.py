"""Encoder and whole steps of ViT-MAE as a party. Arguments: `patch`, `batch`, `encoder` (options of UNETR), `light` (decoder)."""

import torch

from brainpretrain import backbones, pretext
from harness import arguments, seconds, serve

torch.set_num_threads(1)
GIVEN = arguments()
BATCH, SIZE = GIVEN["batch"], [GIVEN["patch"]] * 3
torch.manual_seed(0)
ENCODER = backbones.build("unetr", 1, image_size=SIZE, **GIVEN["encoder"])
IMAGE = torch.rand(BATCH, 1, *SIZE)
TASK = pretext.build("vit_mae", ENCODER, 1, mask_ratio=0.5, light_decoder=GIVEN["light"])
OPTIMIZER = torch.optim.AdamW(TASK.parameters(), lr=1e-6, weight_decay=1e-5, fused=True)  # as trainings have it


def _places(ratio: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Visible and hidden tokens; with a ratio of 0 the encoder sees all, and the loss is at as many as with 0.85."""
    TASK.how = TASK.how._replace(mask_ratio=ratio or 0.85)
    _, kept, removed = TASK._mask(IMAGE, list(range(seed, seed + BATCH)))
    return (kept if ratio else torch.arange(kept.shape[1] + removed.shape[1]).expand(BATCH, -1)), removed


def encoder(ratio: float, seed: int) -> float:
    """CPU seconds of forward and backward pass of the encoder."""
    kept, _ = _places(ratio, seed)
    return seconds(lambda: ENCODER.attend(IMAGE, kept if ratio else None)[-1].sum().backward())


def step(ratio: float, seed: int) -> float:
    """CPU seconds of a whole step: both networks, loss, gradients, optimiser."""
    kept, removed = _places(ratio, seed)

    def work() -> None:
        OPTIMIZER.zero_grad()
        TASK.error(TASK.prediction(IMAGE, kept, removed), TASK.target(IMAGE)[0], removed).backward()
        OPTIMIZER.step()

    return seconds(work)


serve("brainpretrain", {"encoder": encoder, "step": step})
