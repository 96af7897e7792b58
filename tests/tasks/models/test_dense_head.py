import pytest
import torch
from toy import card, stirred

from tasks import checkpoint
from tasks.distill.students import slimmed
from tasks.measure.size import macs
from tasks.models.cnn import CNN
from tasks.models.depthwise import DepthwiseCNN
from tasks.params import Factory
from tasks.params.students import Slim
from tasks.prune.channels import groups, remove_
from tasks.prune.criteria import l2

SHAPE = (1, 9, 7)
X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("strides", [[1, 1], [2, 1], [2, 2], [3, 2]])
def test_all_of_the_feature_maps_reach_the_hidden_units_whatever_kernel_and_strides(kernel, strides):
    model = CNN(SHAPE, 3, [4, 6], strides, kernel, hidden=[8, 5]).eval()
    maps = model.body(X)
    assert model.head[0].in_features == maps[0].numel()
    assert model(X).shape == (5, 3)


def test_where_something_is_in_the_image_matters():
    flattened, pooled = (stirred(CNN((1, 8, 8), 3, [4], [1], 1, hidden=hidden)) for hidden in ([6], []))
    left, right = torch.zeros(2, 1, 1, 8, 8)
    left[..., 4, 1] = right[..., 4, 6] = 1
    torch.testing.assert_close(pooled(left), pooled(right))
    assert not torch.allclose(flattened(left), flattened(right), atol=1e-3)


def test_cost_by_hand():
    model = DepthwiseCNN((1, 8, 8), 3, [4, 6], [2, 2], hidden=[10, 5])
    assert macs(model, (1, 8, 8)) == 9 * 4 * 16 + (9 + 6) * 4 * 4 + 6 * 4 * 10 + 10 * 5 + 5 * 3


def test_hidden_units_are_cut_like_channels_and_it_comes_back_bit_for_bit(tmp_path):
    shape = (1, 8, 8)
    args = {"channels": [4, 6], "strides": [2, 2], "hidden": [10]}
    factory = Factory(factory="tasks.models.cnn:CNN", args=args)
    moments = torch.full((1, 1, 1), 8.0), torch.full((1, 1, 1), 4.0)
    model = checkpoint.build(factory, card(shape), moments, 0, "distill.model")
    stirred(model.model)
    assert [group.channels for group in groups(model, shape, l2)] == [4, 6, 10]
    remove_(model, shape, {"model.body.1.0": [1, 4], "model.head.0": [0, 7, 9]})
    assert macs(model, shape) == 9 * 4 * 16 + 9 * 4 * 4 * 4 + 4 * 4 * 7 + 7 * 3
    checkpoint.save(model, card(shape), tmp_path, parent=None)
    inputs = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(checkpoint.load(tmp_path, card(shape))(inputs), model.eval()(inputs))


def test_slim_narrows_the_hidden_units_too():
    args = {"channels": [8, 16], "strides": [2, 2], "hidden": [32]}
    factory = Factory(factory="tasks.models.cnn:CNN", args=args)
    slim = slimmed(factory, Slim(method="slim", width=0.5))
    assert slim.args == {"channels": [4, 8], "strides": [2, 2], "hidden": [16]}
