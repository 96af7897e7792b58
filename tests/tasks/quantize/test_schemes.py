"""What holds for every scheme: how far its weights may be off, what is exact, and what a file must survive."""

import numpy as np
import onnx
import pytest
from graphs import answers, graph, inputs
from ml_dtypes import float8_e4m3fn
from onnx import helper, numpy_helper
from pydantic import TypeAdapter

from tasks.data.batches import Samples
from tasks.data.splits import Splits
from tasks.export.slim import slim
from tasks.params import Quantize
from tasks.quantize.inner import inner_values
from tasks.quantize.schemes import SCHEMES

OUTPUTS, FEATURES, GROUP = 5, 64, 32


def step_of_rows(weight, largest):
    return np.abs(weight).max(1, keepdims=True) / largest


def step_of_groups(weight, bits):
    groups = weight.reshape(len(weight), -1, GROUP)
    spans = np.maximum(groups.max(2), 0) - np.minimum(groups.min(2), 0)
    return np.repeat(spans / (2**bits - 1), GROUP, axis=1)


def spacing_of_e4m3(weight, scale):
    """Three bits behind the first one; below 2**-6 all are as far apart as there."""
    exponent = np.floor(np.log2(np.maximum(np.abs(weight) / scale, 2.0**-6)))
    return 2.0 ** (exponent - 3) * scale


# distance of neighbouring levels, at each weight; the scale of a group is stored in half precision, rounded up
STEPS = {
    "int8": lambda weight: step_of_rows(weight, 127),
    "int8_symmetric": lambda weight: step_of_rows(weight, 127),
    "int8_dynamic": lambda weight: step_of_rows(weight, 64),
    "fp8": lambda weight: spacing_of_e4m3(weight, np.abs(weight).max(1, keepdims=True) / 448),
    "fp16": lambda weight: np.spacing(np.abs(weight).astype(np.float16)).astype(np.float32),
    "bf16": lambda weight: 2.0 ** (np.floor(np.log2(np.abs(weight))) - 7),
    "int4_weight_only": lambda weight: step_of_groups(weight, 4) * 1.001,
}
# levels of a row whose ends are the grid's own
GRIDS = {
    "int8": np.arange(-127, 128),
    "int8_symmetric": np.arange(-127, 128),
    "int8_dynamic": np.arange(-64, 65),
    "fp8": np.setdiff1d(np.arange(256, dtype=np.uint8), [127, 255]).view(float8_e4m3fn).astype(np.float32),  # no NaN
    "fp16": np.arange(-1024, 1025),
    "bf16": np.arange(-255, 256),
    "int4_weight_only": np.arange(-5, 11),
}
NEAREST = [{"scheme": scheme} for scheme in SCHEMES if scheme != "int4_weight_only"]
NEAREST.append({"scheme": "int4_weight_only", "rounding": {"method": "rtn"}})
LEARNED = [
    {"scheme": "int8", "rounding": {"method": "adaround", "steps": 60}},
    {"scheme": "int8_symmetric", "rounding": {"method": "adaround", "steps": 60}},
    {"scheme": "int4_weight_only", "rounding": {"method": "hqq"}},
    {"scheme": "int4_weight_only", "rounding": {"method": "gptq"}},
]
CALIBRATED = [{"scheme": "int8"}, {"scheme": "int8_symmetric"}, {"scheme": "fp8"}, *LEARNED[:2], LEARNED[-1]]
EMPTY, BROKEN = np.zeros((0, FEATURES), np.float32), np.full((3, FEATURES), np.nan, np.float32)


def called(params):
    return "-".join(str(value) for value in [params["scheme"], *params.get("rounding", {}).values()])


def data(x):
    samples = Samples(x, np.zeros(len(x), np.int64), np.arange(len(x)))
    return Splits(None, samples, samples, samples, samples)


DATA = data(inputs(250, (FEATURES,)))


def product(weight):
    """Two layers, so that the first one's output is inside: a product with `weight`, (outputs, inputs), and another."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"], "first"),
        helper.make_node("Relu", ["hidden"], ["positive"], "relu"),
        helper.make_node("MatMul", ["positive", "v"], ["logits"], "second"),
    ]
    second = np.eye(len(weight), 3, dtype=np.float32)
    return graph(nodes, [("w", np.ascontiguousarray(weight.T)), ("v", second)], (weight.shape[1],))


def made(params, model, splits=DATA):
    section = TypeAdapter(Quantize).validate_python(params)
    return SCHEMES[section.scheme](model, section, splits, 0)[0]


def weight_in(model):
    """(outputs, inputs): what the first product multiplies by, in float."""
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    node = next(node for node in model.graph.node if node.op_type.startswith("MatMul"))
    name = node.input[1]
    if node.op_type == "MatMulInteger":
        return (stored[name] * stored[name.replace("_quantized", "_scale")]).T.astype(np.float32)
    if name in stored:
        return stored[name].T.astype(np.float32)
    (values,) = inner_values(model, [name], iter([inputs(1, (FEATURES,))]))
    return values[name].T


def random_weight(seed=0):
    return (np.random.default_rng(seed).standard_t(5, (OUTPUTS, FEATURES)) / 10).astype(np.float32)


def grid_weight(scheme):
    """Weights on the scheme's grid, each row and group reaching both its ends."""
    levels = np.random.default_rng(0).choice(GRIDS[scheme], (OUTPUTS, FEATURES))
    levels[:, ::GROUP], levels[:, 1::GROUP] = GRIDS[scheme].min(), GRIDS[scheme].max()
    return (levels * 2.0**-7).astype(np.float32)


@pytest.mark.parametrize("params", NEAREST, ids=called)
def test_no_weight_is_off_by_more_than_half_a_step(params):
    weight = random_weight()
    off, step = np.abs(weight_in(made(params, product(weight))) - weight), STEPS[params["scheme"]](weight)
    assert (off <= step / 2 * 1.001).all()
    assert (off > step / 8).any()


@pytest.mark.parametrize("params", LEARNED, ids=called)
def test_learned_levels_are_those_beside_the_weight_or_make_up_for_others(params):
    weight = random_weight()
    off = np.abs(weight_in(made(params, product(weight))) - weight) / STEPS[params["scheme"]](weight)
    assert off.max() <= (1.001 if params["rounding"]["method"] == "adaround" else 2.5) and off.max() > 0.5


@pytest.mark.parametrize("params", [*NEAREST, *LEARNED], ids=called)
def test_weights_on_the_grid_are_exact(params):
    weight = grid_weight(params["scheme"])
    if params["scheme"] == "int8":
        params = params | {"portable": False}  # weights as large as these would get seven bits
    np.testing.assert_allclose(weight_in(made(params, product(weight))), weight, atol=1e-6)


def test_more_bits_are_never_worse():
    weight = random_weight()
    ladder = [{"scheme": "int4_weight_only", "rounding": {"method": "rtn"}, "bits": bits} for bits in (2, 3, 4)]
    ladder += [{"scheme": scheme} for scheme in ("int8_dynamic", "int8", "fp16")]
    errors = [float(np.square(weight_in(made(params, product(weight))) - weight).sum()) for params in ladder]
    assert errors == sorted(errors, reverse=True) and len(set(errors)) == len(errors)


@pytest.mark.parametrize("params", [*NEAREST, *LEARNED], ids=called)
def test_a_saved_and_reloaded_file_gives_the_same_logits_and_the_source_stays(params, tmp_path):
    source, x = product(random_weight()), inputs(30, (FEATURES,), seed=3)
    before = source.SerializeToString()
    small = slim(made(params, source))
    first = answers(small, x, tmp_path)
    assert np.array_equal(answers(onnx.load(tmp_path / "answers.onnx"), x, tmp_path), first)
    assert source.SerializeToString() == before
    expected = answers(source, x, tmp_path)
    assert 0 < np.abs(first - expected).max() < 0.15 * np.ptp(expected)


@pytest.mark.parametrize("params", CALIBRATED, ids=called)
@pytest.mark.parametrize(("x", "line"), [(EMPTY, "has no samples"), (BROKEN, "is not finite")])
def test_calibration_without_samples_or_with_nan_is_refused_in_one_line(params, x, line):
    with pytest.raises(ValueError, match=rf"^quantize\.\w+:? .*{line}[^\n]*$"):
        made(params, product(random_weight()), data(x))
