"""Small networks with what makes cutting hard: branches, reuse, attention, recurrence. For images of 1 x 8 x 8."""

import torch
from torch import nn


class Concatenated(nn.Module):
    """Two branches side by side behind one BatchNorm; the second reads the first."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(11)
        self.third = nn.Conv2d(11, 8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        first = self.first(x).relu()
        both = self.norm(torch.cat([first, self.second(first).relu()], 1))
        return self.head(self.third(both).relu().mean((2, 3)))


class Reused(nn.Module):
    """One layer runs twice, the second time on what it made."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.conv(self.stem(x).relu()).relu()
        return self.head(self.conv(x).relu().mean((2, 3)))


class Transposed(nn.Module):
    """Takes what a factory is offered, and needs none of it."""

    def __init__(self, in_shape=(1, 8, 8), classes=3):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.make = nn.ConvTranspose2d(4, 6, 2, stride=2)
        self.slope = nn.PReLU(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.slope(self.make(self.stem(x).relu())).mean((2, 3)))


class Grouped(nn.Module):
    """The middle layer's inputs and outputs come in two halves."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.halves = nn.Conv2d(8, 8, 3, groups=2)
        self.last = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.last(self.halves(self.first(x).relu()).relu()).relu().mean((2, 3)))


class TwoHeads(nn.Module):
    """Its logits are the sum of two layers'."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(1, 6, 3)
        self.left, self.right = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        x = self.body(x).relu().mean((2, 3))
        return self.left(x) + self.right(x)


class Transformer(nn.Module):
    """Rows of the image are the tokens."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x[:, 0])).mean(1))


class Recurrent(nn.Module):
    """Rows of the image are the steps."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 6)
        self.lstm = nn.LSTM(6, 12, batch_first=True)
        self.wide = nn.Linear(12, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.wide(self.lstm(self.embed(x[:, 0]))[0][:, -1]).relu())


class AddingBlock(nn.Module):
    """BatchNorm and ReLU before the convolution, and the sum with the input after it."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv(self.norm(x).relu())


class Preactivated(nn.Module):
    """Two blocks that add to their input, in a stage that keeps its input's shape as they do."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3)
        self.stage = nn.Sequential(AddingBlock(6), AddingBlock(6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.stage(self.stem(x).relu()).mean((2, 3)))


class Encoder(nn.Module):
    """Three layers of four heads; takes what a factory is offered, and needs none of it."""

    def __init__(self, in_shape=(1, 8, 8), classes=3, layers=3):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 20, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x[:, 0])).mean(1))


class Attending(nn.Module):
    """An nn.MultiheadAttention of its own, sequence first and with its weights, beside a mask."""

    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        rows = x[:, 0].transpose(0, 1)
        mask = torch.ones(len(rows), len(rows), dtype=torch.bool).triu(1)
        answers, weights = self.attend(rows, rows, rows, attn_mask=mask)
        return self.head(answers.mean(0)) + weights.mean((1, 2), keepdim=False)[:, None]
