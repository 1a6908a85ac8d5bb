import copy
import shutil

import pytest
import torch
from torch import nn

from brainpretrain import backbones, config, decoders
from brainpretrain.training import execution
from helpers import ROOT

ENTRIES = config.load(ROOT / "config").backbones


def test_what_is_computed_again_holds_nearly_all_parameters_in_several_parts():
    for architecture in backbones.names():
        entry = ENTRIES[f"{architecture}_tiny"]
        encoder = backbones.build(architecture, 1, **entry.options)
        for network in (encoder, decoders.build(entry.decoder, encoder, 2, **entry.decoder_options)):
            parts = execution.parts(network)
            inside = sum(p.numel() for part in parts for p in part.parameters())
            assert len(parts) >= 3 and inside > 0.8 * sum(p.numel() for p in network.parameters()), architecture


def test_a_sequence_of_layers_is_one_part():
    layers = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU())
    assert execution.parts(layers) == [layers]
    assert execution.parts(nn.Linear(2, 2)) == []


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch, about itself
def test_compiling_keeps_names_and_results():
    """In float64: compiled code sums in another order, and a norm over few voxels amplifies the rounding of float32."""
    torch.manual_seed(0)
    network = backbones.build("unet", 1, width=2, levels=1, convs_per_stage=1).double()
    image = torch.rand(1, 1, 4, 4, 4, dtype=torch.float64)
    plain, names = network(image), list(network.state_dict())
    execution.apply([network], ["channels_last", "checkpointing", "compile"])
    for found, wanted in zip(network(image), plain, strict=True):
        torch.testing.assert_close(found, wanted)
    assert list(network.state_dict()) == names
    assert network._compiled_call_impl is not None


def steps(resume: bool, align: bool) -> torch.Tensor:
    """A channels-last weight after two fused steps, with the state stored and loaded in between, or not."""
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(4, 3, 3, 3, 3, generator=generator) for _ in range(2))
    weight = nn.Parameter(weight.to(memory_format=torch.channels_last_3d))
    weight.grad = gradient.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True, amsgrad=True)
    optimizer.step()
    if resume:
        stored = copy.deepcopy(optimizer.state_dict())
        for state in stored["state"].values():
            state.update({name: value.contiguous() for name, value in state.items()})
        optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True, amsgrad=True)
        optimizer.load_state_dict(stored)
    if align:
        execution.align(optimizer)
    optimizer.step()
    return weight.detach()


def test_state_from_a_checkpoint_is_laid_out_like_the_weights():
    straight = steps(resume=False, align=True)
    assert torch.equal(steps(resume=True, align=True), straight)
    assert not torch.equal(steps(resume=True, align=False), straight)  # or `align` is not needed any more


@pytest.mark.parametrize("how", [["compile"], ["channels_last"], ["checkpointing"], []])
def test_the_study_may_choose(config_dir, how):
    with open(config_dir / "config.yaml") as stream:
        text = stream.read()
    (config_dir / "config.yaml").write_text(text.replace("execution: []", f"execution: {how}"))
    assert config.load(config_dir).settings.execution == how
