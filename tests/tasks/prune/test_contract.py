"""Six promises, kept by every criterion of every pattern: a new one is tested the moment that the params accept it."""

from copy import deepcopy

import pytest
import torch
from contracts import (
    BY_LOSS,
    CELLS,
    IMAGE,
    RANKED_AS_IT_GOES,
    STRUCTURED,
    TARGETS,
    WHOLE,
    X,
    cut_,
    dense,
    evidence,
    settings,
)
from toy import stirred

from tasks.measure.size import macs, parameters
from tasks.models.cnn import CNN
from tasks.models.skipped import Skipped, skip_
from tasks.prune import structured
from tasks.prune.criteria import COMPARABLE, CRITERIA
from tasks.prune.patterns import notes, scan, shrink_


def test_every_criterion_and_pattern_is_asked():
    assert len(set(CELLS)) == len(CELLS) and {criterion for _, criterion in CELLS} == {*CRITERIA, BY_LOSS}
    assert {pattern for pattern, _ in CELLS} == {*TARGETS, "n_m"} and len(RANKED_AS_IT_GOES) == 2


@pytest.fixture
def cuts(monkeypatch):
    """Units that were cut from the model itself, by layer; trials are on copies."""
    made = []

    def recording(surgery):
        def remove_(model, input_shape, units):
            made.append((model, units))
            surgery.remove_(model, input_shape, units)

        return structured.Surgery(surgery.groups, surgery.obstacles, remove_, surgery.in_turn)

    monkeypatch.setattr(
        structured, "SURGERY", {name: recording(surgery) for name, surgery in structured.SURGERY.items()}
    )

    def of(model):
        (units,) = [units for owner, units in made if owner is model]
        return {name: list(own) for name, own in units.items() if own}

    return of


def scored(model, params, seen):
    surgery = structured.SURGERY[params.pattern]
    criterion = CRITERIA[params.criterion.method]
    return surgery.groups(model, IMAGE, criterion, samples=seen.samples, seed=seen.seed)


def removed(model):
    return [name for name, module in model.named_modules() if isinstance(module, Skipped)]


# 1. the budget is met


@pytest.mark.parametrize("measure", [macs, lambda model, _: parameters(model)], ids=["macs", "parameters"])
@pytest.mark.parametrize(("pattern", "criterion"), WHOLE)
def test_no_more_than_the_target_is_left(pattern, criterion, measure):
    model = dense(pattern)
    whole, name = measure(model, IMAGE), "macs" if measure is macs else "parameters"
    cut_(model, settings(pattern, criterion, name), shares=(0.5, 1.0))
    assert 0.6 * TARGETS[pattern] < measure(model, IMAGE) / whole <= TARGETS[pattern]


# 2. no dropped score beats a kept one in its scope


@pytest.mark.parametrize("scope", ["sensitivity", "uniform", "global", "isomorphic"])
@pytest.mark.parametrize(("pattern", "criterion"), STRUCTURED)
def test_no_unit_that_goes_beats_one_that_stays(pattern, criterion, scope, cuts):
    model, seen = dense(pattern), evidence()
    more = {"round_to": 1} if pattern == "channel" else {}
    params = settings(pattern, criterion, scope=scope, **more)
    found = scored(model, params, seen)
    cut_(model, params, seen)
    rivals = {}
    for group in found:
        gone = torch.zeros(group.channels, dtype=torch.bool)
        gone[cuts(model).get(group.name, [])] = True
        relative = CRITERIA[criterion] not in COMPARABLE and scope == "global"
        scores = group.scores / group.scores.mean() if relative else group.scores
        if int(gone.sum()) == group.channels - 1 and scope in ("global", "isomorphic"):
            scores, gone = scores[gone], gone[gone]  # the last one of a layer stays, whatever its score
        place = {"global": "", "isomorphic": group.kind}.get(scope, group.name)
        rivals.setdefault(place, []).append((scores, gone))
    for rows in rivals.values():
        scores, gone = (torch.cat(column) for column in zip(*rows, strict=True))
        assert not gone.any() or scores[gone].max() <= scores[~gone].min()
    assert cuts(model)


def test_no_block_stays_without_which_the_loss_is_less():
    model, seen, params = dense("layer"), evidence(), settings("layer", BY_LOSS)
    losses = {point.layer: point.loss for point in scan(model, params, seen)}
    next(shrink_(model, params.model_copy(update={"target": params.target}), seen, [], (0.01,)))
    (gone,) = removed(model)
    assert losses.pop(gone) <= min(losses.values()) and len(losses) == 2


# 3. arguments unchanged


def state(model, seen, params):
    """All that a caller may still need as it was."""
    return (
        [(name, tensor.numpy().tobytes()) for name, tensor in model.state_dict().items()],
        [(name, parameter.requires_grad, parameter.grad) for name, parameter in model.named_parameters()],
        [(module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
        *beside(seen, params),
    )


def beside(seen, params):
    samples = seen.samples
    return samples.x.tobytes(), samples.y.tobytes(), samples.indices.tobytes(), params.model_dump_json()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("pattern", "criterion"), CELLS)
def test_scan_and_notes_leave_everything_as_it_was_and_shrink_all_but_the_model(pattern, criterion, training):
    model, seen, params = dense(pattern).train(training), evidence(), settings(pattern, criterion)
    list(model.parameters())[-1].requires_grad_(False)
    before, drawn = state(model, seen, params), torch.get_rng_state()
    points = scan(model, params, seen)
    notes(model, params, seen)
    assert state(model, seen, params) == before
    kept = list(points)
    list(shrink_(model, params, seen, points, (0.5, 1.0)))
    assert points == kept and beside(seen, params) == before[3:] and torch.equal(torch.get_rng_state(), drawn)
    assert {module.training for module in model.modules()} == {training}
    assert {parameter.grad for parameter in model.parameters()} == {None}
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


# 4. deterministic


@pytest.mark.parametrize(("pattern", "criterion"), CELLS)
def test_the_same_seed_cuts_the_same_and_only_random_asks_for_it(pattern, criterion):
    found = []
    for seed, chance in ((0, 1), (0, 2), (1, 1)):
        model = dense(pattern)
        torch.manual_seed(chance)
        cut_(model, settings(pattern, criterion, recalibrate=True), evidence(seed), shares=(0.5, 1.0))
        found.append((str(model), [(name, own.numpy().tobytes()) for name, own in model.state_dict().items()]))
    assert found[0] == found[1] and (found[0] == found[2]) == (criterion != "random")


# 5. outputs unchanged when the removed units are zero: whatever the criterion chose is zeroed, then cut


@torch.no_grad()
def silence_(model, group, units):
    """What makes and what scales these channels, in every layer of the group."""
    for layer, side in group.ties:
        if side == "outputs":
            for parameter in model.get_submodule(layer).parameters(recurse=False):
                parameter[units] = 0


@torch.no_grad()
def silence_heads_(attention, heads):
    """What makes their queries, keys and values."""
    for tensor in (attention.in_proj_weight, attention.in_proj_bias):
        tensor.view(3, attention.num_heads, attention.head_dim, -1)[:, heads] = 0


@pytest.mark.parametrize(("pattern", "criterion"), STRUCTURED)
def test_cutting_the_chosen_channels_and_heads_where_they_are_zero_changes_nothing(pattern, criterion, cuts):
    model, seen, params = dense(pattern), evidence(), settings(pattern, criterion)
    found = {group.name: group for group in scored(model, params, seen)}
    silent = deepcopy(model)
    cut_(model, params, seen)
    for name, units in cuts(model).items():
        if pattern == "head":
            silence_heads_(silent.get_submodule(name), units)
        else:
            silence_(silent, found[name], units)
    before = silent(X)
    structured.SURGERY[pattern].remove_(silent, IMAGE, cuts(model))
    assert macs(silent, IMAGE) == macs(model, IMAGE) < macs(dense(pattern), IMAGE)
    torch.testing.assert_close(silent(X), before)
    assert not torch.allclose(before, dense(pattern)(X))  # they had a say


def test_cutting_the_chosen_blocks_where_they_are_zero_changes_nothing():
    model = dense("layer")
    silent = deepcopy(model)
    cut_(model, settings("layer", BY_LOSS))
    with torch.no_grad():
        for name in removed(model):
            for parameter in silent.get_submodule(name).parameters():
                parameter.zero_()
    before = silent(X)
    for name in removed(model):
        skip_(silent, name)
    assert removed(silent) == removed(model) != [] and str(silent) == str(model)
    torch.testing.assert_close(silent(X), before)
    assert not torch.allclose(before, dense("layer")(X))


# 6. MACs fall by the predicted number


@pytest.mark.parametrize(("pattern", "criterion"), STRUCTURED)
def test_macs_fall_by_the_number_that_the_cut_foretells(pattern, criterion, cuts):
    model = dense(pattern) if pattern == "head" else stirred(CNN(IMAGE, 3, (16, 24), (2, 2)))
    whole = macs(model, IMAGE)
    cut_(model, settings(pattern, criterion))
    gone = {name: len(units) for name, units in cuts(model).items()}
    if pattern == "head":
        # of each head of size 4 over 8 rows: queries, keys, values and answers of 16; both products of 8 x 8
        foretold = whole - sum(gone.values()) * (4 * 8 * 16 * 4 + 2 * 8 * 8 * 4)
    else:
        first, second = 16 - gone.get("body.0.0", 0), 24 - gone.get("body.1.0", 0)
        foretold = 9 * first * 16 + 9 * first * second * 4 + 3 * second  # images of 4 x 4, then 2 x 2
    assert macs(model, IMAGE) == foretold < whole


def test_macs_fall_by_those_of_the_blocks():
    model = dense("layer")
    whole, shapes = macs(model, IMAGE), {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, inputs, __, name=name: shapes.update({name: inputs[0].shape[1:]}))
    model(X)
    original = dense("layer")
    cut_(model, settings("layer", BY_LOSS))
    own = [macs(original.get_submodule(name), shapes[name]) for name in removed(model)]
    assert own and macs(model, IMAGE) == whole - sum(own)
