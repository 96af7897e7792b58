"""What a run keeps for itself."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import network

from tasks.models.cnn import CNN
from tasks.training import scratch
from tasks.training.scratch import Kept, Scratch


class Stopped(Exception):
    """As if the process had been killed."""


def kept_in(folder, identity="data"):
    return Scratch(folder, "stage", identity)


def dropping():
    return nn.Sequential(network(), nn.Dropout(0.3))


def convolutions(seed=0):
    torch.manual_seed(seed)
    return CNN((1, 8, 8), 3, channels=(4, 6), strides=(2, 1))


def test_what_was_kept_comes_back_as_it_was_under_its_own_key_only(tmp_path):
    tensors = {"x": torch.arange(3.0), "y": torch.tensor(7), "z": torch.ones(2, 2, dtype=torch.bfloat16)}
    kept_in(tmp_path).save("a series", "key", Kept(tensors, {"history": [1, 2]}))
    found = kept_in(tmp_path).load("a series", "key")
    assert found.tensors.keys() == tensors.keys() and found.facts["history"] == [1, 2]
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())
    assert kept_in(tmp_path).load("a series", "another") is kept_in(tmp_path).load("another", "key") is None
    assert kept_in(tmp_path, "other data").load("a series", "key") is None


def test_a_network_s_hash_tells_arguments_sources_and_weights_apart(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from torch import nn\n\nclass Net(nn.Linear):\n    factor = {}\n"

    def built(factor):
        (tmp_path / "mine.py").write_text(source.format(factor))
        torch.manual_seed(0)
        return scratch.network_hash(import_module("mine").Net(4, 3))

    assert built(2) == built(2) != built(3)
    assert len({scratch.network_hash(make()) for make in (network, lambda: network(1), dropping, convolutions)}) == 4


def test_a_save_that_fails_halfway_leaves_the_file_before_it(tmp_path, monkeypatch):
    place = kept_in(tmp_path)
    place.save("toy", "key", Kept({"x": torch.ones(2)}, {"history": [1]}))

    def half(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(scratch, "save_file", half)
        place.save("toy", "key", Kept({"x": torch.zeros(2)}, {"history": [2]}))
    assert place.load("toy", "key").facts["history"] == [1]
    assert [path.name for path in (tmp_path / "trainings/stage").iterdir()] == ["toy.safetensors"]


def test_a_choice_that_is_half_written_was_never_made(tmp_path, monkeypatch):
    def half(path, *_, **__):
        path.write_bytes(b"{")
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Path, "write_text", half)
        kept_in(tmp_path).choice("name", lambda: "bfloat16")
    assert kept_in(tmp_path).choice("name", lambda: "float32") == "float32"
    assert kept_in(tmp_path).choice("name", lambda: "bfloat16") == "float32"
    assert kept_in(tmp_path).choice("another", lambda: "bfloat16") == "bfloat16"
