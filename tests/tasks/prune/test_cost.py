"""Targets that are counted, and targets that are measured on the file."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from toy import card, pictures, stirred

from tasks.measure.size import macs
from tasks.models.cnn import CNN
from tasks.models.mlp import MLP
from tasks.params import ChannelPruning
from tasks.params.prune import CostTarget
from tasks.prune import cost
from tasks.prune.allocation import measured
from tasks.prune.channels import remove_
from tasks.prune.cost import MEASURES, share_left
from tasks.prune.evidence import Evidence
from tasks.prune.structured import scan, shrink_

IMAGE = (1, 8, 8)
X = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0))


def score(model):
    with torch.no_grad():
        return -float(model(X).sum()), 0.0


EVIDENCE = Evidence(IMAGE, score, pictures(), 0, card(IMAGE))


def network():
    return stirred(CNN(IMAGE, 3, (16, 24), (2, 2)))


def test_the_dense_model_stays_the_measure_when_it_is_cut_itself():
    model = network()
    left = {name: share_left(name, model, EVIDENCE) for name in ("macs", "parameters")}
    remove_(model, IMAGE, {"body.0.0": range(8)})
    assert left["macs"](model) == pytest.approx(
        (9 * 8 * 16 + 9 * 8 * 24 * 4 + 72) / (9 * 16 * 16 + 9 * 16 * 24 * 4 + 72)
    )
    assert 0.4 < left["parameters"](model) < 0.6


def test_bytes_are_those_of_the_file():
    """Half of what is nearly all of the weights."""
    wide = MLP(IMAGE, 3, (512,)).eval()
    left = share_left("bytes", wide, EVIDENCE)
    assert left(wide) == 1
    remove_(wide, IMAGE, {"body.1": range(256)})
    assert left(wide) == pytest.approx(0.5, abs=0.02)


def test_latency_is_that_of_the_deployed_model_beside_the_deployed_dense_one(monkeypatch):
    """With multiply-accumulates for a clock."""
    monkeypatch.setattr(cost, "deployed", lambda model, *_: deepcopy(model))
    monkeypatch.setattr(cost, "relative_latency", lambda call, other, _: macs(call, IMAGE) / macs(other, IMAGE))
    model = network()
    left, counted = (share_left(name, model, EVIDENCE) for name in ("latency", "macs"))
    remove_(model, IMAGE, {"body.1.0": range(12)})
    assert left(model) == counted(model) < 1


def test_deployed_networks_are_told_apart_by_their_latency():
    wide, narrow = (cost.deployed(MLP(IMAGE, 3, (width, width)).eval(), card(IMAGE), pictures()) for width in (1024, 8))
    one = pictures().first(1, 0)
    assert cost.relative_latency(narrow, wide, one) < 0.8 < 1.25 < cost.relative_latency(wide, narrow, one)


@pytest.mark.parametrize("name", ["bytes", "latency"])
def test_what_is_measured_on_the_file_needs_a_card(name):
    with pytest.raises(ValueError, match=r"^prune.target: bytes and latency need the data's card and samples$"):
        share_left(name, network(), Evidence(IMAGE, score, pictures()))


def test_every_target_has_its_measure():
    assert set(CostTarget.model_fields) == set(MEASURES)


@pytest.mark.parametrize("scope", ["sensitivity", "uniform", "global", "isomorphic"])
@pytest.mark.parametrize("name", ["bytes", "latency"])
def test_a_measured_target_is_met_with_as_much_left_as_six_measurements_find(monkeypatch, name, scope):
    """A stand-in for the clock: half of the latency is there whatever is cut."""
    asked = []

    class Table:
        """Foretells multiply-accumulates, nearly."""

        @staticmethod
        def latency_ms(sizes):
            return sum(inputs * outputs for inputs, outputs in sizes.values())

    def slow(dense, _):
        whole = macs(dense, IMAGE)

        def left(model):
            asked.append(0.5 + 0.5 * macs(model, IMAGE) / whole)
            return asked[-1]

        return left

    monkeypatch.setattr(cost, "MEASURES", {**MEASURES, name: slow})
    model = network()
    dense = macs(model, IMAGE)
    settings = ChannelPruning.model_validate(
        {"pattern": "channel", "target": {name: 0.75}, "scope": scope, "round_to": 1, "recalibrate": False}
    )
    evidence = replace(EVIDENCE, operations=Table())
    list(shrink_(model, settings, evidence, scan(model, settings, evidence), score(model)[0], [1.0]))
    assert 0.4 < macs(model, IMAGE) / dense <= 0.5
    assert len(asked) <= 6


def test_one_that_is_out_of_reach_says_the_best_there_is():
    with pytest.raises(
        ValueError, match=r"^prune.target is 0.4; the smallest that its layers can be leaves 0.500; raise it$"
    ):
        measured(lambda share: {"layer": 1 - share}, 0.2, lambda _: 0.5, 0.4)
