"""The one way to prune by any pattern: a scan, then cuts by steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

from torch import nn

from tasks.params import ChannelPruning, Prune
from tasks.params.prune import HeadPruning, LayerPruning
from tasks.prune import blocks, structured, unstructured
from tasks.prune.allocation import Sensitivity
from tasks.prune.calibration import recalibrate_
from tasks.prune.evidence import Evidence
from tasks.prune.matrices import Masks


def scan(model: nn.Module, params: Prune, evidence: Evidence) -> list[Sensitivity]:
    """What pruning each layer or block alone does to the validation subset.

    Raises:
        ValueError: nothing can be pruned, a layer does not exist, or the criterion does not suit the model.
    """
    # one pattern's params fit its own functions only, and mypy follows each branch
    if isinstance(params, ChannelPruning | HeadPruning):
        return structured.scan(model, params, evidence)
    if isinstance(params, LayerPruning):
        return blocks.scan(model, params, evidence)
    return unstructured.scan(model, params, evidence)


def shrink_(
    model: nn.Module, params: Prune, evidence: Evidence, points: Sequence[Sensitivity], shares: Sequence[float]
) -> Iterator[Masks]:
    """Prune `model` up to each of `shares` of the way, pausing after each with the masks that recovery respects.

    points: of the scan.

    Raises:
        ValueError: the target cannot be met.
    """
    if isinstance(params, ChannelPruning | HeadPruning):
        baseline, _ = evidence.score(_recalibrated(model, params, evidence))
        return structured.shrink_(model, params, evidence, points, baseline, shares)
    if isinstance(params, LayerPruning):
        return blocks.shrink_(model, params, evidence, shares)
    return unstructured.shrink_(model, params, evidence, shares)


def notes(model: nn.Module, params: Prune, evidence: Evidence) -> list[str]:
    """What a user of the pattern should know of this model: what it leaves whole, what gains nothing.

    Raises:
        ValueError: an ignored layer does not exist, or channels are to be cut and the architecture cannot be traced.
    """
    if isinstance(params, ChannelPruning | HeadPruning):
        return structured.notes(model, params, evidence)
    if isinstance(params, LayerPruning):
        return []
    return unstructured.notes(model, params, evidence)


def is_scanned_for(params: Prune) -> bool:
    """Whether the scan says how much each layer loses, and must be made anew for a model that has changed."""
    return isinstance(params, ChannelPruning | HeadPruning) and params.scope in ("auto", "sensitivity")


def _recalibrated(model: nn.Module, params: Prune, evidence: Evidence) -> nn.Module:
    """What the scan's losses are measured against: statistics from the same samples as theirs."""
    if not params.recalibrate or evidence.samples is None:
        return model
    fresh = deepcopy(model)
    recalibrate_(fresh, evidence.samples)
    return fresh
