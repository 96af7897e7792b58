"""Attention heads: what they score, what is left when they go, and what comes back from disk."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from networks import Attending, Encoder, Transformer
from round_trip import serves_as_any_other
from torch import nn
from toy import card, pictures, stirred

from tasks import checkpoint
from tasks.measure.size import macs
from tasks.models.attention import Attention, keep_heads_, prunable
from tasks.models.cnn import CNN
from tasks.params import Factory
from tasks.params.prune import HeadPruning
from tasks.prune import channels
from tasks.prune.criteria import CRITERIA, l1, l2, taylor
from tasks.prune.evidence import Evidence
from tasks.prune.heads import groups, remove_
from tasks.prune.structured import scan, shrink_

IMAGE = (1, 8, 8)
X = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0))
CARD = card(IMAGE)
ATTENTIONS = [f"encoder.layers.{layer}.self_attn" for layer in range(3)]
CRITERIA_OF_HEADS = ["random", "l1", "l2", "taylor", "fpgm"]


def encoder():
    torch.manual_seed(0)
    return Encoder().eval()


def params(target=0.8, **more):
    return HeadPruning.model_validate({"pattern": "head", "target": {"macs": target}, **more})


def score(model):
    with torch.no_grad():
        return -float(model(X).sum()), 0.0


EVIDENCE = Evidence(IMAGE, score, pictures())


def silence_(attention, heads):
    """Whatever these heads attend to, nobody hears of it."""
    size = attention.head_dim
    with torch.no_grad():
        for head in heads:
            attention.out_proj.weight[:, head * size : (head + 1) * size] = 0


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_with_all_its_heads_it_answers_as_the_original(weights, batch_first, bias):
    torch.manual_seed(0)
    original = stirred(nn.MultiheadAttention(8, 4, batch_first=batch_first, bias=bias))
    model = nn.ModuleDict({"attend": deepcopy(original)})
    keep_heads_(model, "attend", range(4))
    q, kv = torch.rand(3, 5, 8), torch.rand(3, 5, 8)
    batch, length = (3, 5) if batch_first else (5, 3)
    padding = torch.zeros(batch, length, dtype=torch.bool)
    padding[1, -1] = True
    mask = torch.ones(length, length, dtype=torch.bool).triu(1)
    for more in (
        {},
        {"attn_mask": mask},
        {"key_padding_mask": padding},
        {"attn_mask": mask, "key_padding_mask": padding},
    ):
        expected = original(q, kv, kv, need_weights=weights, average_attn_weights=bias, **more)
        answers = model["attend"](q, kv, kv, need_weights=weights, average_attn_weights=bias, **more)
        torch.testing.assert_close(answers, expected)


def test_removing_silent_heads_changes_nothing_and_macs_fall_by_the_predicted_number():
    model = encoder()
    silence_(model.get_submodule(ATTENTIONS[1]), [0, 2])
    before, dense = model(X), macs(model, IMAGE)
    remove_(model, IMAGE, {ATTENTIONS[1]: [0, 2], ATTENTIONS[0]: []})
    torch.testing.assert_close(model(X), before)
    # two heads of size 4 over 8 rows: queries, keys, values and answers of 16 each; both products of 8 x 8
    assert dense - macs(model, IMAGE) == 2 * (4 * 8 * 16 * 4 + 2 * 8 * 8 * 4)
    assert isinstance(model.get_submodule(ATTENTIONS[0]), nn.MultiheadAttention)


@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor"])
def test_heads_that_are_zero_go_first_by_a_criterion_and_nobody_notices(criterion):
    """Two of four in each attention, others in each; with them 0.675 of the multiply-accumulates are left."""
    model, silent = encoder(), {name: [layer, layer + 1] for layer, name in enumerate(ATTENTIONS)}
    for name, heads in silent.items():
        attention = model.get_submodule(name)
        silence_(attention, heads)
        with torch.no_grad():  # what makes them, too
            for tensor in (attention.in_proj_weight, attention.in_proj_bias):
                tensor.view(3, 4, 4, -1)[:, heads] = 0
    before = model(X)
    settings = params(0.68, criterion={"method": criterion}, scope="uniform")
    list(shrink_(model, settings, EVIDENCE, [], 0.0, [1.0]))
    assert [model.get_submodule(name).num_heads for name in ATTENTIONS] == [2, 2, 2]
    torch.testing.assert_close(model(X), before)


def test_sequence_first_with_weights_and_a_mask_loses_heads_too():
    model = stirred(Attending())
    dense = macs(model, IMAGE)
    remove_(model, IMAGE, {"attend": [1]})
    assert model(X).shape == (5, 3) and macs(model, IMAGE) < dense


@pytest.mark.parametrize("criterion", [l1, l2])
def test_a_score_counts_what_makes_a_head_and_what_reads_it(criterion):
    model = stirred(Transformer())
    attention = model.encoder.layers[0].self_attn
    (group,) = groups(model, IMAGE, criterion)
    power = 1 if criterion is l1 else 2
    made = attention.in_proj_weight.detach().abs().pow(power).reshape(3, 2, -1).sum((0, 2))
    read = attention.out_proj.weight.detach().abs().pow(power).reshape(8, 2, 4).sum((0, 2))
    torch.testing.assert_close(group.scores, made + read)
    assert group.name == "encoder.layers.0.self_attn" and type(attention) is nn.MultiheadAttention


def test_taylor_ranks_heads_as_the_measured_loss_does():
    """The loss of each sample with one head faded a little, against its first-order change."""
    torch.manual_seed(0)
    model, samples = Encoder(layers=1).eval(), pictures()
    (group,) = groups(model, IMAGE, taylor, samples=samples)
    x, y = samples.inputs(slice(None)), samples.targets(slice(None))
    measured = []
    for head in range(4):
        faded = deepcopy(model)
        with torch.no_grad():
            faded.encoder.layers[0].self_attn.out_proj.weight[:, head * 4 : (head + 1) * 4] *= 0.99
            change = [nn.functional.cross_entropy(one(x), y, reduction="none") for one in (faded, model)]
        measured.append(float((change[0] - change[1]).abs().sum()) / 0.01 / len(y))
    np.testing.assert_allclose(group.scores.numpy(), measured, rtol=0.05)


@pytest.mark.parametrize("scope", ["sensitivity", "uniform", "global", "isomorphic"])
@pytest.mark.parametrize("criterion", CRITERIA_OF_HEADS)
def test_the_target_is_met_the_best_heads_stay_and_it_repeats(criterion, scope):
    settings = params(0.8, criterion={"method": criterion}, scope=scope, sensitivity={"ratios": [0.5, 0.75]})
    models = []
    for _ in range(2):
        model = encoder()
        before = deepcopy(model.state_dict())
        points = scan(model, settings, EVIDENCE)
        assert all(torch.equal(own, before[key]) for key, own in model.state_dict().items())
        list(shrink_(model, settings, EVIDENCE, points, score(model)[0], [1.0]))
        models.append(model)
    assert torch.equal(models[0](X), models[1](X))
    assert 0.5 < macs(models[0], IMAGE) / macs(encoder(), IMAGE) <= 0.8
    dense = encoder()
    found = groups(dense, IMAGE, CRITERIA[criterion], samples=EVIDENCE.samples, seed=EVIDENCE.seed)
    gone_of_all, kept_of_all = [], []
    for group in found:
        kept = heads_kept(dense.get_submodule(group.name), models[0].get_submodule(group.name))
        gone = [head for head in range(4) if head not in kept]
        assert kept and (not gone or group.scores[gone].max() <= group.scores[kept].min())
        gone_of_all += group.scores[gone].tolist()
        kept_of_all += group.scores[kept].tolist()
    if scope == "isomorphic":
        assert max(gone_of_all) <= min(kept_of_all)


def heads_kept(dense, cut):
    read = dense.out_proj.weight.detach().T.reshape(4, 4, 16)
    own = cut.out_proj.weight.detach().T.reshape(-1, 4, 16)
    return [head for head in range(4) if any(torch.equal(read[head], other) for other in own)]


@pytest.mark.parametrize("criterion", CRITERIA_OF_HEADS)
def test_every_attention_keeps_a_head(criterion):
    model = encoder()
    settings = params(0.72, criterion={"method": criterion}, scope="global")
    list(shrink_(model, settings, EVIDENCE, [], 0.0, [0.5, 1.0]))
    assert all(model.get_submodule(name).num_heads >= 1 for name in ATTENTIONS)
    with pytest.raises(ValueError, match=r"^prune: no attention can lose a head: "):
        for _ in range(2):
            remove_(model, IMAGE, {name: range(1, model.get_submodule(name).num_heads) for name in ATTENTIONS})
            groups(model, IMAGE, l2)


def test_an_attention_is_never_emptied():
    with pytest.raises(
        ValueError, match=r"^prune: cutting 4 heads of encoder.layers.0.self_attn would leave it empty$"
    ):
        remove_(encoder(), IMAGE, {ATTENTIONS[0]: range(4)})


def test_an_unreachable_target_says_the_best_there_is():
    model = encoder()
    left = deepcopy(model)
    remove_(left, IMAGE, {name: [0, 1, 2] for name in ATTENTIONS})
    best = macs(left, IMAGE) / macs(model, IMAGE)
    with pytest.raises(
        ValueError, match=rf"^prune.target is 0.1; the smallest that its layers can be leaves {best:.3f}"
    ):
        list(shrink_(model, params(0.1, scope="uniform"), EVIDENCE, [], 0.0, [1.0]))


def test_attention_that_is_ignored_keeps_its_heads():
    model = encoder()
    found = groups(model, IMAGE, l2, leave={model.encoder.layers[1].self_attn})
    assert [group.name for group in found] == [ATTENTIONS[0], ATTENTIONS[2]]


@pytest.mark.parametrize(
    ("more", "whole"),
    [
        ({"protect": {"first": True}}, [0]),
        ({"protect": {"last": True}}, [2]),
        ({"protect": {"first": True, "last": True}}, [0, 2]),
        ({"ignore": ["encoder.layers.1"]}, [1]),
    ],
)
@pytest.mark.parametrize("scope", ["sensitivity", "uniform", "global", "isomorphic"])
def test_attention_that_is_protected_or_ignored_keeps_its_heads_by_every_scope(more, whole, scope):
    model = encoder()
    settings = params(0.9, scope=scope, **more)
    points = scan(model, settings, EVIDENCE)
    list(shrink_(model, settings, EVIDENCE, points, score(model)[0], [1.0]))
    kept = {place for place, name in enumerate(ATTENTIONS) if model.get_submodule(name).num_heads == 4}
    assert set(whole) <= kept < {0, 1, 2}


def test_the_first_attention_is_that_which_runs_first():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            x = self.first(x[:, 0], x[:, 0], x[:, 0])[0]
            return self.head(self.second(x, x, x)[0].mean(1))

    model = Backwards().eval()
    list(shrink_(model, params(0.9, protect={"first": True}, scope="uniform"), EVIDENCE, [], 0.0, [1.0]))
    assert (model.first.num_heads, model.second.num_heads) == (2, 1)


def test_protecting_every_attention_says_why_nothing_is_left_to_cut():
    message = r"of several heads that prune.ignore and prune.protect do not keep; use pattern channel or layer$"
    with pytest.raises(ValueError, match=message):
        scan(stirred(Transformer()), params(0.9, protect={"first": True}), EVIDENCE)


@pytest.mark.parametrize("training", [True, False])
def test_cutting_keeps_the_mode(training):
    model = encoder().train(training)
    remove_(model, IMAGE, {ATTENTIONS[0]: [1]})
    assert {module.training for module in model.modules()} == {training}


def test_a_model_without_attention_says_what_would_do():
    message = r"^prune: no attention can lose a head: the model has no plain nn.MultiheadAttention .*; use pattern chan"
    with pytest.raises(ValueError, match=message):
        groups(CNN(IMAGE, 3, (4,), (2,)), IMAGE, l2)


@pytest.mark.parametrize("more", [{"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 6}])
def test_attention_of_another_kind_is_left_alone(more):
    assert prunable(nn.MultiheadAttention(8, 2)) and not prunable(nn.MultiheadAttention(8, 2, **more))


def test_a_mask_for_every_head_and_an_unbatched_input_are_refused():
    model = nn.ModuleDict({"attend": nn.MultiheadAttention(8, 4)})
    keep_heads_(model, "attend", [1, 2])
    x = torch.rand(5, 3, 8)
    with pytest.raises(ValueError, match=r"^attention that lost heads takes batches of sequences and one mask for all"):
        model["attend"](x, x, x, attn_mask=torch.zeros(12, 5, 5))
    with pytest.raises(ValueError, match=r"^attention that lost heads takes batches"):
        model["attend"](x[0], x[0], x[0])


def saved(folder):
    factory = Factory(factory="networks:Encoder", args={"layers": 2})
    model = checkpoint.build(factory, CARD, (torch.zeros(1, 1, 1), torch.ones(1, 1, 1)), 0, "model").eval()
    remove_(model, IMAGE, {"model.encoder.layers.0.self_attn": [1, 3]})
    channels.remove_(model, IMAGE, {"model.encoder.layers.1.linear1": [0, 5]})  # feed-forward units after heads
    checkpoint.save(model, CARD, folder, parent="student")
    return model


def test_it_comes_back_bit_for_bit_exports_trains_on_and_is_pruned_again(tmp_path):
    model = saved(tmp_path / "once")
    again = checkpoint.load(tmp_path / "once", CARD)
    assert torch.equal(again(X), model.eval()(X)) and str(again) == str(model)
    serves_as_any_other(again, CARD, X, tmp_path)
    smaller = macs(again, IMAGE)
    list(shrink_(again, params(0.9, scope="uniform"), Evidence(IMAGE, score, pictures()), [], 0.0, [1.0]))
    assert macs(again, IMAGE) <= 0.9 * smaller
    assert isinstance(again.get_submodule("model.encoder.layers.1.self_attn"), Attention)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("model.embed", 1),
        ("model.gone", 1),
        (ATTENTIONS[1], 2),
        ("model.encoder.layers.0.self_attn", 0),
        ("model.encoder.layers.0.self_attn", 5),
    ],
)
def test_a_table_of_heads_for_another_model_is_refused(tmp_path, name, heads):
    saved(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**content, "heads": {name: heads}}))
    with pytest.raises(ValueError, match=rf"model.json: the table of heads does not fit the model at '{name}'$"):
        checkpoint.load(tmp_path, CARD)


def test_the_global_generator_is_not_touched():
    model = encoder()
    before = torch.random.get_rng_state()
    remove_(model, IMAGE, {ATTENTIONS[0]: [1]})
    assert torch.equal(torch.random.get_rng_state(), before)
