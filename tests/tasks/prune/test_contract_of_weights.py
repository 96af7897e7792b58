"""The promises of test_contract.py of single weights, which become zero."""

from copy import deepcopy

import pytest
import torch
from contracts import (
    IMAGE,
    RANKED_AS_IT_GOES,
    WEIGHTS,
    X,
    cut_,
    dense,
    evidence,
    settings,
)
from torch import nn

from tasks.measure.size import macs, nonzero
from tasks.prune.criteria import BY_ROW, CRITERIA
from tasks.prune.matrices import chosen
from tasks.prune.unstructured import weight_scores


@pytest.mark.parametrize("scope", ["global", "uniform", None])
@pytest.mark.parametrize("criterion", [criterion for pattern, criterion in WEIGHTS if pattern == "unstructured"])
def test_exactly_the_sparsity_goes_in_its_scope(criterion, scope):
    by_layer = criterion in ("wanda", "sparsegpt")
    if by_layer and scope == "global":
        return  # which the params refuse
    model, params = dense("unstructured"), settings("unstructured", criterion, scope=scope)
    keep = cut_(model, params, shares=(0.5, 1.0))
    by_layer = by_layer or scope == "uniform"
    for masks in [[mask] for mask in keep.values()] if by_layer else [list(keep.values())]:
        flat = torch.cat([mask.flatten() for mask in masks])
        assert int((~flat).sum()) == round(0.6 * len(flat))
    assert all(torch.equal(weight != 0, keep[name]) for name, weight in chosen(model, params, IMAGE).items())


@pytest.mark.parametrize("criterion", [criterion for pattern, criterion in WEIGHTS if pattern == "n_m"])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 8)])
def test_of_every_m_weights_n_stay(criterion, n, m):
    model = dense("n_m")
    params = settings("n_m", criterion, n=n, m=m)
    keep = cut_(model, params, shares=(0.5, 1.0))
    assert list(keep) == list(chosen(model, params, IMAGE)) == ["body.1.0.weight", "head.weight"]
    for name, mask in keep.items():
        along = mask.movedim(1, -1)
        whole = along.shape[-1] // m * m
        assert (along[..., :whole].reshape(-1, m).sum(1) == n).all() and along[..., whole:].all()
        assert torch.equal(model.get_parameter(name) != 0, mask)


@pytest.mark.parametrize("scope", ["global", "uniform"])
@pytest.mark.parametrize(("pattern", "criterion"), [cell for cell in WEIGHTS if cell not in RANKED_AS_IT_GOES])
def test_no_weight_that_goes_beats_one_that_stays(pattern, criterion, scope):
    if pattern == "n_m" or criterion == "wanda":
        scope = {"unstructured": "uniform", "n_m": None}[pattern]
    model, seen = dense(pattern), evidence()
    params = settings(pattern, criterion, **({"scope": scope} if scope else {}))
    scores = weight_scores(model, CRITERIA[criterion], seen, chosen(model, params, IMAGE))
    keep = cut_(model, params, seen)
    if pattern == "n_m":
        rivals = [
            (own[..., :whole].reshape(-1, 4), mask[..., :whole].reshape(-1, 4))
            for own, mask in ((scores[name].movedim(1, -1), keep[name].movedim(1, -1)) for name in keep)
            if (whole := own.shape[-1] // 4 * 4)
        ]
    elif CRITERIA[criterion] in BY_ROW:
        rivals = [(scores[name].flatten(1), keep[name].flatten(1)) for name in keep]
    elif scope == "uniform":
        rivals = [(scores[name].view(1, -1), keep[name].view(1, -1)) for name in keep]
    else:
        rivals = [tuple(torch.cat([own[name].flatten() for name in keep])[None] for own in (scores, keep))]
    for own, kept in rivals:
        assert not kept.all()
        assert (own.masked_fill(kept, -2).amax(1) <= own.masked_fill(~kept, torch.inf).amin(1)).all()


@pytest.mark.parametrize(("pattern", "criterion"), WEIGHTS)
def test_pruning_where_the_chosen_weights_are_zero_takes_these_and_changes_nothing(pattern, criterion):
    """SparseGPT too: a weight that is zero leaves nothing for those after it to make up for."""
    silent, params = dense(pattern), settings(pattern, criterion)
    keep = cut_(deepcopy(silent), params)
    with torch.no_grad():
        for name, mask in keep.items():
            silent.get_parameter(name).mul_(mask)
    before = silent(X)
    again = cut_(silent, params)
    assert all(torch.equal(again[name], mask) for name, mask in keep.items())
    assert not torch.allclose(before, dense(pattern)(X))  # they had a say
    torch.testing.assert_close(silent(X), before)


@pytest.mark.parametrize(("pattern", "criterion"), WEIGHTS)
def test_zero_weights_save_no_macs_and_as_many_are_zero_as_go(pattern, criterion):
    model = dense(pattern)
    whole, before = macs(model, IMAGE), nonzero(model)
    keep = cut_(model, settings(pattern, criterion))
    assert macs(model, IMAGE) == whole and before - nonzero(model) == sum(int((~mask).sum()) for mask in keep.values())
    assert isinstance(model.body[0][0], nn.Conv2d)
