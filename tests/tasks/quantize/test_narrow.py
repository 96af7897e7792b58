import numpy as np
import onnx
import pytest
from graphs import answers, conv_net, inputs
from onnx import TensorProto, numpy_helper

from tasks.measure.integers import integer_op_share, operations
from tasks.quantize.calibration import min_max, observe
from tasks.quantize.int8 import quantize
from tasks.quantize.judge import shipped
from tasks.quantize.narrow import best_steps, narrow, store_narrow, weight_bytes
from tasks.quantize.qdq import constants, integer_layers, values

X = inputs()
RNG = np.random.default_rng(0)


def int8(channels=(6, 8), weights="reduced"):
    source = conv_net(channels)
    return quantize(source, {name: min_max(seen) for name, seen in observe(source, lambda: [X]).items()}, weights)


def narrowed(bits, channels=(6, 8)):
    model = int8(channels)
    return narrow(model, dict.fromkeys(weight_bytes(model), bits))


def error(weight, steps, greatest):
    wide = steps.reshape(-1, *[1] * (weight.ndim - 1))
    return np.square(np.clip(np.rint(weight / wide), -greatest, greatest) * wide - weight).sum()


def test_no_nearby_step_errs_less_and_more_bits_err_less():
    weight = RNG.standard_t(4, (5, 3, 3, 3)).astype(np.float32)
    errors = []
    for greatest in (1, 3, 7):
        best = best_steps(weight, 0, greatest)
        errors.append(error(weight, best, greatest))
        assert all(errors[-1] <= error(weight, best * factor, greatest) * 1.02 for factor in (0.9, 0.95, 1.05, 1.1))
    assert errors == sorted(errors, reverse=True)


def test_weights_on_the_grid_are_exact_and_zeros_do_no_harm():
    weight = np.stack([np.arange(-7, 8) * 0.25, np.zeros(15)]).astype(np.float32)
    steps = best_steps(weight, 0, 7)
    assert steps[0] == 0.25 and steps[1] > 0 and error(weight, steps, 7) == 0


def test_only_the_layers_named_have_fewer_levels_and_all_keep_their_biases():
    model = int8()
    first, second, head = (layer.name for layer in integer_layers(model.graph))
    made = narrow(model, {second: 3})
    before, after = constants(model.graph), constants(made.graph)
    found = {layer.name: layer for layer in integer_layers(made.graph)}
    assert np.abs(after[found[second].weight.levels]).max() == 3
    for name in (first, head):
        assert np.array_equal(before[found[name].weight.levels], after[found[name].weight.levels])
    for layer in found.values():
        step = before[layer.bias.step] + after[layer.bias.step]
        assert (np.abs(values(layer.bias, before) - values(layer.bias, after)) <= step).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_two_levels_go_to_the_byte_and_the_runtime_still_computes_in_integers(bits, tmp_path):
    model = narrowed(bits)
    small = store_narrow(model)
    onnx.checker.check_model(small)
    assert np.array_equal(answers(small, X, tmp_path), answers(model, X, tmp_path))
    kinds = [item.data_type for item in small.graph.initializer]
    assert kinds.count(TensorProto.INT4) == 3 and TensorProto.INT8 not in [
        item.data_type for item in small.graph.initializer if item.name.endswith("weight_quantized")
    ]
    found = operations(tmp_path / "answers.onnx")
    onnx.save(shipped(model), tmp_path / "answers.onnx")
    assert len(found) == 3 and integer_op_share(operations(tmp_path / "answers.onnx")) == 1


def test_levels_survive_the_packing_bit_for_bit():
    model = narrowed(4)
    stored = {item.name: item for item in store_narrow(model).graph.initializer}
    for layer in integer_layers(model.graph):
        levels = constants(model.graph)[layer.weight.levels]
        assert np.array_equal(numpy_helper.to_array(stored[f"{layer.weight.levels}.halves"]).astype(np.int8), levels)


def test_a_file_of_eight_bits_stays_as_it_is():
    model = int8()
    assert store_narrow(model) is model


def test_four_bits_take_less_than_a_sixth_of_the_float_file():
    channels = (32, 64)
    assert shipped(narrowed(4, channels)).ByteSize() * 6 < conv_net(channels).ByteSize()


def test_bytes_are_counted_as_they_are_stored():
    model = int8()
    full, half = weight_bytes(model), weight_bytes(narrowed(4))
    assert list(full.values()) == [6 * 9, 8 * 6 * 9, 3 * 8]
    assert list(half.values()) == [27, 216, 12]


def test_unsigned_weights_are_never_taken_for_narrow_ones():
    model = int8(weights="unsigned")
    assert store_narrow(narrow(model, dict.fromkeys(weight_bytes(model), 4))).graph.initializer
    assert TensorProto.INT4 not in [item.data_type for item in store_narrow(model).graph.initializer]
