"""The table of what each layer costs in ONNX Runtime."""

import numpy as np
import pytest
import torch
from networks import Reused
from onnx import numpy_helper
from torch import nn

from tasks.measure.runtime import open_session
from tasks.measure.timing import Runs
from tasks.models.resnet import ResNet
from tasks.prune import operations
from tasks.prune.graph import layers
from tasks.prune.operations import Operation, OperationTable, onnx_layer, operation_table

IMAGE = (1, 8, 8)
LAYERS = [
    (nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), (3, 7, 6)),
    (nn.Conv2d(3, 4, (3, 5), padding=(1, 0), dilation=(2, 1), bias=False), (3, 9, 8)),
    (nn.Conv2d(3, 4, 4, padding="same", dilation=2, bias=False), (3, 9, 9)),
    (nn.Conv2d(4, 4, 3, groups=4, bias=False), (4, 7, 6)),
    (nn.Conv2d(4, 6, 3, groups=2, bias=False), (4, 7, 6)),
    (nn.Conv1d(3, 4, 3, stride=2, bias=False), (3, 9)),
    (nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1, bias=False), (3, 5, 4)),
    (nn.ConvTranspose1d(3, 4, 2, bias=False), (3, 5)),
    (nn.Linear(5, 3, bias=False), (5,)),
    (nn.Linear(5, 3, bias=False), (4, 5)),
]


def ids(value):
    return f"{value}" if isinstance(value, nn.Module) else ""


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=ids)
def test_the_file_of_a_layer_answers_as_the_layer_does(layer, shape):
    linear = isinstance(layer, nn.Linear)
    inputs = layer.in_features if linear else layer.in_channels // layer.groups
    file, own = onnx_layer(layer, shape, inputs, layer.out_features if linear else layer.out_channels)
    assert own == shape
    weight = torch.from_numpy(numpy_helper.to_array(file.graph.initializer[0]).copy())
    with torch.no_grad():
        layer.weight.copy_(weight.T if linear else weight)
    x = np.random.default_rng(1).standard_normal((1, *shape)).astype(np.float32)
    (answer,) = open_session(file.SerializeToString()).run(None, {"x": x})
    torch.testing.assert_close(torch.from_numpy(answer), layer(torch.from_numpy(x)).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "shape", "sizes", "smaller"),
    [
        (LAYERS[0][0], LAYERS[0][1], (2, 3), (2, 7, 6)),
        (LAYERS[3][0], LAYERS[3][1], (1, 2), (2, 7, 6)),  # a filter takes its input along
        (LAYERS[6][0], LAYERS[6][1], (1, 1), (1, 5, 4)),
        (LAYERS[9][0], LAYERS[9][1], (2, 1), (4, 2)),
    ],
    ids=ids,
)
def test_a_smaller_one_runs_on_a_smaller_sample(layer, shape, sizes, smaller):
    file, own = onnx_layer(layer, shape, *sizes)
    assert own == smaller
    (answer,) = open_session(file.SerializeToString()).run(None, {"x": np.zeros((1, *own), np.float32)})
    assert answer.shape[-1 if isinstance(layer, nn.Linear) else 1] == sizes[1]


def test_between_the_sizes_measured_lies_a_straight_line():
    rows = [
        *(Operation("a", inputs, outputs, 0.01 * inputs * outputs) for inputs in (1, 4) for outputs in (1, 8)),
        Operation("b", 1, 2, 0.5),  # of which there is one size only
    ]
    table = OperationTable(rows, 0.25)
    assert table.latency_ms({"a": (4, 8), "b": (1, 2)}) == pytest.approx(0.25 + 0.32 + 0.5)
    assert table.latency_ms({"a": (2, 3), "b": (1, 2)}) == pytest.approx(0.25 + 0.06 + 0.5)


@pytest.fixture
def clock(monkeypatch):
    """Each size takes 10 ms and 0.1 ms per pair of an input and an output; a call alone takes 1 ms."""
    asked = []

    def take_turns(calls, batch, rounds, runs, batch_runs):
        asked.append(list(calls))
        for call in calls.values():
            call(batch)

        def latency(name):
            if not name:
                return 1.0
            inputs, outputs = map(int, name.split())
            return 11 + 0.1 * inputs * outputs

        return {name: Runs(np.full((rounds, runs), latency(name) / 1000), np.ones((rounds, 1)), 1) for name in calls}

    monkeypatch.setattr(operations, "take_turns", take_turns)
    return asked


def test_what_the_layers_do_not_account_for_stays(clock):
    model = ResNet(IMAGE, 3, (4, 8)).eval()
    found = layers(model, IMAGE)
    table = operation_table(found, 100.0)
    pairs = [1 * 4, 4 * 8, 8 * 8, 8 * 8, 8 * 3]
    assert table.rest_ms == pytest.approx(100 - 5 * 10 - 0.1 * sum(pairs))
    dense = {name: (layer.inputs, layer.outputs) for name, layer in found.items()}
    assert table.latency_ms(dense) == pytest.approx(100.0)
    first = next(iter(dense))
    assert table.latency_ms({**dense, first: (1, 2)}) == pytest.approx(100.0 - 0.1 * 2)
    assert len(clock) == 4  # both layers of the residual block are alike


def test_a_layer_that_runs_twice_costs_both_times(clock):
    found = layers(Reused().eval(), IMAGE)
    table = operation_table(found, 0.0)
    assert table.rest_ms == 0
    (whole,) = [row for row in table.rows if (row.layer, row.inputs, row.outputs) == ("conv", 8, 8)]
    assert whole.latency_ms == pytest.approx(2 * (10 + 6.4))
