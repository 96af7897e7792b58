import pytest
import torch
from torch import nn

from tasks.models.cnn import CNN
from tasks.models.normalised import Normalised
from tasks.params import Factory
from tasks.training.taps import Taps

FIELD = "distill.losses: the student"
IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return CNN((1, 8, 8), 3, channels=(2, 4, 5), strides=(2, 1, 2)).eval()


def test_the_named_modules_are_recorded():
    model = network()
    with Taps(model, ["body.1", "body"], FIELD) as taps:
        outputs = taps.outputs(model(IMAGES))
    assert list(outputs.features) == ["body.1", "body"]
    torch.testing.assert_close(outputs.features["body.1"], model.body[:2](IMAGES))
    torch.testing.assert_close(model.head(model.pool(outputs.features["body"]).flatten(1)), outputs.logits)


def test_names_are_those_of_the_users_own_module():
    model = network()
    wrapped = Normalised(model, torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 2.0), Factory(factory="a:b"))
    with Taps(wrapped, ["body"], FIELD) as taps:
        outputs = taps.outputs(wrapped(IMAGES))
    torch.testing.assert_close(outputs.features["body"], model.body((IMAGES - 0.5) * 2))


def test_the_latest_pass_counts_and_nothing_is_recorded_once_closed():
    model = network()
    with Taps(model, ["body"], FIELD) as taps:
        model(IMAGES)
        logits = model(2 * IMAGES)
    model(3 * IMAGES)
    torch.testing.assert_close(taps.outputs(logits).features["body"], model.body(2 * IMAGES))


def test_a_tapped_network_answers_as_before_and_learns_through_the_tap():
    model = network()
    plain = model(IMAGES)
    with Taps(model, ["body.1"], FIELD) as taps:
        outputs = taps.outputs(model(IMAGES))
    assert torch.equal(outputs.logits, plain)
    outputs.features["body.1"].sum().backward()
    assert model.body[0][0].weight.grad.abs().sum() > 0 and model.body[2][0].weight.grad is None


def test_a_feature_is_what_its_module_returned_whatever_the_next_one_does_to_it():
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with Taps(model, ["0"], FIELD) as taps:
        outputs = taps.outputs(model(torch.tensor([[-1.0, 2.0]])))
    assert outputs.features["0"].tolist() == [[-1, 2]]


def test_logits_become_float32():
    model = nn.Linear(2, 2)
    with Taps(model, [], FIELD) as taps:
        assert taps.outputs(torch.ones(1, 2, dtype=torch.bfloat16)).logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "body.9",
            r"^distill.losses: the student has no module 'body.9'; did you mean 'body.2', 'body.1' or 'body.0'\?$",
        ),
        ("bodyy", r"has no module 'bodyy'; did you mean 'body', 'body.2' or 'body.1'\?$"),
        ("haed", r"has no module 'haed'; did you mean 'head'\?$"),
        ("", r"has no module ''; it has 'body', 'body.0', .*'body.1.1', \.\.\.$"),
        ("layer4", r"has no module 'layer4'; it has 'body', "),
    ],
)
def test_an_unknown_name_gets_advice(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        Taps(network(), [name], FIELD)
    assert "\n" not in str(caught.value)


def test_a_network_without_modules_says_so():
    with pytest.raises(ValueError, match="has no module 'body'; it has none"):
        Taps(nn.Linear(2, 2), ["body"], FIELD)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.unused, self.head = nn.LSTM(2, 3), nn.ReLU(), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.cell(x)[0])


def test_a_module_that_returns_no_tensor_is_named():
    model = Recurrent()
    with (
        Taps(model, ["cell"], FIELD),
        pytest.raises(ValueError, match="the student returns a tuple from its module 'cell'; only a tensor"),
    ):
        model(torch.ones(1, 2))


def test_a_module_that_did_not_run_is_named():
    model = Recurrent()
    with Taps(model, ["unused"], FIELD) as taps:
        logits = model(torch.ones(1, 2))
        with pytest.raises(ValueError, match="the student did not run its module 'unused'"):
            taps.outputs(logits)


def test_a_module_that_the_latest_pass_left_out_does_not_answer_from_an_earlier_one():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.extra = nn.Identity()

        def forward(self, x, more):
            return self.extra(x) if more else x

    model = Sometimes()
    with Taps(model, ["extra"], FIELD) as taps:
        taps.outputs(model(torch.ones(1, 2), True))
        logits = model(torch.ones(1, 2), False)
        with pytest.raises(ValueError, match="did not run its module 'extra'"):
            taps.outputs(logits)
