"""Training in integers, of networks that take long to export."""

import networks
import pytest
import torch
from learning import differs_by, exported, int8, learned
from toy import pictures

from tasks.models.depthwise import DepthwiseCNN
from tasks.models.resnet import ResNet


@pytest.mark.parametrize(
    "network",
    [
        networks.Transposed,
        networks.Preactivated,
        networks.Concatenated,
        networks.Grouped,
        lambda: ResNet((1, 8, 8), 3, (4, 8), residual=False),
        lambda: DepthwiseCNN((1, 8, 8), 3, (8, 16), (1, 2)),
    ],
    ids=["transposed", "preactivated", "concatenated", "grouped", "plain", "depthwise"],
)
def test_what_is_written_answers_as_what_was_trained(network, tmp_path):
    torch.manual_seed(0)
    x = pictures(32).inputs(slice(None)).numpy()
    module = learned(int8(exported(network(), tmp_path), x), x, steps=3)
    assert differs_by(module.written(), module, x, tmp_path) < 2.001


def test_an_lstm_is_refused_by_name(tmp_path):
    x = pictures(32).inputs(slice(None)).numpy()
    with pytest.raises(ValueError, match=r"^quantize: the graph has .*LSTM.*, which cannot be trained in integers"):
        learned(int8(exported(networks.Recurrent(), tmp_path), x), x)
