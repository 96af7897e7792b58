"""What a cut leaves, foretold, beside the model that was really cut."""

from copy import deepcopy

import pytest
import torch
from networks import Concatenated, Grouped, Preactivated, Recurrent, Reused, Transformer, Transposed, TwoHeads
from torch import nn
from toy import stirred

from tasks.measure.size import macs, parameters
from tasks.models.cnn import CNN
from tasks.models.depthwise import DepthwiseCNN
from tasks.models.mlp import MLP
from tasks.models.resnet import ResNet
from tasks.prune.channels import groups, remove_
from tasks.prune.criteria import l2
from tasks.prune.sizes import Footprint
from tasks.prune.structured import weakest

IMAGE = (1, 8, 8)


class Flattened(nn.Module):
    """Each channel of the convolution becomes 36 inputs of the linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.head = nn.Linear(6 * 36, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().flatten(1))


NETWORKS = [
    CNN(IMAGE, 3, (6, 8), (2, 2)),
    MLP(IMAGE, 3, (12, 8)),
    ResNet(IMAGE, 3, (4, 6, 8)),
    DepthwiseCNN(IMAGE, 3, (6, 8), (2, 1)),
    *(Flattened(), Concatenated(), Reused(), Preactivated(), Transposed(), Grouped(), TwoHeads()),
    *(Transformer(), Recurrent()),
]


@pytest.mark.parametrize("model", NETWORKS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
def test_macs_parameters_and_sizes_fall_by_the_predicted_number(model, share):
    model = stirred(deepcopy(model))
    found = groups(model, IMAGE, l2)
    footprint, kept = Footprint.of(model, IMAGE, found), [max(1, round(share * group.channels)) for group in found]
    whole = [group.channels for group in found]
    assert (footprint.macs(whole), footprint.parameters(whole)) == (macs(model, IMAGE), parameters(model))
    predicted = footprint.macs(kept), footprint.parameters(kept), footprint.sizes(kept)
    cuts = {group.name: weakest(group, count) for group, count in zip(found, kept, strict=True)}
    remove_(model, IMAGE, cuts)
    assert predicted[:2] == (macs(model, IMAGE), parameters(model))
    assert model(torch.rand(2, *IMAGE)).shape == (2, 3)
    again = Footprint.of(model, IMAGE, groups(model, IMAGE, l2))
    assert predicted[2] == again.sizes([group.channels for group in again.groups])
