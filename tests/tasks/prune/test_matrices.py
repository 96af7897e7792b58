"""Which weights may be pruned one by one, and what is said of the others."""

from copy import deepcopy

import pytest
import torch
from networks import Recurrent, Transformer, Transposed
from torch import nn
from toy import pictures, stirred

from tasks.models.cnn import CNN
from tasks.params import UnstructuredPruning
from tasks.params.prune import NmPruning
from tasks.prune.evidence import Evidence
from tasks.prune.matrices import weights
from tasks.prune.unstructured import notes, scan, shrink_

SHAPE = (1, 8, 8)
EVIDENCE = Evidence(SHAPE, lambda model: (1.0, 0.5), pictures())


def network():
    return CNN(SHAPE, 3, (6, 10), (2, 2))


def settings(sparsity=0.7, **more):
    return UnstructuredPruning.model_validate({"pattern": "unstructured", "target": {"sparsity": sparsity}, **more})


def n_m(n=2, m=4, **more):
    return NmPruning.model_validate({"pattern": "n_m", "n": n, "m": m, **more})


ATTENTION = "encoder.layers.0.self_attn"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (network(), ["body.0.0.weight", "body.1.0.weight", "head.weight"]),
        (Transposed(), ["stem.weight", "make.weight", "head.weight"]),
        (Recurrent(), ["embed.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "wide.weight", "head.weight"]),
        (
            Transformer(),
            [
                *("embed.weight", f"{ATTENTION}.in_proj_weight", f"{ATTENTION}.out_proj.weight"),
                *("encoder.layers.0.linear1.weight", "encoder.layers.0.linear2.weight", "head.weight"),
            ],
        ),
        (nn.MultiheadAttention(4, 2, kdim=3), [*(f"{own}_proj_weight" for own in "qkv"), "out_proj.weight"]),
        (nn.Sequential(nn.Embedding(3, 4), nn.Bilinear(2, 2, 2), nn.LayerNorm((2, 2))), []),
    ],
    ids=["cnn", "transposed", "lstm", "transformer", "attention", "others"],
)
def test_weights_that_may_go(model, expected):
    assert list(weights(model)) == expected


def test_n_m_leaves_what_is_ignored_and_protected_and_says_nothing_of_it():
    model, params = stirred(network()), n_m(ignore=["body.1"], protect={"last": True}, m=3, n=1)
    with pytest.raises(ValueError, match=r"^prune.ignore and prune.protect keep all weights that l1 could prune; keep"):
        next(shrink_(model, params, EVIDENCE, (1.0,)))
    params = n_m(ignore=["body.1"], m=3, n=1)
    keep = next(shrink_(model, params, EVIDENCE, (1.0,)))
    assert list(keep) == ["head.weight"] and (model.body[1][0].weight != 0).all()
    assert notes(model, params, EVIDENCE)[1:] == ["left dense, as they have fewer than 3 inputs: body.0.0"]


@pytest.mark.parametrize("model", [Transposed(), Recurrent(), Transformer()], ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("criterion", ["random", "l1", "l2", "taylor", "lamp"])
def test_transposed_recurrent_and_attention_weights_go_with_the_others(model, criterion):
    model = stirred(deepcopy(model))
    params = settings(0.5, criterion={"method": criterion}, scope="uniform")
    keep = next(shrink_(model, params, EVIDENCE, (1.0,)))
    for name, weight in weights(model).items():
        assert torch.equal(weight != 0, keep[name]) and int((weight == 0).sum()) == round(0.5 * weight.numel())
    assert notes(model, params, EVIDENCE)[1:] == []


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        (
            Transformer(),
            settings(criterion={"method": "sparsegpt"}),
            [
                "left dense, as sparsegpt asks what a weight multiplies, known of convolutions and linear layers: "
                f"{ATTENTION}.in_proj_weight"
            ],
        ),
        (Transposed(), n_m(), ["left dense, as they have fewer than 4 inputs: stem", "transposed"]),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Bilinear(2, 2, 3)),
            settings(),
            ["left dense, as no rule is known for a Bili"],
        ),
    ],
)
def test_what_stays_dense_is_said_with_its_reason(model, params, said):
    found = notes(model, params, EVIDENCE)[1:]
    assert len(found) == len(said) and all(text in own for text, own in zip(said, found, strict=True))


def test_a_weight_of_two_layers_is_one_and_stays_where_either_is_ignored():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3))
    model[1].weight = model[0].weight
    assert list(weights(model)) == ["0.weight", "2.weight"] and list(weights(model, {model[1]})) == ["2.weight"]


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        (
            network(),
            settings(ignore=["body", "head"]),
            "^prune.ignore and prune.protect keep all weights that l1 could",
        ),
        (network(), n_m(ignore=["body", "head"]), "^prune.ignore and prune.protect keep all weights that l1"),
        (
            nn.Bilinear(2, 2, 2),
            settings(),
            "^prune.pattern unstructured: the model has no weights that l1 can prune; use",
        ),
        (network(), n_m(1, 64), "^prune.pattern n_m: the model has no weights that l1 can prune; use another"),
    ],
)
def test_where_nothing_can_go_a_line_says_why(model, params, message):
    with pytest.raises(ValueError, match=message):
        next(shrink_(model, params, EVIDENCE, (1.0,)))
    with pytest.raises(ValueError, match=message):
        scan(model, params, EVIDENCE)


@pytest.mark.parametrize(
    ("protect", "whole"),
    [({"first": True}, [0]), ({"last": True}, [2]), ({"first": True, "last": True}, [0, 2])],
)
@pytest.mark.parametrize("make", [lambda **more: settings(0.5, **more), lambda **more: n_m(1, 2, **more)])
def test_protected_layers_keep_their_weights(protect, whole, make):
    model = stirred(CNN((2, 8, 8), 3, (6, 10), (2, 2)))
    keep = next(shrink_(model, make(protect=protect), Evidence((2, 8, 8), None, None), (1.0,)))
    names, others = list(weights(model)), [place not in whole for place in range(3)]
    assert list(keep) == [name for name, goes in zip(names, others, strict=True) if goes]
    assert [bool((weight == 0).any()) for weight in weights(model).values()] == others
