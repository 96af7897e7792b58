from typing import get_args

import pytest
from torch import nn

from tasks.params.prune import ChannelPruning
from tasks.prune.allocation import Unreachable
from tasks.prune.scopes import SCOPES, best_scope


def test_the_scope_of_most_accuracy_after_recovery_is_taken_and_each_is_cut_anew():
    accuracies = dict(zip(SCOPES, (0.4, 0.8, 0.3, 0.8), strict=True))
    seen = []

    def cut(scope):
        seen.append(nn.Identity())
        return seen[-1]

    def recover_(model, scope):
        assert model is seen[-1]
        return accuracies[scope]

    assert best_scope(cut, recover_) == "uniform" and len({id(model) for model in seen}) == 4


def test_a_scope_that_cannot_meet_the_target_is_passed_over():
    def cut(scope):
        if scope != "global":
            raise Unreachable(0.1, 0.2, scope)
        return nn.Identity()

    assert best_scope(cut, lambda *_: 1.0) == "global"


def test_where_none_can_the_one_that_leaves_least_says_so():
    left = dict(zip(SCOPES, (0.5, 0.3, 0.2, 0.4), strict=True))

    def cut(scope):
        raise Unreachable(0.1, left[scope], f"{scope} leaves {left[scope]}")

    with pytest.raises(ValueError, match=r"^prune.target is 0.1; global leaves 0.2$"):
        best_scope(cut, lambda *_: 1.0)


def test_auto_tries_every_other_scope():
    assert set(get_args(ChannelPruning.model_fields["scope"].annotation)) == {"auto", *SCOPES}
