import numpy as np
import pytest
from graphs import conv_net, inputs

from tasks.data.batches import Samples
from tasks.measure.timing import Timing
from tasks.quantize import speed
from tasks.quantize.speed import fastest

SAMPLES = Samples(inputs(20), np.zeros(20, np.int64), np.arange(20))


def test_a_file_that_does_far_less_is_chosen_and_all_figures_are_kept(monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", 3)
    chosen, measured = fastest({"unsigned": conv_net((96, 96)), "signed": conv_net((2, 2))}, SAMPLES)
    assert chosen == "signed" and list(measured) == ["unsigned", "signed"]
    assert measured["signed"]["latency_ms_p50"] < measured["unsigned"]["latency_ms_p50"]
    assert measured["signed"]["throughput_per_s"] > measured["unsigned"]["throughput_per_s"]


@pytest.mark.parametrize(
    ("latency", "throughput", "chosen"),
    [
        (1.0, 100, "unsigned"),
        (0.96, 100, "unsigned"),
        (0.9, 100, "signed"),
        (0.9, 80, "unsigned"),
        (1.1, 200, "signed"),
    ],
)
def test_both_batches_count_and_chance_does_not(monkeypatch, latency, throughput, chosen):
    timings = {"unsigned": timing(1.0, 100), "signed": timing(latency, throughput)}
    monkeypatch.setattr(speed, "interleaved", lambda calls, batch, **knobs: timings)
    assert fastest({"unsigned": conv_net(), "signed": conv_net()}, SAMPLES)[0] == chosen


def timing(latency, throughput):
    return Timing(*[latency] * 4, *[throughput] * 3)
