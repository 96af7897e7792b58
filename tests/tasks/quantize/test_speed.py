import numpy as np
import pytest
from graphs import conv_net, inputs
from toy import card

from tasks.data.batches import Samples
from tasks.data.splits import Splits
from tasks.measure.integers import Operation
from tasks.measure.timing import Runs
from tasks.params import Int8, Mixed, Qat
from tasks.quantize import speed
from tasks.quantize.speed import Faster, faster, settled

SAMPLES = Samples(inputs(20), np.zeros(20, np.int64), np.arange(20))


def test_a_file_that_does_far_less_is_chosen_and_all_figures_are_kept():
    chosen, found = faster({"unsigned": conv_net((96, 96)), "signed": conv_net((2, 2))}, SAMPLES)
    assert chosen == "signed" and [row.batch for row in found] == [1, 20]
    for row in found:
        assert 0 < row.signed_ms < row.unsigned_ms and 1 < row.speedup_low95 <= row.speedup <= row.speedup_high95


def test_the_same_file_twice_is_no_reason_for_signed():
    assert {faster({"unsigned": conv_net(), "signed": conv_net()}, SAMPLES)[0] for _ in range(5)} == {"unsigned"}


@pytest.mark.parametrize(
    ("single", "whole", "chosen"),
    [
        (1.0, 1.0, "unsigned"),
        (1.04, 1.04, "unsigned"),
        (1.1, 1.1, "signed"),
        (1.1, 0.8, "unsigned"),
        (0.98, 2.0, "unsigned"),
    ],
)
def test_both_batches_must_gain(monkeypatch, single, whole, chosen):
    timed(monkeypatch, np.full(20, single), np.full(20, whole))
    assert faster({"unsigned": conv_net(), "signed": conv_net()}, SAMPLES)[0] == chosen


def test_a_gain_whose_interval_reaches_below_the_margin_is_none(monkeypatch):
    often = np.where(np.arange(20) % 2, 1.5, 0.9)
    timed(monkeypatch, often, often)
    chosen, found = faster({"unsigned": conv_net(), "signed": conv_net()}, SAMPLES)
    assert chosen == "unsigned" and found[0].speedup > 1.05 > found[0].speedup_low95


def test_what_is_faster_for_being_in_float_is_no_reason_for_signed(monkeypatch):
    timed(monkeypatch, np.full(20, 2.0), np.full(20, 2.0))
    kinds = {"unsigned": "integer", "signed": "float"}
    monkeypatch.setattr(speed, "operations", lambda path: [Operation("conv", kinds[path.stem], "")])
    files = {"unsigned": conv_net(), "signed": conv_net()}
    chosen, (row, _) = faster(files, SAMPLES)
    assert chosen == "unsigned" and (row.unsigned_integer_share, row.signed_integer_share) == (1, 0)
    kinds["unsigned"] = "float"
    assert faster(files, SAMPLES)[0] == "signed"


def test_of_several_processes_the_first_decides_as_they_train_one_file_together(monkeypatch):
    """Each has a clock of its own."""
    data = Splits(card((1, 8, 8)), SAMPLES, SAMPLES, SAMPLES, SAMPLES)
    asked = []
    monkeypatch.setattr(speed, "agreed", lambda choice: asked.append(choice) or "signed")
    monkeypatch.setattr(speed, "faster", lambda models, samples: ("unsigned", [Faster(1, *[1.0] * 7)]))
    model = conv_net()
    for params in (Qat(scheme="qat"), Mixed(scheme="mixed"), Int8(scheme="int8")):
        assert settled(model, params, data, 0)[0] == params.model_copy(update={"activation": "signed"})
    named = Qat(scheme="qat", activation="unsigned")
    assert asked == ["unsigned"] * 3 and settled(model, named, data, 0) == (named, []) and len(asked) == 3


def timed(monkeypatch, single, whole):
    """Signed activations so many times as fast in each round, unsigned ones a second."""

    def take_turns(calls, *_):
        one = np.ones((20, 1))
        return {"unsigned": Runs(one, one, 20), "signed": Runs(1 / single[:, None], 1 / whole[:, None], 20)}

    monkeypatch.setattr(speed, "take_turns", take_turns)
