"""Encoders and whole steps of S3D as a party. Arguments: `patch`, `block`, `encoder` and `step` (options of ResEnc), `batch`."""

import torch

from brainpretrain import backbones, pretext
from brainpretrain.masking import hidden_blocks
from brainpretrain.sizes import unhidden_blocks
from brainpretrain.sparse import Cells, sparse
from harness import arguments, seconds, serve

torch.set_num_threads(1)
GIVEN = arguments()
SIZE, BLOCK, BATCH = [GIVEN["patch"]] * 3, GIVEN["block"], GIVEN["batch"]
GRID = [n // BLOCK for n in SIZE]
DECODER = {"decoder": "unet", "decoder_options": {"convs_per_stage": 1, "skips": True}}
torch.manual_seed(0)
ENCODER = backbones.build("resenc", 1, **GIVEN["encoder"])
IMAGE = torch.rand(BATCH, 1, *SIZE)
TASKS: dict[str, torch.nn.Module] = {}


def _cells(ratio: float, seed: int, side: int) -> Cells:
    grid = [n // side for n in SIZE]
    hidden = hidden_blocks(range(seed, seed + BATCH), torch.Size(grid).numel(), ratio, unhidden_blocks)
    return Cells(torch.from_numpy(~hidden.reshape(BATCH, *grid)), side)


def encoder(how: str, ratio: float, seed: int, side: int) -> list[float]:
    """CPU seconds of forward pass, and of forward and backward pass, of the encoder: `dense`, `masked` or `packed`."""
    found: list = []
    ENCODER.zero_grad()

    def forward() -> None:
        image = IMAGE if how == "dense" else sparse(IMAGE, _cells(ratio, seed, side), how == "packed")
        found.extend(x if isinstance(x, torch.Tensor) else x.value for x in ENCODER(image))

    first = seconds(forward)
    gradients = [torch.ones_like(x) for x in found]
    return [first, first + seconds(lambda: torch.autograd.backward(found, gradients))]


def visible(ratio: float, side: int) -> float:
    """Share of the blocks that are visible."""
    return len(_cells(ratio, 0, side)) / BATCH / torch.Size([n // side for n in SIZE]).numel()


def step(how: str, ratio: float, seed: int) -> float:
    """CPU seconds of a whole step: `dense` (MAE), `masked` or `packed` (S3D); masks, losses, gradients, optimiser."""
    if how not in TASKS:
        torch.manual_seed(0)
        options = {"sparse_encoder": False, "densify": "none"} if how == "dense" else {"packed": how == "packed"}
        network = backbones.build("resenc", 1, **GIVEN["step"])
        TASKS[how] = pretext.build("s3d", network, 1, mask_size=BLOCK, mask_ratio=ratio, **DECODER, **options)
        TASKS[how].optimizer = torch.optim.SGD(TASKS[how].parameters(), lr=1e-4, momentum=0.99, nesterov=True)
    task = TASKS[how]
    task.how = task.how._replace(mask_ratio=ratio)

    def work() -> None:
        task.optimizer.zero_grad()
        task(IMAGE, IMAGE, list(range(seed, seed + BATCH)))["loss"].backward()
        task.optimizer.step()

    return seconds(work)


serve("brainpretrain", {"encoder": encoder, "visible": visible, "step": step})
