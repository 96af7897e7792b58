import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F
from toy import blobs, network, pictures, trained, weights, with_train

from tasks.data.batches import Samples
from tasks.measure.accuracy import accuracy
from tasks.models.cnn import CNN
from tasks.params import Augment, Train
from tasks.training.curves import read_curves, write_curves
from tasks.training.loop import fit_
from tasks.training.scratch import Scratch

DATA = blobs()
ONE_STEP = Train(epochs=1, batch_size=60, warmup=0.0, schedule="constant", optimizer="sgd", weight_decay=0.0)


class Watched(nn.Module):
    """Calls `seen` with every training batch and its number, from 1 on."""

    def __init__(self, seen, inner=None):
        super().__init__()
        self.inner, self.seen, self.batches = inner or network(), seen, 0

    def forward(self, x):
        if self.training:
            self.batches += 1
            x = self.seen(self.batches, x)
        return self.inner(x)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (trained(seed=seed) for seed in (0, 0, 1))
    assert weights(first[0]) == weights(again[0]) and first[1] == again[1]
    assert weights(first[0]) != weights(other[0])


def test_augmented_image_training_repeats_too():
    def run():
        torch.manual_seed(0)
        model = CNN((1, 8, 8), 3, channels=(4,), strides=(2,))
        train = Train(epochs=1, batch_size=8, augment=Augment(shift=1, flip=True, cutout=2))
        fit_(model, pictures(), pictures(), train, seed=0, series="toy")
        return weights(model)

    assert run() == run()


def test_images_are_trained_with_their_channels_last():
    model, one = CNN((3, 8, 8), 3, channels=(4,), strides=(2,)), pictures()
    seen = []

    def layout(convolution, inputs):
        last = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (*inputs, convolution.weight)]
        seen.append((last, inputs[0].is_contiguous()))

    model.body[0][0].register_forward_pre_hook(layout)
    images = Samples(one.x.repeat(3, 1), one.y, one.indices)
    fit_(model, images, images, Train(epochs=1, batch_size=8), seed=0, series="toy")
    assert (
        seen[1:] == [([True, True], False)] * 4
    )  # three batches and the validation; before them two samples are tried
    assert model.body[0][0].weight.is_contiguous()


def test_dropout_repeats_whatever_the_global_generator_has_done():
    def run(elsewhere):
        model = nn.Sequential(network(), nn.Dropout(0.5))
        torch.manual_seed(elsewhere)
        fit_(model, DATA, DATA, Train(epochs=1, batch_size=16), seed=0, series="toy")
        return weights(model)

    assert run(1) == run(2)


def test_training_learns_separable_blobs_and_reports_what_it_came_to():
    model, history = trained(Train(epochs=15, batch_size=16))
    assert [entry.epoch for entry in history] == list(range(1, 16))
    assert history[-1].loss < 0.5 * history[0].loss
    assert history[-1].validation_accuracy == accuracy(model, DATA) > 0.95
    assert not model.training


def test_every_epoch_has_its_own_order_and_its_own_augmentation():
    seen = []

    def keep(_, x):
        seen.append(x.numpy().tobytes())
        return x

    for augment in (Augment(), Augment(mixup=0.5)):
        seen.clear()
        fit_(Watched(keep), DATA, DATA, Train(epochs=4, batch_size=16, augment=augment), seed=0, series="toy")
        assert len(set(seen)) == 12


def test_the_global_generator_is_left_where_it_was():
    model = network()
    before = torch.random.get_rng_state()
    fit_(model, DATA, DATA, Train(epochs=1), seed=0, series="toy")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("ema", [None, 0.5])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weights_that_a_mask_drops_stay_zero_and_the_others_learn(optimizer, ema):
    model = network()
    keep = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    with torch.no_grad():
        model.body[1].weight.mul_(keep)
    before = model.body[1].weight.detach().clone()
    train = Train(epochs=3, batch_size=16, optimizer=optimizer, ema=ema)
    fit_(model, DATA, DATA, train, seed=0, series="toy", keep={"body.1.weight": keep})
    after = model.body[1].weight.detach()
    assert (after[~keep] == 0).all()
    assert (after[keep] != before[keep]).all()


def test_no_epochs_leave_the_model_as_it_was():
    model, history = trained(Train(epochs=0))
    assert history == [] and weights(model) == weights(network())


def test_the_rate_rises_to_lr_and_falls_to_zero_without_passing_lr():
    _, history = trained(Train(epochs=10, batch_size=60, lr=0.01, warmup=0.2))  # one step per epoch
    expected = [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [entry.lr / 0.01 for entry in history] == pytest.approx(expected)


def test_weight_decay_spares_biases_and_batchnorm():
    class Untouched(nn.Module):
        """Its parameters get a gradient of zero, so only decay can move them."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))
            self.bias = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return 0 * (x @ self.weight.T + self.bias)

    model = Untouched()
    fit_(model, DATA, DATA, Train(epochs=2, weight_decay=0.5), seed=0, series="toy")
    assert (model.weight < 1).all() and (model.bias == 1).all()


@pytest.mark.parametrize("size", [0.001, 0.01])
def test_clip_norm_bounds_the_step(size):
    model = network()
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    fit_(model, DATA, DATA, with_train(ONE_STEP, lr=0.1, clip_norm=size), seed=0, series="toy")
    moved = nn.utils.parameters_to_vector(model.parameters()).detach() - before
    assert float(moved.norm()) == pytest.approx(0.1 * 1.9 * size, rel=1e-3)  # 1.9: the first step of Nesterov momentum


def test_a_gradient_below_clip_norm_is_left_alone():
    assert weights(trained(with_train(ONE_STEP, clip_norm=1e6))[0]) == weights(trained(ONE_STEP)[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_label_smoothing_is_in_the_loss(smoothing):
    _, history = trained(with_train(ONE_STEP, label_smoothing=smoothing))
    logits, targets = network().train()(DATA.inputs(slice(None))), DATA.targets(slice(None))
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert history[0].loss == pytest.approx(float(expected.detach()), rel=1e-5)


def test_balance_shows_a_rare_class_as_often_as_a_common_one():
    batches = []

    def keep(_, x):
        batches.append(x[:, 0])
        return x

    y = (np.arange(60) % 10 == 0).astype(np.int64)
    x = np.repeat(y[:, None], 4, 1).astype(np.float32)
    rare = Samples(x, y, np.arange(60))
    for balance, expected in ((False, 0.1), (True, 0.5)):
        batches.clear()
        fit_(Watched(keep), rare, rare, Train(epochs=4, batch_size=20, balance=balance), seed=0, series="toy")
        assert float(torch.cat(batches).mean()) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("augment", [Augment(mixup=0.5), Augment(cutmix=0.5)])
def test_mixed_samples_train_the_network(augment):
    seen, known = [], set(map(tuple, DATA.x.tolist()))

    def keep(_, x):
        seen.extend(map(tuple, x.tolist()))
        return x

    model = Watched(keep)
    history = fit_(model, DATA, DATA, Train(epochs=20, batch_size=16, augment=augment), seed=0, series="toy")
    assert sum(row in known for row in seen) < 0.5 * len(seen)
    assert history[-1].loss < 0.8 * history[0].loss and history[-1].validation_accuracy > 0.95


def test_a_loss_that_is_no_number_stops_the_training_and_says_where_and_what_to_lower():
    model = nn.Linear(4, 3)
    message = r"^toy: the loss is \w+ in epoch 1, batch 3 of 10; lower train\.lr, now 1e\+30, or set train\.clip_norm$"
    with pytest.raises(ValueError, match=message):
        fit_(model, DATA, DATA, Train(epochs=3, batch_size=6, optimizer="sgd", lr=1e30), seed=0, series="toy")


def test_after_a_loss_that_is_no_number_the_scratch_holds_the_last_good_epoch(tmp_path):
    model = Watched(lambda number, x: x * torch.nan if number == 8 else x)  # of 3 a epoch
    scratch = Scratch(tmp_path, "stage", "data")
    with pytest.raises(ValueError, match=r"toy: the loss is nan in epoch 3, batch 2 of 3;"):
        fit_(model, DATA, DATA, Train(epochs=5, batch_size=16), seed=0, series="toy", scratch=scratch)
    with safe_open(tmp_path / "trainings/stage/toy.safetensors", "pt") as file:
        assert [entry["epoch"] for entry in json.loads(file.metadata()["facts"])["history"]] == [1, 2]
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118


class Spoiled(torch.autograd.Function):
    """The identity, whose gradient is no number."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.nan


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_is_no_number_stops_the_training_though_the_loss_is_one(tmp_path, clip_norm):
    model, scratch = nn.Linear(4, 3), Scratch(tmp_path, "stage", "data")
    passes = []

    def spoil(module, inputs, logits):
        passes.extend([1] if module.training else [])
        return Spoiled.apply(logits) if len(passes) == 6 else logits  # the last batch of the second epoch

    model.register_forward_hook(spoil)
    train = Train(epochs=5, batch_size=16, clip_norm=clip_norm)
    message = (
        r"^toy: a weight is not finite after epoch 2, batch 3 of 3; lower train\.lr, now 0\.01, or set train\.clip"
    )
    with pytest.raises(ValueError, match=message):
        fit_(model, DATA, DATA, train, seed=0, series="toy", scratch=scratch)
    with safe_open(tmp_path / "trainings/stage/toy.safetensors", "pt") as file:
        assert (
            len(json.loads(file.metadata()["facts"])["history"]) == 1
            and file.get_tensor("model.weight").isfinite().all()
        )


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="toy: no training samples"):
        fit_(network(), Samples(DATA.x, DATA.y, DATA.indices[:0]), DATA, Train(), seed=0, series="toy")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_shows_epoch_and_steps_with_the_loss_and_accuracy_of_the_epoch_before(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    _, history = trained(Train(epochs=2, batch_size=16))
    before = rf"toy 2/2, loss {history[0].loss:.3f}, validation {history[0].validation_accuracy:.3f}"
    assert re.search(r"toy 1/2: +0%.* 0/3 \[", terminal.getvalue())
    assert re.search(rf"{re.escape(before)}: +0%.* 0/3 \[.*<", terminal.getvalue())  # after < stands the time left


def test_curves_survive_their_file(tmp_path):
    _, history = trained()
    write_curves(history, tmp_path / "training.csv")
    rows = read_curves(tmp_path / "training.csv")
    assert [(row["series"], row["epoch"], row["loss"]) for row in rows] == [
        (entry.series, entry.epoch, entry.loss) for entry in history
    ]


@pytest.mark.parametrize("augment", [{}, {"mixup": 1.0}])
@pytest.mark.parametrize("balance", [False, True])
def test_probabilities_are_learned_as_the_classes_are_where_they_are_sure(augment, balance):
    train = Train(epochs=2, batch_size=16, balance=balance, augment=Augment(**augment))
    sure = replace(blobs(), y=np.eye(3, dtype=np.float32)[blobs().y])
    found = []
    for samples in (blobs(), sure):
        model = network()
        fit_(model, samples, blobs(), train, seed=0, series="toy")
        found.append(model.state_dict())
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-4, atol=1e-5)
