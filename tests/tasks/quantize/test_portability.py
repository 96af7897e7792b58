import numpy as np
import pytest
from graphs import graph
from onnx import helper

from tasks.data.batches import Samples
from tasks.quantize import portability
from tasks.quantize.calibration import min_max, observe
from tasks.quantize.emulation import Emulator
from tasks.quantize.int8 import quantize
from tasks.quantize.portability import emulated, portable
from tasks.quantize.products import ARITHMETICS


def problem(weight, activation="unsigned"):
    """x (batch, 6) times `weight`, its builder, and samples labelled as the float model answers."""
    model = graph([helper.make_node("MatMul", ["x", "w"], ["logits"], "head")], [("w", weight)], (6,))
    x = np.random.default_rng(0).uniform(0, 1, (400, 6)).astype(np.float32)  # large ones are common
    ranges = {name: min_max(seen) for name, seen in observe(model, lambda: iter([x])).items()}
    return lambda weights: quantize(model, ranges, weights, activation=activation), Samples(
        x, (x @ weight).argmax(1), np.arange(len(x))
    )


HEAVY = np.array([[1, 1, 1, 1, 1, 1], [1, -0.2, 1, -0.2, 1, -0.2]], np.float32).T * [1, 1.4]
LIGHT = np.array([[1, 0, 0.1, 0, -0.4, 0], [0, 1, 0, -0.3, 0, 0.2]], np.float32).T


def test_where_sums_overflow_seven_bits_are_taken():
    build, samples = problem(HEAVY.astype(np.float32))
    model, facts = portable(build, samples)
    signed, shipped = facts["accuracy"]["signed"], facts["accuracy"][facts["weights"]]
    assert signed["u8s8_saturating"] < signed["s8s8"] - 0.001
    assert facts["weights"] == "reduced" and shipped["u8s8_saturating"] == shipped["s8s8"] > 0.97
    assert emulated(model, samples) == (shipped, 0)
    assert facts["moved"]["signed"] > 0.01 and facts["moved"]["reduced"] == 0


def test_signed_activations_overflow_too_where_the_runtime_makes_them_unsigned():
    build, samples = problem(HEAVY.astype(np.float32), activation="signed")
    _, facts = portable(build, samples, ["reduced"])
    assert facts["weights"] == "reduced"
    assert facts["accuracy"]["signed"]["u8s8_saturating"] < facts["accuracy"]["signed"]["s8s8"] - 0.001


def test_where_no_processor_loses_eight_bits_stay_and_nothing_else_is_tried():
    build, samples = problem(LIGHT)
    model, facts = portable(build, samples)
    assert facts["weights"] == "signed" and list(facts["accuracy"]) == ["signed"]
    assert model.SerializeToString() == build("signed").SerializeToString()


@pytest.mark.parametrize(("moved", "chosen"), [(0.02, "reduced"), (0.005, "signed")])
def test_answers_that_move_are_not_alike_though_as_many_are_right(monkeypatch, moved, chosen):
    by_weights = {"signed": moved, "reduced": 0.0}
    alike = {"u8s8_saturating": 0.95, "s8s8": 0.95}
    monkeypatch.setattr(portability, "emulated", lambda model, samples: (alike, by_weights[model]))
    assert portable(lambda weights: weights, [], ["reduced"])[0] == chosen


def test_answers_move_by_the_mean_difference_in_their_spread():
    build, samples = problem(HEAVY.astype(np.float32))
    exact, cut_off = (
        Emulator(build("signed"), kind).run(samples.inputs(slice(None)).numpy()) for kind in ARITHMETICS[::-1]
    )
    assert emulated(build("signed"), samples)[1] == pytest.approx(
        np.abs(exact - cut_off).mean() / exact.std(), rel=1e-6
    )


@pytest.mark.parametrize(("unsigned", "chosen"), [(0.95, "unsigned"), (0.9305, "reduced"), (0.9, "reduced")])
def test_unsigned_bytes_must_be_worth_their_slowness(monkeypatch, unsigned, chosen):
    by_weights = {
        "signed": {"u8s8_saturating": 0.8, "s8s8": 0.95},
        "reduced": {"u8s8_saturating": 0.93, "s8s8": 0.93},
        "unsigned": {"u8s8_saturating": unsigned, "s8s8": unsigned},
    }
    monkeypatch.setattr(portability, "emulated", lambda model, samples: (by_weights[model], 0.0))
    assert portable(lambda weights: weights, [])[1]["weights"] == chosen
    facts = portable(lambda weights: weights, [], ["reduced"])[1]
    assert facts["weights"] == "reduced" and list(facts["accuracy"]) == ["signed", "reduced"]
