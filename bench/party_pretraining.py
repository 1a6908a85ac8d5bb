"""This project's pretraining as a party. Arguments: `table` and `work` of stored volumes, `patch`, `recipe`, `policy`.

The loop is that of the training without checkpoints and log: items of the loader, its collate, the step of
`training.modules.Pretraining`, its optimiser.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from brainpretrain import backbones, pretext
from brainpretrain.augment.policy import Policy
from brainpretrain.backbones.base import parameters
from brainpretrain.config.sections import Pretext
from brainpretrain.files import read_tsv
from brainpretrain.training import execution, schedule
from brainpretrain.training import samples as data
from brainpretrain.training.modules import Pretraining
from harness import arguments, seconds, serve

torch.set_num_threads(1)
GIVEN = arguments()
RECIPE, PATCH = GIVEN["recipe"], [GIVEN["patch"]] * 3
POLICY = Policy(GIVEN["policy"])
SAMPLES = data.PretrainPatches(read_tsv(Path(GIVEN["table"])).assign(dataset="bench"), GIVEN["work"], PATCH, POLICY, seed=0)
MODULES: dict[str, Any] = {}  # by options of `execution`: the module, its optimiser, and whether in bfloat16


def network(options: dict[str, int], how: Sequence[str], mixed: bool) -> dict[str, int]:
    """Begins a training, mixed or in float32; returns the parameters of the network, and the operations of a step on a patch."""
    torch.manual_seed(0)
    encoder = backbones.build("unet", 1, **options)
    task = pretext.build(RECIPE["method"], encoder, 1, **RECIPE["options"])
    image = torch.zeros(1, 1, *PATCH)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        task(image, image, [0])
    recipe = Pretext.model_validate(RECIPE | {"precision": "bf16-mixed" if mixed else "32-true"})
    module = Pretraining(task, recipe, POLICY, schedule.stretches(recipe.phases, 1))
    execution.apply([module.encoder, *module.decoders], how)
    MODULES["+".join(how)] = module, module.configure_optimizers()["optimizer"], mixed
    return {"parameters": parameters(task), "operations": 3 * counter.get_total_flops()}


def trained(how: Sequence[str], first: int, steps: int, batch: int) -> dict[str, float]:
    """Seconds of steps on samples from disk: of reading and augmenting, and of all."""
    module, optimizer, mixed = MODULES["+".join(how)]

    def samples(made: list, numbers: Sequence[int]) -> None:
        items = data.collate([SAMPLES[number] for number in numbers])
        made += [*module.augmented(items), items["seed"]]

    def step(made: Sequence) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = module.task(*made)["loss"]
        loss.backward()
        optimizer.step()

    made_s = step_s = 0.0
    for number in range(steps):
        made: list = []
        numbers = range(first + number * batch, first + (number + 1) * batch)
        made_s += seconds(lambda m=made, n=numbers: samples(m, n))
        step_s += seconds(lambda m=made: step(m))
    return {"samples": made_s, "all": made_s + step_s}


serve("brainpretrain", {"network": network, "trained": trained})
