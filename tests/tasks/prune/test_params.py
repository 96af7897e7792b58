"""What params.yaml may say of pruning, and the one line for what it may not."""

from typing import get_args

import pytest
from pydantic import ValidationError, create_model

from tasks.params import Prune, Section
from tasks.params.prune import MEANINGLESS
from tasks.params.recipe import _explain

Recipe = create_model("Recipe", __base__=Section, prune=(Prune, ...))
CHANNEL = {"pattern": "channel", "target": {"macs": 0.5}}
WEIGHTS = {"pattern": "unstructured", "target": {"sparsity": 0.5}}
N_M = {"pattern": "n_m"}
MACS = "prune.channel.target.macs is"
ONE_TARGET = "prune.channel.target: give exactly one of macs, parameters, bytes and latency"


@pytest.mark.parametrize(
    "given",
    [
        CHANNEL,
        {**CHANNEL, "scope": "global", "ignore": ["head"], "protect": {"first": True}, "compensate": True},
        {"pattern": "channel", "target": {"parameters": 0.5}, "criterion": {"method": "fpgm"}},
        {**WEIGHTS, "criterion": {"method": "lamp"}, "recalibrate": False},
        {**WEIGHTS, "scope": "uniform", "protect": {"first": True, "last": True}},
        {**WEIGHTS, "scope": "uniform", "criterion": {"method": "wanda"}},
        {"pattern": "channel", "target": {"latency": 0.5}, "scope": "isomorphic"},
        {"pattern": "channel", "target": "budget", "ladder": {"shares": [0.9, 0.1]}},
        {"pattern": "head", "target": {"bytes": 0.5}},
        {"pattern": "layer", "target": "budget", "blocks": ["body.2"]},
        {"pattern": "n_m"},
        {"pattern": "n_m", "n": 1, "target": "budget"},
        {"pattern": "unstructured", "target": "budget", "ladder": {"shares": [0.5, 0.2]}},
        {**CHANNEL, "scope": "auto"},
        {"pattern": "n_m", "n": 1, "m": 8, "criterion": {"method": "wanda"}},
        *(
            {**pattern, "ignore": ["head"], "protect": {"first": True, "last": True}}
            for pattern in (CHANNEL, {**CHANNEL, "pattern": "head"}, {**CHANNEL, "pattern": "layer"}, WEIGHTS, N_M)
        ),
    ],
)
def test_what_is_right_is_read_and_written_the_same(given):
    found = Recipe.model_validate({"prune": given})
    assert Recipe.model_validate(found.model_dump()) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**CHANNEL, "target": {"macs": 0.0}}, f"{MACS} 0.0: input should be greater than 0"),
        ({**CHANNEL, "target": {"macs": -0.5}}, f"{MACS} -0.5: input should be greater than 0"),
        ({**CHANNEL, "target": {"macs": 1.0}}, f"{MACS} 1.0: input should be less than 1"),
        ({**CHANNEL, "target": {"macs": 1.4}}, f"{MACS} 1.4: input should be less than 1"),
        ({**CHANNEL, "target": {}}, ONE_TARGET),
        ({**CHANNEL, "target": {"macs": 0.5, "parameters": 0.5}}, ONE_TARGET),
        ({**CHANNEL, "target": "budgets"}, "prune.channel.target is 'budgets': input should be 'budget'"),
        ({**CHANNEL, "target": {"speed": 0.5}}, "unknown key prune.channel.target.speed"),
        *(
            (
                {**pattern, "target": {"macs": share}},
                f"prune.{pattern['pattern']}.target.macs is {share}: input should be",
            )
            for pattern in ({"pattern": "head"}, {"pattern": "layer"})
            for share in (0.0, 1.0, -0.5, 1.4)
        ),
        *(
            ({**WEIGHTS, "target": {"sparsity": share}}, f"prune.unstructured.target.sparsity is {share}: input should")
            for share in (0.0, -0.5, 1.4)
        ),
        (
            {**CHANNEL, "ladder": {"shares": [0.5, 0.5]}},
            "prune.channel.ladder: shares are [0.5, 0.5]; each must be bel",
        ),
        ({**CHANNEL, "ladder": {"shares": [1.0]}}, "prune.channel.ladder.shares.0 is 1.0: input should be less than 1"),
        (
            {"pattern": "heads"},
            "prune.pattern is 'heads'; it must be one of 'channel', 'head', 'layer', 'unstructured'",
        ),
        ({**CHANNEL, "pattern": "head", "criterion": {"method": "bn_scale"}}, "prune.head.criterion.method is 'bn_sca"),
        ({**CHANNEL, "scope": "local"}, "prune.channel.scope is 'local': "),
        ({**WEIGHTS, "scope": "isomorphic"}, "prune.unstructured.scope is 'isomorphic': "),
        *(
            (
                {**WEIGHTS, "scope": "global", "criterion": {"method": method}},
                f"prune.unstructured: scope is global, but {method} compares weights of one layer alone; uniform would",
            )
            for method in ("wanda", "sparsegpt")
        ),
        ({**CHANNEL, "criterion": {"method": "lamp"}}, "prune.channel.criterion.method is 'lamp'; it must be one of "),
        ({**WEIGHTS, "criterion": {"method": "fpgm"}}, "prune.unstructured.criterion.method is 'fpgm'; it must be on"),
        ({**WEIGHTS, "target": {"sparsity": 1.0}}, "prune.unstructured.target.sparsity is 1.0: input should be less t"),
        ({**CHANNEL, "sensitivity": {"ratios": [0.0]}}, "prune.channel.sensitivity.ratios.0 is 0.0: input should be g"),
        ({"pattern": "n_m", "target": "budgets"}, "prune.n_m.target is 'budgets': input should be 'budget'"),
        ({**WEIGHTS, "target": "all"}, "prune.unstructured.target is 'all': input should be 'budget'"),
        *(
            (
                {**CHANNEL, "pattern": pattern, "target": share},
                f"prune.{pattern}.target is {share}: it must say of what; {{macs: {share}}} would do, or budget",
            )
            for pattern in ("channel", "head", "layer")
            for share in (0.5, 0, 1, -0.5)
        ),
        (
            {**WEIGHTS, "target": 0.5},
            "prune.unstructured.target is 0.5: it must say of what; {sparsity: 0.5} would do, or budget",
        ),
        ({**N_M, "target": 0.5}, "prune.n_m.target is 0.5: n and m say how much stays; budget would do, or leave targ"),
        ({**N_M, "target": {"sparsity": 0.5}}, "prune.n_m.target: n and m say how much stays; budget would do, or lea"),
        *(({**N_M, "n": n}, f"prune.n_m.n is {n}: input should be greater than or equal to 1") for n in (0, -1)),
        ({**N_M, "n": 0.5}, "prune.n_m.n is 0.5: input should be a valid integer"),
        ({**N_M, "m": 1}, "prune.n_m: n is 2 and m is 1; n of every m weights stay, so n must be below m"),
        *(
            (
                {**N_M, "scope": scope},
                f"prune.n_m: scope is '{scope}', but of every m weights that follow each other n stay, in every layer "
                "alike; leave scope out",
            )
            for scope in ("global", "uniform")
        ),
        ({**N_M, "round_to": 8}, "prune.n_m: round_to is 8, but of every m weights that follow each other n stay; lea"),
        (
            {**CHANNEL, "pattern": "layer", "scope": "global"},
            "prune.layer: scope is 'global', but a block goes as a whole, the one first without which the loss is "
            "least; leave scope out",
        ),
        (
            {**CHANNEL, "pattern": "layer", "criterion": {"method": "l1"}},
            "prune.layer: criterion is {'method': 'l1'}, but the loss without a block decides which one goes; leave",
        ),
        (
            {**CHANNEL, "pattern": "layer", "round_to": 4},
            "prune.layer: round_to is 4, but a block goes as a whole; leave round_to out",
        ),
        (
            {**CHANNEL, "pattern": "head", "round_to": 4},
            "prune.head: round_to is 4, but heads go one by one; leave round_to out",
        ),
        (
            {**WEIGHTS, "round_to": 4},
            "prune.unstructured: round_to is 4, but weights go one by one; leave round_to out",
        ),
        ({**CHANNEL, "ignore": "head"}, "prune.channel.ignore is 'head': names come as a list; [head] would do"),
        ({**CHANNEL, "pattern": "layer", "blocks": "body.2"}, "prune.layer.blocks is 'body.2': names come as a list; "),
        ({**CHANNEL, "round_to": 0}, "prune.channel.round_to is 0: input should be greater than or equal to 1"),
        ({"pattern": "n_m", "n": 4}, "prune.n_m: n is 4 and m is 4; n of every m weights stay, so n must be below m"),
    ],
)
def test_mistakes_are_one_line_and_name_what_would_do(given, message):
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"prune": given})
    lines = [_explain(item) for item in caught.value.errors()]
    assert lines[0].startswith(message) and all("\n" not in line for line in lines)


def test_an_option_is_refused_only_where_the_pattern_has_none():
    kinds = {kind.model_fields["pattern"].annotation: kind for kind in get_args(get_args(Prune)[0])}
    fields = {get_args(pattern)[0]: set(kind.model_fields) for pattern, kind in kinds.items()}
    for pattern, option in MEANINGLESS:
        assert option not in fields[pattern] and any(option in own for own in fields.values())
    options = {"ignore", "protect", "scope", "round_to"}
    assert {
        pattern: options - own - {option for other, option in MEANINGLESS if other == pattern}
        for pattern, own in fields.items()
    } == {pattern: set() for pattern in fields}
