import json
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from graphs import graph, inputs
from learning import int8
from onnx import helper
from toy import card, pictures, stirred

from tasks.data.batches import in_order
from tasks.export.onnx import export
from tasks.export.slim import slim
from tasks.measure.accuracy import logits
from tasks.measure.runtime import open_session, run
from tasks.models.cnn import CNN
from tasks.models.normalised import Normalised
from tasks.params import Factory
from tasks.quantize.calibration import CALIBRATIONS, min_max, observe
from tasks.quantize.int8 import quantize

SAMPLES = pictures(64)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("float")
    network = stirred(CNN((1, 8, 8), 3, (8, 16), (1, 2)))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("0.weight") or name == "head.weight":
                parameter.sub_(0.7)  # of either sign
    factory = Factory(factory="tasks.models.cnn:CNN", args={"channels": [8, 16], "strides": [1, 2]})
    model = Normalised(network, torch.full((1, 1, 1), 8.0), torch.full((1, 1, 1), 0.2), factory).eval()
    export(model, card((1, 8, 8)), SAMPLES, folder, "distill.model")
    return folder / "model.onnx", logits(model, SAMPLES).numpy()


def quantized(source, choose=min_max):
    model = onnx.shape_inference.infer_shapes(onnx.load(source[0]), strict_mode=True, data_prop=True)
    seen = observe(model, lambda: (inputs.numpy() for inputs, _ in in_order(SAMPLES, 32)))
    return slim(quantize(model, {name: choose(histogram) for name, histogram in seen.items()}))


def answer(model, path):
    onnx.save(model, path)
    return run(open_session(path), SAMPLES)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_eight_bits_answer_nearly_as_floats_do(source, tmp_path, name):
    found, expected = answer(quantized(source, CALIBRATIONS[name]), tmp_path / "model.onnx"), source[1]
    assert found.dtype == np.float32 and found.shape == (64, 3)
    # entropy clips what is rare, and of 64 samples much is
    assert 0 < np.abs(found - expected).max() < (0.25 if name == "entropy" else 0.05) * np.ptp(expected)


def test_a_saved_and_reloaded_file_gives_the_same_logits(source, tmp_path):
    first = answer(quantized(source), tmp_path / "first.onnx")
    second = answer(onnx.load(tmp_path / "first.onnx"), tmp_path / "second.onnx")
    assert np.array_equal(first, second)


def test_quantizing_twice_gives_the_same_bytes(source):
    assert quantized(source).SerializeToString() == quantized(source).SerializeToString()


def test_weights_are_signed_bytes_per_channel_and_activations_unsigned(source):
    model = quantized(source)
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    weights = [array for array in stored.values() if array.dtype == np.int8 and array.ndim == 4]
    assert sorted(array.shape for array in weights) == [(8, 1, 3, 3), (16, 8, 3, 3)]
    for array in weights:
        assert (np.abs(array).reshape(len(array), -1).max(1) >= 126).all()  # each channel uses its whole range
    activations = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert activations and all(stored[node.input[2]].dtype == np.uint8 for node in activations)


def test_every_convolution_and_product_reads_eight_bit_tensors(source):
    model = quantized(source)
    maker = {output: node for node in model.graph.node for output in node.output}
    heavy = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert Counter(node.op_type for node in heavy)["Conv"] == 2 and len(heavy) == 3
    assert all(maker[name].op_type == "DequantizeLinear" for node in heavy for name in node.input[:2])


def test_the_source_stays_as_it_was_on_disk(source):
    before = source[0].read_bytes()
    quantized(source)
    assert source[0].read_bytes() == before


def test_deploy_json_says_how_the_float_file_compared(source):
    parity = json.loads((source[0].parent / "deploy.json").read_text())["parity"]
    assert parity["label_agreement"] == 1 and parity["samples"] == 64 and parity["max_relative_difference"] < 1e-4


@pytest.mark.parametrize(
    ("before", "ends", "rounded"),
    [
        ("Conv", ["y", "x"], True),
        ("Conv", ["x", "relu"], True),
        ("Conv", ["y", "one"], False),
        ("Tanh", ["y", "x"], False),
    ],
)
def test_only_sums_that_read_a_convolution_and_no_constant_are_rounded(before, ends, rounded):
    x = inputs()
    reads = ["x", "w"] if before == "Conv" else ["x"]
    nodes = [
        helper.make_node(before, reads, ["y"], "y"),
        helper.make_node("Relu", ["y"], ["relu"], "relu"),
        helper.make_node("Add", ends, ["sum"], "sum"),
        helper.make_node("Tanh", ["sum"], ["logits"], "end"),
    ]
    constants = [("w", np.ones((1, 1, 1, 1), np.float32)), ("one", np.ones((), np.float32))]
    model = int8(graph(nodes, constants), x)
    readers = [node.op_type for node in model.graph.node if "sum" in node.input]
    assert (readers == ["QuantizeLinear"]) is rounded
