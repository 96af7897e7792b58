"""Two processes on one machine, as torchrun starts them, against one."""

import json
import os
import subprocess
import sys

import pytest
import torch
from projects import ROOT, environment, free_port
from safetensors.torch import load_file
from torch import nn
from toy import blobs, network

from tasks.measure.accuracy import accuracy
from tasks.params import Train
from tasks.training.distributed import agreed, average_, join, part_of_batch, several
from tasks.training.loop import fit_

DATA = blobs()
PLAIN = {
    "sgd": Train(epochs=3, batch_size=16, optimizer="sgd", clip_norm=1.0),
    "adamw": Train(epochs=3, batch_size=16, ema=0.9),
}
NORMALISED = Train(epochs=10, batch_size=16)
AVERAGED = Train(epochs=6, batch_size=16, ema=0.9, patience=4)
SCRIPT = """
import json, logging, os, sys
import torch
from pathlib import Path
from safetensors.torch import save_file
from toy import blobs
from test_distributed import AVERAGED, DATA, NORMALISED, PLAIN, ordinary
from toy import network
from tasks.params import Train
from tasks.training import precision
from tasks.training.loop import fit_
from tasks.training.scratch import Scratch

rank, folder = int(os.environ["RANK"]), Path(__file__).parent
torch.set_num_threads(1)
found = {}


def train(name, model, train, **more):
    history = fit_(model, DATA, DATA, train, seed=0, series=name, **more)
    save_file(model.state_dict(), folder / f"{name}_{rank}.safetensors")
    found[name] = [(entry.loss, entry.validation_accuracy) for entry in history]


for name, knobs in PLAIN.items():
    train(name, ordinary(), knobs)
train("batchnorm", network(), NORMALISED, scratch=Scratch(folder, "stage", "data"))
train("averaged", network(), AVERAGED)

# each process finds another precision faster
precision.imitates_bfloat16 = lambda: False
precision._seconds = lambda *_: {"float32": 1 + rank, "bfloat16": 2 - rank}
train("auto", ordinary(), Train(epochs=1, batch_size=16, precision="auto"))


class Broken(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) * (float("nan") if rank and self.training else 1)


for name, model, size in (("nan", Broken(4, 3), 16), ("small", ordinary(), 1)):
    try:
        fit_(model, DATA, DATA, Train(epochs=1, batch_size=size), seed=0, series=name)
    except ValueError as error:
        found[name] = str(error)
(folder / f"{rank}.json").write_text(json.dumps(found))
torch.distributed.destroy_process_group()
"""


def ordinary():
    """Without BatchNorm, whose statistics are those of each process's own part."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes came to: the folder of their weights, and a dictionary from each."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "script.py").write_text(SCRIPT)
    here = [str(path) for path in (ROOT, ROOT / "tests", ROOT / "tests/tasks/training")]
    settings = {**environment(folder), "PYTHONPATH": os.pathsep.join(here)}
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()), "script.py"]
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=settings, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def weights_of(folder, name):
    return [load_file(folder / f"{name}_{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize("name", PLAIN)
def test_two_processes_train_as_one_does(pair, name):
    folder, found = pair
    model = ordinary()
    history = fit_(model, DATA, DATA, PLAIN[name], seed=0, series="toy")
    for state in weights_of(folder, name):
        for key, tensor in model.state_dict().items():
            torch.testing.assert_close(state[key], tensor, rtol=0, atol=1e-5)
    assert found[0][name] == found[1][name]
    losses, accuracies = zip(*found[0][name], strict=True)
    assert losses == pytest.approx([entry.loss for entry in history], abs=1e-5)
    assert accuracies == pytest.approx([entry.validation_accuracy for entry in history])


def test_with_batchnorm_both_end_with_the_same_network_about_as_good_as_one_s(pair):
    folder, found = pair
    first, second = weights_of(folder, "batchnorm")
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
    assert found[0]["batchnorm"] == found[1]["batchnorm"]
    model = network()
    fit_(model, DATA, DATA, NORMALISED, seed=0, series="toy")
    assert found[0]["batchnorm"][-1][1] == pytest.approx(accuracy(model, DATA), abs=0.05)


def test_the_moving_average_of_batchnorm_s_statistics_is_the_same_in_both_too(pair):
    folder, found = pair
    first, second = weights_of(folder, "averaged")
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
    assert found[0]["averaged"] == found[1]["averaged"]
    model = network()
    history = fit_(model, DATA, DATA, AVERAGED, seed=0, series="toy")
    assert found[0]["averaged"][-1][1] == pytest.approx(history[-1].validation_accuracy, abs=0.1)


def test_both_take_the_first_one_s_precision(pair):
    folder, found = pair
    model = ordinary()
    fit_(model, DATA, DATA, Train(epochs=1, batch_size=16), seed=0, series="toy")
    assert found[0]["auto"] == found[1]["auto"]
    torch.testing.assert_close(weights_of(folder, "auto")[1]["0.weight"], model[0].weight.detach(), atol=1e-5, rtol=0)


def test_both_stop_where_one_has_no_number_left(pair):
    _, found = pair
    assert found[0]["nan"] == found[1]["nan"]
    assert found[0]["nan"].startswith("nan: the loss is nan in epoch 1, batch 1 of 3")


def test_a_batch_smaller_than_the_processes_is_one_line(pair):
    _, found = pair
    assert found[0]["small"] == "train.batch_size is 1; it must be at least the 2 processes"


def test_one_process_alone_is_left_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    join()
    tensor, positions = torch.ones(2), DATA.indices
    average_([tensor])
    assert not several() and not torch.distributed.is_initialized()
    assert agreed("float32") == "float32" and part_of_batch(positions) is positions and tensor.tolist() == [1, 1]
