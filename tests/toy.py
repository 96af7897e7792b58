"""Data small enough to train on in a tenth of a second, and a project's files around it."""

import numpy as np
import pandas as pd
import torch

from tasks.data.batches import Samples
from tasks.data.dataset import Card, save_dataset
from tasks.data.describe import content_hashes
from tasks.models.mlp import MLP
from tasks.params import Train
from tasks.training.loop import fit_

CLASSES = ("a", "b", "c")


def blobs(count=60, features=4, classes=3, seed=0):
    """Clearly separated clusters, one per class, in turn."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = 0.3 * rng.standard_normal((count, features)) + 2 * np.eye(classes, features)[y]
    return Samples(x.astype(np.float32), y.astype(np.int64), np.arange(count))


def pictures(count=24, size=8, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 16, (count, 1, size, size)).astype(np.float32)
    return Samples(x, (np.arange(count) % classes).astype(np.int64), np.arange(count))


def card(shape, classes=CLASSES):
    kind = "image" if len(shape) == 3 else "tabular"
    return Card(name="toy", kind=kind, samples=0, input_shape=tuple(shape), classes=classes)


def network(seed=0, hidden=8):
    """A perceptron for blobs."""
    torch.manual_seed(seed)
    return MLP((4,), 3, hidden=(hidden,))


def trained(train=None, *, seed=0, **knobs):
    """A perceptron that learned blobs, with its history."""
    model = network()
    train = train or Train(epochs=3, batch_size=16)
    return model, fit_(model, blobs(), blobs(), train, seed=seed, series="toy", **knobs)


def with_train(train, **changes):
    return train.model_copy(update=changes)


def weights(model):
    """All of its state as bytes."""
    return [(name, tensor.numpy().tobytes()) for name, tensor in model.state_dict().items()]


def save_splits(folder, samples):
    """The files of ingest, split and coreset in `folder`, a fifth each for validation and test; what a stage reads."""
    y = samples.y
    names = [CLASSES[label] for label in y]
    table = pd.DataFrame({"id": np.arange(len(y)), "label": names, "sha1": content_hashes(samples.x)})
    save_dataset(folder / "data", samples.x, y, table, card(samples.shape))
    place = np.arange(len(y)) // 3 % 5  # blobs take their classes in turn
    parts = {"train": np.flatnonzero(place > 1), "validation": np.flatnonzero(place == 1)}
    np.savez(folder / "split.npz", test=np.flatnonzero(place == 0), **parts)
    (folder / "coreset").mkdir()
    np.savez(folder / "coreset" / "indices.npz", indices=parts["train"][::2])
    return {"data": folder / "data", "split": folder / "split.npz", "coreset": folder / "coreset"}


def stirred(model, seed=0):
    """Random weights and BatchNorm statistics, in eval mode: nothing is left at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.2 + torch.rand(tensor.shape, generator=generator))
    return model.eval()
