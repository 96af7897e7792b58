"""Whole blocks: which can go, which goes first, and what comes back from disk."""

import json
from copy import deepcopy

import pytest
import torch
from networks import Encoder, Preactivated
from round_trip import serves_as_any_other
from torch import nn
from toy import card, pictures, stirred

from tasks import checkpoint
from tasks.measure.size import macs
from tasks.models.cnn import CNN
from tasks.models.resnet import ResNet
from tasks.models.skipped import Skipped, skip_
from tasks.params import Factory
from tasks.params.prune import LayerPruning
from tasks.prune import cost
from tasks.prune.allocation import NothingToCut, Sensitivity
from tasks.prune.blocks import blocks, cheapest, scan, shrink_
from tasks.prune.channels import remove_
from tasks.prune.evidence import Evidence

IMAGE = (1, 8, 8)
X = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0))
CARD = card(IMAGE)
RESNET = Factory(factory="tasks.models.resnet:ResNet", args={"widths": [4, 6, 8, 8]})
RESIDUALS = ["body.2", "body.5", "body.8"]


def params(target=0.7, **more):
    aim = target if isinstance(target, dict) else {"macs": target}
    given = {"pattern": "layer", "target": aim, "recalibrate": False, **more}
    return LayerPruning.model_validate(given)


def resnet():
    return stirred(ResNet(IMAGE, 3, (4, 6, 8, 8)))


def built():
    model = checkpoint.build(RESNET, CARD, (torch.zeros(1, 1, 1), torch.ones(1, 1, 1)), 0, "model")
    stirred(model.model)
    return model.eval()


def removed(model):
    return [name for name, module in model.named_modules() if isinstance(module, Skipped)]


def costing(losses):
    """Evidence by which the loss is the sum of what the missing blocks are worth."""

    def score(model):
        return sum(losses[name] for name in removed(model)), 0.0

    return Evidence(IMAGE, score, pictures())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ResNet(IMAGE, 3, (4, 6, 8, 8)), RESIDUALS),
        (Preactivated(), ["stage.0", "stage.1"]),  # not the stage, though it adds to its input too
        (Encoder(), [f"encoder.layers.{layer}" for layer in range(3)]),  # the first answers for the order of inputs
    ],
    ids=["resnet", "preactivated", "encoder"],
)
def test_blocks_are_the_innermost_that_add_to_their_input(model, expected):
    assert blocks(stirred(model), IMAGE) == expected


@pytest.mark.parametrize("model", [ResNet(IMAGE, 3, (4, 6, 8, 8)), Preactivated()], ids=["resnet", "preactivated"])
def test_removing_a_block_that_adds_nothing_changes_nothing(model):
    model = stirred(model)
    name = blocks(model, IMAGE)[-1]
    with torch.no_grad():
        for parameter in model.get_submodule(name).parameters():
            parameter.zero_()
    before, dense = model(X), macs(model, IMAGE)
    own = macs_of(model, name)
    evidence = Evidence(IMAGE, lambda candidate: (float((candidate(X) - before).detach().abs().sum()), 0.0))
    for _ in shrink_(model, params(0.99), evidence, [1.0]):
        assert removed(model) == [name]
    assert torch.equal(model(X), before) and macs(model, IMAGE) == dense - own


def macs_of(model, name):
    shapes = []
    handle = model.get_submodule(name).register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape[1:]))
    model(X)
    handle.remove()
    return macs(model.get_submodule(name), shapes[0])


def test_the_block_without_which_the_loss_is_least_goes_first_and_the_target_is_met():
    model = resnet()
    dense, order = macs(model, IMAGE), []
    evidence = costing({"body.2": 3.0, "body.5": 1.0, "body.8": 2.0})
    for _ in shrink_(model, params(0.5), evidence, [0.3, 0.6, 1.0]):
        order.append((removed(model), macs(model, IMAGE) / dense))
    assert order[-1][1] <= 0.5 < order[0][1]
    gone = order[-1][0]
    assert gone in (["body.5"], ["body.5", "body.8"], RESIDUALS)
    assert all(left <= 1 - share * 0.5 for share, (_, left) in zip([0.3, 0.6, 1.0], order, strict=True))


def test_what_is_worth_least_now_is_measured_anew_after_each_removal():
    """Alone, body.2 costs least; once it is gone, body.5 costs more than body.8."""

    def score(model):
        gone = removed(model)
        alone = {"body.2": 1.0, "body.5": 2.0, "body.8": 3.0}
        return sum(alone[name] for name in gone) + (5.0 if {"body.2", "body.5"} <= set(gone) else 0.0), 0.0

    model, twice = resnet(), None
    dense = macs(model, IMAGE)
    lost = {name: macs_of(model, name) / dense for name in RESIDUALS}
    target = 1 - lost["body.2"] - min(lost["body.5"], lost["body.8"]) + 1e-6
    for _ in shrink_(model, params(target), Evidence(IMAGE, score), [1.0]):
        twice = removed(model)
    assert twice == ["body.2", "body.8"]


def test_the_scan_has_a_point_per_block_and_leaves_the_model_alone():
    model = resnet()
    before = deepcopy(model.state_dict())
    points = scan(model, params(), costing({"body.2": 3.0, "body.5": 1.0, "body.8": 2.0}))
    assert [(point.layer, point.ratio, point.loss) for point in points] == [
        ("body.2", 1.0, 3.0),
        ("body.5", 1.0, 1.0),
        ("body.8", 1.0, 2.0),
    ]
    assert removed(model) == [] and all(torch.equal(own, before[key]) for key, own in model.state_dict().items())


def test_the_same_evidence_removes_the_same_blocks():
    found = []
    for _ in range(2):
        model = resnet()
        list(shrink_(model, params(0.6, recalibrate=True), Evidence(IMAGE, score_of_outputs, pictures()), [1.0]))
        found.append((removed(model), model(X)))
    assert found[0][0] == found[1][0] != [] and torch.equal(found[0][1], found[1][1])


def score_of_outputs(model):
    with torch.no_grad():
        return -float(model(X).sum()), 0.0


def test_a_listed_layer_goes_and_an_ignored_one_stays():
    model = stirred(CNN(IMAGE, 3, (6, 6, 6), (2, 1, 1)))
    assert blocks(model, IMAGE, ["body.1", "body.2"]) == ["body.1", "body.2"]
    assert blocks(resnet(), IMAGE, leave={dict(resnet().named_modules())["body.2"]}) == RESIDUALS  # another model's
    own = resnet()
    assert blocks(own, IMAGE, leave={own.body[2].body[0][0]}) == RESIDUALS[1:]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (["bodi.1"], r"^prune.blocks: the model has no layer 'bodi.1'; near it: 'body.1'"),
        (["body.0"], r"^prune.blocks: 'body.0' cannot go: it turns shape \(1, 8, 8\) into shape \(6, 4, 4\); name blo"),
        (["body.1.2"], r"^prune.blocks: 'body.1.2' has no weights of its own, or never runs; name another block$"),
    ],
)
def test_a_listed_block_that_cannot_go_says_why(listed, message):
    with pytest.raises(ValueError, match=message):
        blocks(CNN(IMAGE, 3, (6, 6), (2, 1)), IMAGE, listed)


@pytest.mark.parametrize("name", ["body.1", "body.1.0", "model.body.1"])
def test_a_listed_block_that_is_gone_is_passed_over_with_what_lay_in_it(name):
    factory = Factory(factory="tasks.models.cnn:CNN", args={"channels": [6, 6, 6], "strides": [2, 1, 1]})
    model = checkpoint.build(factory, CARD, (torch.zeros(1, 1, 1), torch.ones(1, 1, 1)), 0, "model")
    skip_(model, "model.body.1")
    assert blocks(model, IMAGE, [name, "body.2"]) == ["model.body.2"]
    skip_(model, "model.body.2")
    message = r"^prune: no block can be removed: none of prune.blocks is left; list others in prune.blocks, or use patt"
    with pytest.raises(NothingToCut, match=message):
        blocks(model, IMAGE, [name, "body.2"])


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({"a": 2.3, "b": 2.5, "c": 2.9}, "b"),  # rises of 0.3, 0.5 and 0.9 for 0.1, 0.4 and 0.4 of the time
        ({"a": 2.1, "b": 2.5, "c": 2.9}, "a"),
        ({"a": 1.9, "b": 1.99, "c": 2.9}, "b"),  # neither costs anything
        ({"a": 9.0, "b": 9.0, "c": 9.0, "d": 2.0}, "b"),  # d would save nothing
    ],
)
def test_for_latency_the_block_goes_whose_rise_is_least_for_what_it_saves(losses, expected):
    points = [Sensitivity(layer, 1.0, loss, 0.0) for layer, loss in losses.items()]
    assert cheapest(points, 2.0, {"a": 0.1, "b": 0.4, "c": 0.4, "d": -0.01}) == expected
    assert cheapest(points, 2.0, {}) == min(losses, key=losses.get)


def test_a_target_of_latency_takes_another_block_than_one_of_macs(monkeypatch):
    """body.5 costs less loss, body.2 less for a third of what stands for the clock than body.5 for a seventh."""
    monkeypatch.setattr(cost, "MEASURES", {**cost.MEASURES, "latency": cost.MEASURES["macs"]})
    gone = {}
    for measure in ("macs", "latency"):
        model = resnet()
        evidence = costing({"body.2": 0.6, "body.5": 0.5, "body.8": 9.0})
        list(shrink_(model, params(target={measure: 0.86}), evidence, [1.0]))
        gone[measure] = removed(model)
    assert gone == {"macs": ["body.5"], "latency": ["body.2"]}


class Peeking(Preactivated):
    """Reads weights of a block beside running it."""

    def forward(self, x):
        return super().forward(x) + self.stage[1].conv.weight.mean()


def test_one_without_which_the_model_does_not_run_is_none_and_says_so_where_it_is_listed():
    assert blocks(Peeking(), IMAGE) == ["stage.0"]
    message = r"^prune.blocks: 'stage.1' cannot go: the model does not run without it; name another block$"
    with pytest.raises(ValueError, match=message):
        blocks(Peeking(), IMAGE, ["stage.1"])


class Padded(nn.Module):
    """An encoder that is told which rows are padding."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        padding = torch.zeros(len(x), 8, dtype=torch.bool)
        padding[:, -2:] = True
        return self.head(self.encoder(x[:, 0], src_key_padding_mask=padding)[:, 0])


def test_the_first_layer_of_an_encoder_goes_with_a_mask_of_padding_too():
    model = Padded().eval()
    expected = deepcopy(model)
    expected.encoder.layers, expected.encoder.use_nested_tensor = expected.encoder.layers[1:], False
    skip_(model, "encoder.layers.0")
    with torch.no_grad():  # where nested tensors would be the short cut
        torch.testing.assert_close(model(X), expected(X))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"protect": {"first": True}}, RESIDUALS[1:]),
        ({"protect": {"last": True}}, RESIDUALS[:2]),
        ({"protect": {"first": True, "last": True}}, RESIDUALS[1:2]),
        ({"protect": {"first": True}, "ignore": ["body.5"]}, RESIDUALS[2:]),
        ({"protect": {"first": True}, "ignore": ["body.2"]}, RESIDUALS[1:]),  # it is the first still
        # in the model's order, whatever the list's
        ({"protect": {"first": True}, "blocks": ["body.8", "body.5"]}, RESIDUALS[2:]),
    ],
)
def test_blocks_that_are_protected_or_ignored_are_no_blocks(more, expected):
    model = resnet()
    points = scan(model, params(0.99, **more), costing(dict.fromkeys(RESIDUALS, 0.0)))
    assert [point.layer for point in points] == expected
    list(shrink_(model, params(0.99, **more), costing(dict.fromkeys(RESIDUALS, 0.0)), [1.0]))
    assert set(removed(model)) <= set(expected)


def test_protecting_every_block_says_why_none_is_left():
    with pytest.raises(NothingToCut, match=r"or prune.ignore or prune.protect keeps it; list others in prune.blocks"):
        scan(stirred(Preactivated()), params(protect={"first": True, "last": True}), costing({}))


def test_a_model_without_such_a_block_says_what_would_do():
    model = CNN(IMAGE, 3, (6, 6), (2, 1))
    with pytest.raises(ValueError, match=r"^prune: no block can be removed: .*; list others in prune.blocks, or use"):
        blocks(model, IMAGE)


def test_an_unreachable_target_says_the_best_there_is():
    model = resnet()
    bare = 1 - sum(macs_of(model, name) for name in RESIDUALS) / macs(model, IMAGE)
    message = rf"^prune.target is 0.01; without any of its 3 removable blocks {bare:.3f} of the macs is left; raise it"
    with pytest.raises(ValueError, match=message):
        list(shrink_(model, params(0.01), costing(dict.fromkeys(RESIDUALS, 0.0)), [1.0]))
    assert removed(model) == []


def test_it_comes_back_bit_for_bit_exports_trains_on_and_is_pruned_again(tmp_path):
    model = built()
    names = [f"model.{name}" for name in RESIDUALS]
    list(shrink_(model, params(0.9), costing({names[0]: 3.0, names[1]: 1.0, names[2]: 2.0}), [1.0]))
    gone = removed(model)
    remove_(model, IMAGE, {"model.body.0.0": [1]})  # channels after blocks
    checkpoint.save(model, CARD, tmp_path / "once", parent="student")
    again = checkpoint.load(tmp_path / "once", CARD)
    assert torch.equal(again(X), model.eval()(X)) and str(again) == str(model) and removed(again) == gone != []
    serves_as_any_other(again, CARD, X, tmp_path)
    list(shrink_(again, params(0.9), costing(dict.fromkeys(names, 0.0)), [1.0]))
    assert len(removed(again)) > len(gone)


@pytest.mark.parametrize("name", ["model.tail", "", "model", "model.body.2.body.0.9", "__class__"])
def test_a_table_of_blocks_for_another_model_is_refused(tmp_path, name):
    checkpoint.save(built(), CARD, tmp_path, parent="student")
    content = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**content, "removed": [name]}))
    message = rf"model.json: the table of removed blocks names '{name}', which is no block of the model$"
    with pytest.raises(ValueError, match=message):
        checkpoint.load(tmp_path, CARD)


def test_a_block_that_changes_shape_cannot_be_removed_by_a_file(tmp_path):
    model = built()
    checkpoint.save(model, CARD, tmp_path, parent="student")
    content = json.loads((tmp_path / "model.json").read_text())
    content["channels"] = {
        name: own for name, own in content["channels"].items() if not name.startswith("model.body.1")
    }
    (tmp_path / "model.json").write_text(json.dumps({**content, "removed": ["model.body.1"]}))
    with pytest.raises(
        ValueError, match=r"the checkpoint does not fit: has model.body.1.*, which the model has not$"
    ) as caught:
        checkpoint.load(tmp_path, CARD)
    assert "\n" not in str(caught.value)


def test_a_skipped_module_takes_whatever_the_block_took():
    assert torch.equal(Skipped()(X, None, mask=3), X)


def test_a_block_that_runs_twice_goes_from_both_places():
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    skip_(model, "a")
    assert isinstance(model["a"], Skipped) and model["b"][0] is model["a"]
