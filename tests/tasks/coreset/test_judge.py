import numpy as np
import pytest
import torch
from pydantic import ValidationError
from toy import blobs, card, pictures

from tasks.coreset.evidence import Chosen
from tasks.coreset.judge import FIGURES, calibration_error, interval, judge, measured, samples_of, steps_of, verdict
from tasks.coreset.proxies import ARCHITECTURES
from tasks.data.batches import Samples
from tasks.data.splits import Splits
from tasks.params import Herding, Judge


def splits(samples, train):
    """The first `train` samples are training's, the others validation's."""
    parts = [Samples(samples.x, samples.y, part) for part in np.split(np.arange(len(samples)), [train])]
    return Splits(card(samples.shape), parts[0], parts[1], parts[1], parts[0])


def chosen(indices, of, weights=None):
    return Chosen(np.array(indices), np.full(len(indices), of / len(indices)) if weights is None else weights)


@pytest.fixture
def half_wrong():
    """120 training samples, the second 60 of them labelled wrongly."""
    samples = blobs(180)
    labels = samples.y.copy()
    labels[60:120] = (labels[60:120] + 1) % 3
    return splits(Samples(samples.x, labels, samples.indices), 120)


@pytest.mark.parametrize(("members", "beats"), [(range(30), True), (range(60, 90), False)], ids=["right", "wrong"])
def test_rightly_labelled_samples_beat_random_ones_and_wrongly_labelled_do_not(half_wrong, members, beats):
    drawn = [chosen(np.random.default_rng(seed).permutation(120)[:30], 120) for seed in range(3)]
    found = judge(half_wrong, chosen(members, 120), drawn, Judge(), width=8, seed=0)
    assert found["beats"] is beats and found["verdict"].startswith("beats" if beats else "does not beat")
    pairs = {(run["set"], run["model"], run["seed"]): run["accuracy"] for run in found["runs"]}
    gains = [pairs["chosen", m, s] - pairs["random", m, s] for m in ("mlp", "wide_mlp") for s in range(3)]
    assert found["gain"] == pytest.approx(np.mean(gains))
    assert found["sets"]["chosen"]["accuracy"][0] - found["sets"]["random"]["accuracy"][0] == pytest.approx(
        found["gain"]
    )
    assert [found["sets"][name]["trainings"] for name in ("chosen", "random", "full")] == [6, 6, 2]


def test_a_set_judged_against_itself_gains_exactly_nothing(half_wrong):
    same = chosen(range(0, 120, 4), 120)
    found = judge(half_wrong, same, [same, same], Judge(seeds=2), width=8, seed=3)
    assert found["gain"] == found["half_width95"] == 0 and not found["beats"]
    assert found["verdict"] == "does not beat random (0.00 +/- 0.00 pp)"


def test_images_are_judged_by_two_architectures(monkeypatch):
    monkeypatch.setattr("tasks.coreset.judge.FEWEST_STEPS", 3)
    monkeypatch.setattr("tasks.coreset.judge.MOST_FULL", 17)
    data = splits(pictures(), 18)
    found = judge(data, chosen(range(9), 18), [chosen(range(9, 18), 18)], Judge(seeds=1), width=8, seed=0)
    assert [run["model"] for run in found["runs"]] == ["cnn", "resnet"] * 2 and found["steps"] == 3
    assert set(found["sets"]) == {"chosen", "random"}  # 18 are more than are trained on whole here


def test_weights_count(half_wrong):
    weights = np.r_[np.full(60, 2.0), np.zeros(60)]
    by_weight = judge(
        half_wrong, chosen(range(120), 120, weights), [chosen(range(120), 120)], Judge(seeds=1), width=8, seed=0
    )
    assert by_weight["gain"] > 0.1
    assert samples_of(half_wrong, chosen(range(5), 120)).weights is None


def test_every_training_takes_as_many_steps():
    assert [steps_of(samples, 5) for samples in (60, 640 * 5, 10**6)] == [100, 250, 1000]


def test_a_training_that_diverges_says_so(half_wrong):
    half_wrong.train.x[0] = np.inf
    with pytest.raises(ValueError, match=r"coreset\.judge: the loss is nan in step 1; set judge: null"):
        judge(half_wrong, chosen(range(30), 120), [chosen(range(30), 120)], Judge(seeds=1), width=8, seed=0)


def test_interval_by_hand():
    mean, half = interval(np.array([0.01, 0.02, 0.03]))
    assert mean == pytest.approx(0.02) and half == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)
    assert interval(np.array([0.5])) == (0.5, np.inf)


def test_the_verdict_is_proven_only_where_the_interval_excludes_zero():
    assert verdict(0.012, 0.0119) == "beats random by 1.20 +/- 1.19 pp"
    assert verdict(0.012, 0.012) == "does not beat random (1.20 +/- 1.20 pp)"


def test_calibration_error_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    # two at 0.9 of which one is right, one at 0.6 and right, one at 1.0 and right
    assert calibration_error(probabilities, np.array([1, 0, 1, 1], bool)) == pytest.approx((0.8 + 0.4) / 4)


def test_figures_by_hand():
    """A network that always answers class 0; validation has no class 2."""
    model = torch.nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
    x = np.zeros((8, 2), np.float32)
    train = Samples(x, np.array([0, 0, 0, 1, 0, 0, 0, 1]), np.arange(4))
    validation = Samples(x, np.array([0] * 6 + [1, 1]), np.arange(4, 8))
    found = measured(model, train, validation)
    assert tuple(found) == FIGURES
    assert found["accuracy"] == 0.5 and found["worst_class_recall"] == 0 and found["gap"] == 0.25


def test_every_kind_of_data_has_two_architectures():
    assert {kind: len(networks) for kind, networks in ARCHITECTURES.items()} == {"image": 2, "tabular": 2}


def test_falling_back_needs_a_judge():
    with pytest.raises(ValidationError, match="fallback is random and judge is null"):
        Herding(method="herding", fraction=0.5, judge=None, fallback="random")
