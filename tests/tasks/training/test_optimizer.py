import pytest
import torch
from torch import nn

from tasks.params import Train
from tasks.training.optimizer import learning_rate, make_optimizer


def rates(total=10, **knobs):
    train = Train(lr=0.5, **knobs)
    return [learning_rate(step, total, train) / 0.5 for step in range(total)]


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("linear", 0.2, [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("linear", 0.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("constant", 0.2, [0.5, *[1] * 9]),
        ("constant", 0.0, [1] * 10),
        # (1 + cos(pi * k / 8)) / 2 for k = 0 ... 7 once the peak is reached
        ("cosine", 0.2, [0.5, 1, 1, 0.96194, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.03806]),
    ],
)
def test_schedules_by_hand(schedule, warmup, expected):
    assert rates(schedule=schedule, warmup=warmup) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.33, 0.99])
@pytest.mark.parametrize("total", [1, 3, 17])
def test_the_rate_is_positive_and_never_above_lr(schedule, warmup, total):
    found = rates(total, schedule=schedule, warmup=warmup)
    assert all(0 < rate <= 1 for rate in found)
    peak = found.index(max(found))
    assert found[:peak] == sorted(found[:peak]) and found[peak:] == sorted(found[peak:], reverse=True)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_only_weights_decay_and_frozen_parameters_are_left_out(name, kind):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 3))
    model[4].requires_grad_(False)
    optimizer = make_optimizer(model.parameters(), Train(optimizer=name, lr=0.1, weight_decay=0.3))
    assert type(optimizer) is kind
    held = {group["weight_decay"]: [id(p) for p in group["params"]] for group in optimizer.param_groups}
    weights = [model[0].weight, model[3].weight]
    spared = [model[0].bias, model[1].weight, model[1].bias, model[3].bias]
    assert held == {0.3: [id(p) for p in weights], 0.0: [id(p) for p in spared]}
