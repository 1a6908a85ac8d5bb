import pytest
import torch

from brainpretrain.training import checkpoints

STATE = {
    "state_dict": {"w": torch.arange(6.0).reshape(2, 3)},
    "optimizer_states": [
        {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}],
        }
    ],
    "global_step": 3,
    "none": None,
    "flag": True,
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def test_a_checkpoint_comes_back_with_types_of_keys_and_containers(tmp_path):
    io = checkpoints.SafeCheckpoints({})
    io.save_checkpoint(STATE, tmp_path / checkpoints.name(3))
    assert same(io.load_checkpoint(tmp_path / checkpoints.name(3)), STATE)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["state.json", "state.safetensors"]


def test_an_object_that_is_no_data_is_refused(tmp_path):
    with pytest.raises(TypeError, match="a checkpoint cannot hold a object"):
        checkpoints.SafeCheckpoints({}).save_checkpoint({"x": object()}, tmp_path / "step-1")
    assert checkpoints.newest(tmp_path)[0] is None


def test_a_damaged_newest_checkpoint_costs_one_interval(tmp_path):
    io = checkpoints.SafeCheckpoints({})
    for step in (10, 20, 30):
        io.save_checkpoint(STATE | {"global_step": step}, tmp_path / checkpoints.name(step))
    checkpoints.prune(tmp_path, 30)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [checkpoints.name(20), checkpoints.name(30)]
    file = tmp_path / checkpoints.name(30) / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    found, lines = checkpoints.newest(tmp_path)
    assert found.name == checkpoints.name(20) and "step-000000030 is damaged (checksum differs)" in lines[0]
    (tmp_path / checkpoints.name(20) / "state.json").unlink()
    found, lines = checkpoints.newest(tmp_path)
    assert found is None and len(lines) == 2


def test_a_half_written_checkpoint_is_not_seen(tmp_path):
    (tmp_path / ".1.part.step-000000010").mkdir()
    assert checkpoints.newest(tmp_path) == (None, [])
