"""Which candidate each device is served: the fastest of those that its profile and the budget allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.evaluate.candidates import Candidate, cores, ways
from tasks.export.parity import MIN_AGREEMENT
from tasks.params import Profile

INSPECTED: Final = "onnxruntime"  # the runtime whose optimised graph says what is computed in float
# checks of the gate that a profile answers for its own device
COSTS: Final = frozenset({"size_bytes", "latency_ms_p50", "latency_ms_p50_vs_parent"})


def choose(
    name: str, profile: Profile, candidates: Sequence[Candidate], quality: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What the summary says of one device.

    quality: for each model what the budget has against it, whatever the device.
    served is None where nothing meets the profile; nearest then misses the fewest of its limits, and is the fastest
    of those; misses says which. onnxruntime_threads: with which the served file meets the profile fastest in ONNX
    Runtime, for where another runtime is not installed; None where it does not.
    """
    allowed = ways(name, profile, cores())
    tried = [candidate for candidate in candidates if (candidate.runtime, candidate.threads) in allowed]
    missed = {id(candidate): misses(profile, candidate, quality[candidate.model]) for candidate in tried}
    best = min(tried, key=lambda candidate: (len(missed[id(candidate)]), _slowness(profile, candidate)))
    met = [candidate for candidate in tried if not missed[id(candidate)]]
    return {
        "name": name,
        "limits": profile.model_dump(mode="json", exclude_none=True),
        "served": {**_which(best), "onnxruntime_threads": _plain(profile, best, met)} if best in met else None,
        "nearest": None if best in met else _which(best),
        "misses": missed[id(best)],
    }


def misses(profile: Profile, candidate: Candidate, quality: Sequence[str]) -> list[str]:
    """Each limit that the candidate does not meet, in words."""
    found = list(quality)
    if candidate.label_agreement < MIN_AGREEMENT:
        found.append(
            f"{candidate.runtime} gives the file's label for {candidate.label_agreement:.1%} of the samples only"
        )
    if profile.integer_only and candidate.float_operations:
        found.append(f"float operations: {', '.join(candidate.float_operations)}")
    if profile.integer_only and candidate.runtime != INSPECTED:
        found.append(f"{candidate.runtime} may compute in float: only the graph of {INSPECTED} was read back")
    if profile.max_size_bytes is not None and candidate.size_bytes > profile.max_size_bytes:
        found.append(f"size {candidate.size_bytes:,} bytes, limit {profile.max_size_bytes:,}")
    latency = candidate.timing.latency_ms_p50
    if profile.max_latency_ms is not None and latency > profile.max_latency_ms:
        found.append(f"latency p50 {latency:.3g} ms, limit {profile.max_latency_ms:g} ms")
    return found


def against(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The gate's checks of quality that a model has not passed."""
    return [f"{check['name']} {check['verdict']}" for check in checks if _counts(check)]


def _counts(check: Mapping[str, Any]) -> bool:
    return check["verdict"] != "pass" and check["name"] not in COSTS


def _slowness(profile: Profile, candidate: Candidate) -> float:
    timing = candidate.timing
    return timing.latency_ms_p50 if profile.fastest == "latency" else -timing.throughput_per_s


def _plain(profile: Profile, best: Candidate, met: Sequence[Candidate]) -> int | None:
    same = [one for one in met if one.model == best.model and one.runtime == INSPECTED]
    return min(same, key=lambda one: _slowness(profile, one)).threads if same else None


def _which(candidate: Candidate) -> dict[str, Any]:
    return {"model": candidate.model, "runtime": candidate.runtime, "threads": candidate.threads}
