import json

import pytest
import torch

from brainpretrain import cli, config
from brainpretrain.backbones.base import parameters
from brainpretrain.errors import UserError
from brainpretrain.training import counts
from helpers import ROOT

CONFIG = config.load(ROOT / "config")
KNOWN = [
    pytest.param(name, network, id=f"{name}-{network.pretext or network.classes or 'encoder'}")
    for name, entry in CONFIG.backbones.items()
    for network in entry.expected
]


@pytest.mark.parametrize(("name", "network"), KNOWN)
def test_every_network_has_exactly_the_parameters_of_the_published_one(name, network):
    with torch.device("meta"):
        found = counts.build(CONFIG, name, network.pretext, network.classes)
    assert parameters(found) == network.parameters


@pytest.mark.parametrize(("name", "network"), [known for known in KNOWN if known.values[1].gflop])
def test_operations_are_those_of_the_reference(name, network):
    found = counts.flops(CONFIG, name, network.pretext, network.classes, [128, 128, 128])
    assert found / 1e9 == pytest.approx(network.gflop, abs=0.051)  # they are given to a tenth


def test_operations_by_hand():
    """Two convs of 3^3 at full resolution and two at half, a transposed conv, a conv block and the output."""
    n, w = 16**3, 4
    backbone = CONFIG.backbones["unet_tiny"].model_copy(
        update={
            "options": {"width": w, "levels": 2, "convs_per_stage": 2},
            "decoder_options": {"convs_per_stage": 1, "skips": True},
        }
    )
    small = CONFIG.model_copy(update={"backbones": {"small": backbone}})
    encoder = 27 * (n * (w + w * w) + n // 8 * (w * 2 * w + 4 * w * w))
    decoder = n // 8 * 8 * 2 * w * w + 27 * n * 2 * w * w + n * w * 3
    assert counts.flops(small, "small", None, None, [16] * 3) == 2 * encoder
    assert counts.flops(small, "small", None, 3, [16] * 3) == 2 * (encoder + decoder)


def test_a_backbone_of_which_nothing_is_known_is_counted_as_well():
    rows = counts.rows(CONFIG, "unet_tiny", [16, 16, 16])
    assert [row["network"] for row in rows] == ["encoder", "pretext amaes", "2 classes"]
    assert all(row["parameters"] > 0 and row["gflop"] > 0 and row["expected_parameters"] is None for row in rows)


def test_the_table_fits_a_terminal_and_shows_differences():
    entry = CONFIG.backbones["unet_b"]
    wrong = [network.model_copy(update={"parameters": network.parameters - 7}) for network in entry.expected]
    other = CONFIG.model_copy(update={"backbones": {"unet_b": entry.model_copy(update={"expected": wrong})}})
    right, shown = (counts.text(counts.rows(c, "unet_b", [32] * 3), [32] * 3).splitlines() for c in (CONFIG, other))
    assert max(map(len, right)) <= 120 and "32 x 32 x 32 voxels" in right[-1]
    (line,) = (line.split() for line in right if "4 classes" in line)
    assert line[2:5] == ["22,581,316", "22,581,316", "0"]
    (line,) = (line.split() for line in shown if "4 classes" in line)
    assert line[2:5] == ["22,581,316", "22,581,309", "+7"]


def test_the_command_prints_rows_as_json(capsys):
    assert cli.main(["params", "unet_tiny", "--config", str(ROOT / "config"), "--patch-size", "16", "16", "16", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == counts.rows(CONFIG, "unet_tiny", [16, 16, 16])


def test_wrong_names_and_sizes_are_refused():
    with pytest.raises(UserError, match="did you mean 'unet_b'"):
        counts.rows(CONFIG, "unet_bb", [128] * 3)
    with pytest.raises(UserError, match=r"backbone 'unet_b'[\s\S]*72: 64 or 80"):
        counts.rows(CONFIG, "unet_b", [72] * 3)
