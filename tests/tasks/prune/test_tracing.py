"""A forward that looks at values is refused with its module, the operation and what would do."""

import pytest
import torch
from networks import Attending, Encoder, Recurrent
from torch import nn
from toy import stirred

from tasks.prune.channels import groups, remove_
from tasks.prune.criteria import l2
from tasks.prune.graph import Graph
from tasks.prune.tracing import RefusingValues

IMAGE = (1, 8, 8)


class Net(nn.Module):
    """Two layers with something between them, which runs within a module of its own."""

    def __init__(self, work):
        super().__init__()
        self.first, self.between, self.head = nn.Linear(64, 6), Within(work), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.between(self.first(x.flatten(1))))


class Within(nn.Module):
    def __init__(self, work):
        super().__init__()
        self.work = work

    def forward(self, x):
        return self.work(x)


def of_positive_rows(x):
    rows = torch.nonzero(x.sum(1) > 0)[:, 0]
    return x + x[rows].sum(0)


BRANCHES = r"between: branches on values, or takes one as a number; torch.where would do"


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda x: x if x.sum() > 0 else -x, BRANCHES),
        (lambda x: x * x.max().item(), BRANCHES),
        (lambda x: x[:, : int(x[0, 0])], BRANCHES),
        (lambda x: x if torch.equal(x, x.abs()) else -x, BRANCHES),
        (
            of_positive_rows,
            r"between: calls nonzero, whose answer's shape depends on values; a factor of 0 or 1 would do",
        ),
        (lambda x: x + x[x > 0].mean(), r"between: calls index, whose answer's shape depends on values; a factor of"),
        (lambda x: x + x.masked_select(x > 0).sum(), r"between: calls masked_select, whose answer's shape depends on"),
    ],
    ids=["if", "item", "slice", "equal", "nonzero", "mask", "masked_select"],
)
@pytest.mark.parametrize("cut", [False, True])
def test_what_decides_by_values_is_named_with_what_would_do(work, reason, cut):
    model = stirred(Net(work))
    with pytest.raises(
        ValueError, match=rf"^prune: the model cannot be traced \({reason}.*\); use pattern unst"
    ) as caught:
        remove_(model, IMAGE, {"first": [0]}) if cut else groups(model, IMAGE, l2)
    assert "\n" not in str(caught.value)


def by_a_constant(x):
    return x if torch.ones(3, 3).triu().sum() > 3 else -x


def written_where_positive(x):
    answer = torch.zeros_like(x)
    answer[x > 0] = 1.0
    return answer * x


@pytest.mark.parametrize(
    "work",
    [
        by_a_constant,
        written_where_positive,
        lambda x: torch.where(x > 0, x, x.exp()),
        lambda x: x + x[torch.arange(len(x)), x.argmax(1)][:, None],
        lambda x: x * (x > 0)[:, torch.arange(6)],
        lambda x: x if len(x) > 1 else -x,
    ],
    ids=["constant", "written", "where", "picked", "picked of a mask", "size"],
)
def test_what_does_the_same_whatever_the_values_are_is_let_through(work):
    inputs = torch.zeros(2, 1, 8, 8)
    with RefusingValues(inputs):
        Net(work)(inputs)


@pytest.mark.parametrize("model", [Attending(), Encoder(), Recurrent()], ids=lambda model: type(model).__name__)
def test_attention_and_recurrence_are_let_through(model):
    Graph(model, IMAGE)


def test_an_error_of_the_model_s_own_names_the_module_too():
    def broken(x):
        raise TypeError("wants\nmore")

    message = r"^prune: the model cannot be traced \(between: wants more\); use pattern unstructured for it$"
    with pytest.raises(ValueError, match=message):
        groups(Net(broken), IMAGE, l2)
