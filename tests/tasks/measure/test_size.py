"""Multiply-accumulates by hand, where PyTorch's own counter sees nothing."""

import torch
from networks import Encoder, Recurrent
from torch import nn

from tasks.measure.size import macs

IMAGE = (1, 8, 8)


def test_a_transformer_layer_by_hand_whatever_its_mode():
    """Of 8 rows of 16: queries, keys, values and answers; both products; 20 feed-forward units."""
    layer = 8 * (4 * 16 * 16 + 2 * 16 * 20) + 2 * 8 * 8 * 16
    expected = 8 * 8 * 16 + 2 * layer + 16 * 3
    for model in (Encoder(layers=2).eval(), Encoder(layers=2).train()):
        training = model.training
        assert macs(model, IMAGE) == expected and model.training is training
    assert torch.backends.mha.get_fastpath_enabled()


def test_an_lstm_by_hand():
    assert macs(Recurrent(), IMAGE) == 8 * 8 * 6 + 8 * 4 * 12 * (6 + 12) + 12 * 10 + 10 * 3


def test_attention_counts_the_same_with_and_without_its_weights():
    class Alone(nn.Module):
        def __init__(self, weights):
            super().__init__()
            self.attend, self.weights = nn.MultiheadAttention(8, 2, batch_first=True), weights

        def forward(self, x):
            return self.attend(x, x, x, need_weights=self.weights)[0]

    assert macs(Alone(True), (5, 8)) == macs(Alone(False), (5, 8)) == 5 * 4 * 64 + 2 * 25 * 8
