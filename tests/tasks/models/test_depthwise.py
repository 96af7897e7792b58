import pytest
import torch
from toy import card, pictures, stirred

from tasks import checkpoint
from tasks.export.onnx import export
from tasks.measure.size import macs, parameters
from tasks.models.cnn import CNN
from tasks.models.depthwise import DepthwiseCNN
from tasks.params import Factory
from tasks.prune.channels import groups, remove_
from tasks.prune.criteria import l2

SHAPE = (1, 8, 8)
CARD = card(SHAPE)
X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
CUTS = {"body.1.0": [1, 4], "body.2.0": [0, 2, 6], "body.2.3": [3]}


def network(channels=(8, 12, 16), strides=(2, 1, 2)):
    return stirred(DepthwiseCNN(SHAPE, 3, channels, strides))


def predicted(first, second, third):
    """Multiply-accumulates; images of 4 x 4, then 4 x 4, then 2 x 2."""
    stem = 9 * first * 16
    return stem + (9 + second) * first * 16 + (9 + third) * second * 4 + 3 * third


def test_every_channel_is_filtered_alone_before_they_are_mixed():
    model = network()
    silent, loud = X[:1].new_zeros(1, 8, 4, 4), X[:1].new_zeros(1, 8, 4, 4)
    loud[0, 5] = 1
    depthwise = model.body[1][0]
    changed = (depthwise(loud) != depthwise(silent)).flatten(2).any(2)
    assert changed[0].nonzero().flatten().tolist() == [5]


def test_cost_by_hand():
    model = network()
    assert macs(model, SHAPE) == predicted(8, 12, 16)
    assert parameters(model) == (9 * 8 + 16) + (9 * 8 + 16 + 8 * 12 + 24) + (9 * 12 + 24 + 12 * 16 + 32) + 16 * 3 + 3


def test_each_block_has_one_group_of_channels_and_the_output_none():
    assert [group.channels for group in groups(network(), SHAPE, l2)] == [8, 12, 16]


@pytest.mark.parametrize(
    ("layer", "silenced", "sizes"),
    [
        ("body.1.0", ["body.0.1", "body.1.1"], (6, 12, 16)),  # where its filter's BatchNorm adds nothing either
        ("body.2.0", ["body.1.4", "body.2.1"], (8, 9, 16)),
        ("body.2.3", ["body.2.4"], (8, 12, 15)),
    ],
)
def test_cutting_channels_that_are_zero_leaves_the_outputs_equal(layer, silenced, sizes):
    model = network()
    with torch.no_grad():
        for name in silenced:
            for parameter in model.get_submodule(name).parameters():
                parameter[CUTS[layer]] = 0
    before = model(X)
    remove_(model, SHAPE, {layer: CUTS[layer]})
    torch.testing.assert_close(model(X), before)
    assert macs(model, SHAPE) == predicted(*sizes)


def test_pruned_it_comes_back_bit_for_bit_and_exports(tmp_path):
    factory = Factory(
        factory="tasks.models.depthwise:DepthwiseCNN", args={"channels": [8, 12, 16], "strides": [2, 1, 2]}
    )
    moments = torch.full((1, 1, 1), 8.0), torch.full((1, 1, 1), 4.0)
    model = checkpoint.build(factory, CARD, moments, 0, "distill.model")
    stirred(model.model)
    remove_(model, SHAPE, {f"model.{name}": channels for name, channels in CUTS.items()})
    checkpoint.save(model, CARD, tmp_path, parent=None)
    again = checkpoint.load(tmp_path, CARD)
    assert torch.equal(again(X), model.eval()(X)) and str(again) == str(model)
    assert macs(again, SHAPE) == predicted(6, 9, 15)
    export(again, CARD, pictures(), tmp_path, "distill.model")  # compares the file's answers with the model's


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((4,), (8,), r"needs images of \(channels, height, width\), the data has \(4,\)"),
        (SHAPE, (8, 8), "channels has 2 entries, strides 1; give one each"),
    ],
)
@pytest.mark.parametrize("network", [CNN, DepthwiseCNN])
def test_what_does_not_fit_is_one_clear_line(network, shape, channels, message):
    with pytest.raises(ValueError, match=f"^{network.__name__}: {message}$"):
        network(shape, 3, channels, (2,))


def test_no_channels_at_all_is_refused():
    with pytest.raises(ValueError, match=r"^DepthwiseCNN: channels is empty; give at least the stem's$"):
        DepthwiseCNN(SHAPE, 3, (), ())
