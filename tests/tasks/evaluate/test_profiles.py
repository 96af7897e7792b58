"""What a device is served: by hand, out of candidates whose figures are given."""

from dataclasses import replace

import pytest

from tasks.evaluate import profiles
from tasks.evaluate.candidates import Candidate, ways
from tasks.evaluate.profiles import against, choose, misses
from tasks.measure.fresh import ColdStart
from tasks.measure.timing import Timing
from tasks.params import Profile

FINE = {"pruned": [], "quantized": []}
COLD = ColdStart(10.0, 80.0, 60_000_000, 50_000_000)


def candidate(model, runtime, threads, latency_ms, per_s=1000.0):
    size, floats = (40_000, ()) if model == "quantized" else (150_000, ("Conv", "Gemm"))
    timing = Timing(latency_ms, latency_ms, latency_ms, latency_ms, per_s, per_s, per_s)
    return Candidate(model, runtime, threads, size, timing, 400, (1.0, 1.0, 1.0), COLD, 1.0, floats)


CANDIDATES = [
    candidate("pruned", "onnxruntime", 1, 0.045),
    candidate("pruned", "onnxruntime", 2, 0.060, per_s=9000),
    candidate("pruned", "openvino", 1, 0.100),
    candidate("pruned", "openvino", 2, 0.030),
    candidate("quantized", "onnxruntime", 1, 0.065, per_s=2000),
    candidate("quantized", "onnxruntime", 2, 0.070),
    candidate("quantized", "openvino", 1, 0.120, per_s=3000),
    candidate("quantized", "openvino", 2, 0.130),
]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Two processors, both runtimes."""
    monkeypatch.setattr(profiles, "cores", lambda: 2)
    monkeypatch.setattr("tasks.extras.find_spec", lambda package: package)


@pytest.mark.parametrize(
    ("limits", "served"),
    [
        ({}, ("pruned", "onnxruntime", 1)),  # a float file that is faster than its integers
        ({"threads": "all"}, ("pruned", "openvino", 2)),
        ({"threads": "all", "runtimes": ["onnxruntime"]}, ("pruned", "onnxruntime", 1)),
        ({"threads": "all", "fastest": "throughput"}, ("pruned", "onnxruntime", 2)),
        ({"fastest": "throughput"}, ("quantized", "openvino", 1)),
        ({"integer_only": True}, ("quantized", "onnxruntime", 1)),
        # where OpenVINO is the fastest of all, as no one has seen what its own graph computes
        ({"integer_only": True, "fastest": "throughput"}, ("quantized", "onnxruntime", 1)),
        ({"max_size_bytes": 100_000}, ("quantized", "onnxruntime", 1)),
        ({"max_size_bytes": 150_000, "max_latency_ms": 0.05}, ("pruned", "onnxruntime", 1)),
    ],
)
def test_the_fastest_that_the_limits_allow_is_served(limits, served):
    row = choose("device", Profile(**limits), CANDIDATES, FINE)
    assert tuple(row["served"].values())[:3] == served and row["nearest"] is None and row["misses"] == []


@pytest.mark.parametrize(
    ("limits", "threads"),
    [
        ({}, 1),  # served by it as it is
        ({"threads": "all"}, 1),  # 0.045 ms, not the 0.060 of two threads
        ({"threads": "all", "max_latency_ms": 0.04}, None),  # only OpenVINO is fast enough
        ({"threads": "all", "runtimes": ["openvino"]}, None),
        ({"fastest": "throughput"}, 1),
    ],
)
def test_the_record_says_whether_onnx_runtime_would_do_and_on_how_many_threads(limits, threads):
    row = choose("device", Profile(**limits), CANDIDATES, FINE)
    assert row["served"]["onnxruntime_threads"] == threads


def test_a_profile_that_nothing_meets_says_what_is_nearest_and_what_it_misses():
    row = choose("tiny", Profile(integer_only=True, max_size_bytes=30_000), CANDIDATES, FINE)
    assert row["served"] is None
    assert row["nearest"] == {"model": "quantized", "runtime": "onnxruntime", "threads": 1}
    assert row["misses"] == ["size 40,000 bytes, limit 30,000"]


def test_int8_only_refuses_a_float_operation_by_name():
    found = misses(Profile(integer_only=True), CANDIDATES[0], [])
    assert found == ["float operations: Conv, Gemm"]


def test_int8_only_on_openvino_alone_says_whose_graph_was_read():
    row = choose("device", Profile(integer_only=True, runtimes=["openvino"]), CANDIDATES, FINE)
    assert row["served"] is None
    assert row["misses"] == ["openvino may compute in float: only the graph of onnxruntime was read back"]


def test_what_the_budget_refuses_is_served_nowhere_however_fast():
    row = choose("device", Profile(), CANDIDATES, FINE | {"pruned": ["accuracy_drop_upper95 fail"]})
    assert row["served"]["model"] == "quantized"


def test_a_runtime_that_answers_otherwise_is_not_served():
    wrong = [replace(one, label_agreement=0.3) if one.runtime == "openvino" else one for one in CANDIDATES]
    row = choose("device", Profile(threads="all"), wrong, FINE)
    assert row["served"]["runtime"] == "onnxruntime"
    only = choose("device", Profile(runtimes=["openvino"]), wrong, FINE)
    assert only["served"] is None and only["misses"] == [
        "openvino gives the file's label for 30.0% of the samples only"
    ]


def test_costs_that_the_device_answers_for_do_not_count_against_a_model():
    checks = [
        {"name": "accuracy_drop_upper95", "verdict": "inconclusive"},
        {"name": "latency_ms_p50_vs_parent", "verdict": "fail"},
        {"name": "agreement", "verdict": "pass"},
    ]
    assert against(checks) == ["accuracy_drop_upper95 inconclusive"]


@pytest.mark.parametrize(
    ("threads", "available", "counts"), [(1, 8, [1]), ("all", 1, [1]), ("all", 6, [1, 2, 4, 6]), (4, 2, [1, 2])]
)
def test_thread_counts_double_up_to_the_most_that_there_are(threads, available, counts):
    assert ways("x", Profile(threads=threads, runtimes=["onnxruntime"]), available) == [
        ("onnxruntime", count) for count in counts
    ]


def test_a_profile_of_runtimes_that_are_not_here_names_the_line_that_installs_one(monkeypatch):
    monkeypatch.setattr("tasks.extras.find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"^evaluate\.profiles\.x\.runtimes needs openvino, .*'downsize\[openvino\]'"):
        ways("x", Profile(runtimes=["openvino"]), 2)
