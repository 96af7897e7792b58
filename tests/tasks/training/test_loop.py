import io

import pytest
import torch
from torch import nn
from toy import blobs, pictures

from tasks.data.batches import Samples
from tasks.measure.accuracy import accuracy
from tasks.models.cnn import CNN
from tasks.models.mlp import MLP
from tasks.params import Augment, Train
from tasks.training.curves import read_curves, write_curves
from tasks.training.loop import fit_

DATA = blobs()


def network(seed=0):
    torch.manual_seed(seed)
    return MLP((4,), 3, hidden=(8,))


def trained(train=None, *, seed=0, **knobs):
    model = network()
    history = fit_(model, DATA, DATA, train or Train(epochs=3, batch_size=16), seed=seed, series="toy", **knobs)
    return model, history


def weights(model):
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue()


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


def test_ema_averages_every_fifth_step_from_the_initial_weights():
    seen = []  # weights before each step
    train = Train(epochs=10, batch_size=60)  # one step per epoch
    model = network()
    model.register_forward_pre_hook(
        lambda module, _: seen.append(module.head.weight.detach().clone()) if module.training else None
    )
    fit_(model, DATA, DATA, train, seed=0, series="toy")
    initial, fifth, tenth = seen[0], seen[5], model.head.weight.detach()
    averaged, history = trained(train.model_copy(update={"ema": 0.75}))
    expected = 0.75 * (0.75 * initial + 0.25 * fifth) + 0.25 * tenth
    torch.testing.assert_close(averaged.head.weight.detach(), expected)
    assert history[-1].validation_accuracy == accuracy(averaged, DATA)


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


def test_a_loss_that_is_no_number_stops_the_training_and_says_what_to_lower():
    model = nn.Linear(4, 3)
    with pytest.raises(ValueError, match=r"^toy: the loss is \w+ in epoch 1 \(lr .*\); lower train\.lr, now 1e\+30$"):
        fit_(model, DATA, DATA, Train(epochs=3, batch_size=6, optimizer="sgd", lr=1e30), seed=0, series="toy")


def test_the_teachers_logits_arrive_beside_their_own_samples():
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1)).numpy()
    own = nn.functional.one_hot(torch.from_numpy(DATA.y[order]), 3).float()
    shuffled = Samples(DATA.x, DATA.y, order, own)
    batches = []

    def loss(student, teacher, targets):
        batches.append(bool((teacher.argmax(1) == targets).all()))
        return nn.functional.cross_entropy(student, targets)

    fit_(network(), shuffled, DATA, Train(epochs=2, batch_size=16), seed=0, series="toy", loss=loss)
    assert batches == [True] * 6  # 60 samples give 3 whole batches of 16


def test_a_distillation_loss_needs_the_teachers_logits():
    with pytest.raises(ValueError, match="needs the teacher's logits"):
        trained(loss=lambda student, teacher, targets: student.sum())


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="toy: no training samples"):
        fit_(network(), Samples(DATA.x, DATA.y, DATA.indices[:0]), DATA, Train(), seed=0, series="toy")


def test_curves_survive_their_file(tmp_path):
    _, history = trained()
    write_curves(history, tmp_path / "training.csv")
    rows = read_curves(tmp_path / "training.csv")
    assert [(row["series"], row["epoch"], row["loss"]) for row in rows] == [
        (entry.series, entry.epoch, entry.loss) for entry in history
    ]
