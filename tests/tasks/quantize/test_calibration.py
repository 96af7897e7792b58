import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tasks.params import Calibration, Entropy, Mse, Percentile
from tasks.quantize.calibration import (
    CALIBRATIONS,
    LEVELS,
    SHRINKS,
    Histogram,
    _divergence,
    _levels,
    chooser,
    entropy,
    min_max,
    mirrored,
    mse,
    observe,
    percentile,
)


def histogram(values, bins=2048):
    low, high = min(0.0, float(np.min(values))), max(0.0, float(np.max(values)))
    return Histogram(np.histogram(values, bins, (low, high))[0], low, high)


def rounded(values, low, high):
    """What ONNX Runtime's QuantizeLinear and DequantizeLinear make of the values."""
    scale = (high - low) / (LEVELS - 1)
    zero = round(-low / scale)
    return (np.clip(np.round(values / scale) + zero, 0, LEVELS - 1) - zero) * scale


RNG = np.random.default_rng(0)
DISTRIBUTIONS = {
    "normal": RNG.standard_normal(20_000),
    "relu": np.maximum(RNG.standard_normal(20_000), 0),
    "tails": RNG.standard_t(2, 20_000),
    "outlier": np.append(RNG.standard_normal(20_000), 500.0),
    "negative": -RNG.exponential(1, 20_000),
    "few": np.array([0.0, 1.0, 1.0, 2.0]),
    "one": np.array([3.0]),
}


def test_golden_90th_percentile_of_arange_100():
    low, high = percentile(histogram(np.arange(100)), percentile=90)
    assert high == pytest.approx(89, abs=0.1) and low == 0


def test_percentile_100_is_everything_on_either_side():
    seen = histogram(DISTRIBUTIONS["normal"])
    assert percentile(seen, percentile=100) == pytest.approx(min_max(seen), abs=1e-9)


def test_percentile_of_the_mirrored_values_is_the_mirrored_range():
    values = np.arange(-50, 200) + 0.5
    low, high = percentile(histogram(values), percentile=98)
    assert percentile(histogram(-values), percentile=98) == pytest.approx((-high, -low), abs=0.15)
    assert low == pytest.approx(-45, abs=0.7) and high == pytest.approx(195, abs=0.7)


def test_min_max_by_hand():
    assert min_max(histogram([1.0, 4.0])) == (0, 4)
    assert min_max(histogram([-2.0, 4.0])) == (-2, 4)


def test_centres_are_the_middles_of_the_bins():
    assert Histogram(np.array([1, 2, 3, 4]), -1.0, 3.0).centres.tolist() == [-0.5, 0.5, 1.5, 2.5]


@pytest.mark.parametrize("data", DISTRIBUTIONS)
@pytest.mark.parametrize("name", CALIBRATIONS)
def test_any_range_holds_zero_lies_within_what_was_seen_and_repeats(name, data):
    seen = histogram(DISTRIBUTIONS[data])
    before = seen.counts.copy()
    low, high = CALIBRATIONS[name](seen)
    assert seen.low - 1e-9 <= low <= 0 <= high <= seen.high + 1e-9 and low < high
    assert CALIBRATIONS[name](seen) == (low, high) and np.array_equal(seen.counts, before)


@pytest.mark.parametrize("data", DISTRIBUTIONS)
@pytest.mark.parametrize("name", CALIBRATIONS)
def test_inside_the_range_the_error_is_at_most_half_a_step_and_zero_is_exact(name, data):
    values = DISTRIBUTIONS[data]
    low, high = CALIBRATIONS[name](histogram(values))
    step = (high - low) / (LEVELS - 1)
    zero = round(-low / step)
    inside = values[(values >= -zero * step) & (values <= (LEVELS - 1 - zero) * step)]
    assert np.abs(rounded(inside, low, high) - inside).max(initial=0) <= step / 2 * (1 + 1e-9)
    assert rounded(0.0, low, high) == 0


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 2.0), (-0.5, 0.0), (-2.0, 4.0)])
def test_the_search_rounds_as_the_runtime_does(low, high):
    seen = Histogram(np.ones(2048, np.int64), -2.0, 4.0)
    scale = np.float32((high - low) / 255)
    zero = np.uint8(round(-low / float(scale)))
    constants = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in (("s", scale), ("z", zero))]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2048]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "toy", [x], [y], constants), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": seen.centres.astype(np.float32)})[0]
    differing = np.abs(_levels(seen, low, high)[1] - expected) > scale / 10
    assert differing.mean() < 0.01  # float32 rounds a few exact halves the other way


@pytest.mark.parametrize("data", DISTRIBUTIONS)
def test_mse_is_never_worse_than_min_max(data):
    seen = histogram(DISTRIBUTIONS[data])

    def error(bounds):
        return float((seen.counts * np.square(rounded(seen.centres, *bounds) - seen.centres)).sum())

    assert error(mse(seen)) <= error(min_max(seen))


@pytest.mark.parametrize(("choose", "below"), [(entropy, 250), (percentile, 10)])
def test_one_outlier_does_not_take_the_range(choose, below):
    """Up to 500 for min_max, where 20,000 of 20,001 values lie below five."""
    assert choose(histogram(DISTRIBUTIONS["outlier"]))[1] < below


def kept(seen, low, high):
    """KL(clipped || levels), in nats, bin by bin: what falls outside is moved to the outermost bins inside, and each of
    256 levels spreads what lay inside evenly over those of its bins that hold anything."""
    scale = (high - low) / 255
    inside = [place for place, centre in enumerate(seen.centres) if low <= centre <= high]
    clipped = {place: float(seen.counts[place]) for place in inside}
    clipped[inside[0]] += sum(seen.counts[: inside[0]])
    clipped[inside[-1]] += sum(seen.counts[inside[-1] + 1 :])
    by_level = {}
    for place in (place for place in inside if clipped[place]):
        level = min(max(np.rint(seen.centres[place] / scale) + round(-low / scale), 0), 255)
        by_level.setdefault(level, []).append(place)
    spread = {place: sum(seen.counts[places]) / len(places) for places in by_level.values() for place in places}
    shares = [(clipped[place] / sum(clipped.values()), spread[place] / sum(spread.values())) for place in spread]
    return sum(share * np.log(share / max(found, 1e-12)) for share, found in shares)


@pytest.mark.parametrize("data", ["normal", "relu", "tails", "negative"])
def test_entropy_is_the_range_with_the_least_divergence(data):
    seen = histogram(DISTRIBUTIONS[data], bins=600)
    ranges = [(seen.low * shrink, seen.high * shrink) for shrink in SHRINKS[::5]]
    costs = [kept(seen, *bounds) for bounds in ranges]
    assert [_divergence(seen, *bounds) for bounds in ranges] == pytest.approx(costs, abs=1e-9)
    assert max(costs) > 1.2 * min(costs) and kept(seen, *entropy(seen)) <= min(costs) + 1e-9


def test_entropy_cuts_a_long_tail_off_while_few_values_lie_in_it():
    body = np.abs(DISTRIBUTIONS["normal"])
    tails = [np.append(body, np.linspace(4, 20, count)) for count in (20, 4_000)]
    rare, common = (entropy(histogram(values))[1] for values in tails)
    assert 3 < rare < 5 and common == 20


def test_mse_weighs_how_far_an_outlier_lies():
    """One value at 20 is worth its range; among a hundred times as many others it is not."""
    values = RNG.standard_normal(1_000_000)
    assert mse(histogram(np.append(values[:1_000], 20.0)))[1] > 18
    assert mse(histogram(np.append(values, 20.0)))[1] < 16


def test_values_that_lie_on_the_grid_are_exact():
    grid = np.arange(-100, 156) * 0.25
    assert np.array_equal(rounded(grid, grid[0], grid[-1]), grid)


@pytest.mark.parametrize(
    "params", [Percentile(method="percentile", percentile=90), Mse(method="mse"), Entropy(method="entropy")]
)
def test_chooser_fills_in_the_knobs_of_params(params):
    seen = histogram(DISTRIBUTIONS["normal"])
    knobs = params.model_dump(exclude={"method", *Calibration.model_fields})
    assert chooser(params.method, knobs)(seen) == CALIBRATIONS[params.method](seen, **knobs)
    assert knobs == ({"percentile": 90} if params.method == "percentile" else {})


def graph(operator, **more):
    """x (batch, 2) -> operator -> Neg."""
    nodes = [helper.make_node(operator, ["x"], ["hidden"], **more), helper.make_node("Neg", ["hidden"], ["logits"])]
    x, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "logits"))
    made = helper.make_model(
        helper.make_graph(nodes, "toy", [x], [logits]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def batches(*arrays):
    return lambda: iter([np.array(array, np.float32) for array in arrays])


def test_every_tensor_is_observed_over_all_batches():
    found = observe(graph("Relu"), batches([[-1, 2], [0, 3]], [[-4, 1]]))
    assert {name: (seen.low, seen.high) for name, seen in found.items()} == {
        "x": (-4, 3),
        "hidden": (0, 3),
        "logits": (-3, 0),
    }
    assert all(seen.counts.sum() == 6 for seen in found.values())
    assert found["hidden"].counts[0] == 3  # two negative values and the zero


def test_a_tensor_that_is_always_zero_has_no_range():
    assert set(observe(graph("Relu"), batches([[-1, -2]]))) == {"x"}


@pytest.mark.parametrize(
    ("operator", "value", "name"), [("Relu", np.nan, "x"), ("Relu", np.inf, "x"), ("Sqrt", -1, "hidden")]
)
def test_a_tensor_that_is_not_finite_is_named(operator, value, name):
    with pytest.raises(ValueError, match=f"^quantize.calibration: tensor {name} is not finite on the calibration"):
        observe(graph(operator), batches([[1, 2]], [[value, 1]]))


@pytest.mark.parametrize(("low", "high", "reach"), [(-4.0, 2.0, 4), (0.0, 3.0, 3), (-1.0, 0.0, 1)])
def test_mirrored_keeps_every_value_between_bounds_equally_far_from_zero(low, high, reach):
    counts = np.arange(2048)
    seen = Histogram(counts, low, high)
    found = mirrored(seen)
    assert (found.low, found.high) == (-reach, reach) and found.counts.sum() == counts.sum()
    for moment in (1, 2):
        means = [(one.counts * one.centres**moment).sum() / counts.sum() for one in (seen, found)]
        assert means[0] == pytest.approx(means[1], abs=2e-3)
