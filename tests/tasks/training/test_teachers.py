import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import blobs, network, pictures, weights

from tasks.data.batches import Samples
from tasks.models.cnn import CNN
from tasks.params import Augment, Clean, Kd, Live, Train, Views
from tasks.params.training import Fitnet, Mutual
from tasks.training import teachers
from tasks.training.objective import Objective
from tasks.training.scratch import Scratch
from tasks.training.teachers import FILES_KEPT, LiveAnswers, PeerAnswers, ask

DATA = blobs()
IMAGES = pictures(30)
CLEAN, LIVE = Clean(mode="clean"), Live(mode="live")
KD = Objective([Kd(method="kd")], 0.1)
FITNET = Objective([Fitnet(method="fitnet", student="body", teacher="body")], 0.1)
MOVING = Augment(shift=2, flip=True, cutout=3)
SOME = np.array([17, 3, 29, 3])


def views(count):
    return Views(mode="views", count=count)


def convolutions(seed=0):
    torch.manual_seed(seed)
    return CNN((1, 8, 8), 3, channels=(4, 6), strides=(2, 1))


def asked(answers, models=None, samples=DATA, augment=None, *, objective=KD, seed=0, scratch=None):
    train = Train(augment=augment or Augment())
    models = [network()] if models is None else models
    return ask(models, samples, answers, objective, train, seed=seed, scratch=scratch)


def place(folder, identity="data"):
    return Scratch(folder, "stage", identity)


def live(*models):
    return LiveAnswers(models, ())


def assert_half_precision(found, exact):
    torch.testing.assert_close(found.logits, exact.logits, rtol=2**-10, atol=2**-14)
    assert found.logits.dtype == torch.float32


@pytest.mark.parametrize("kept", [False, True])
def test_clean_answers_are_those_to_the_samples_as_they_are(tmp_path, kept):
    found = asked(CLEAN, scratch=place(tmp_path) if kept else None)
    inputs = DATA.inputs(SOME)
    assert_half_precision(found(SOME, 100 + inputs), live(network())(SOME, inputs))


@pytest.mark.parametrize("kept", [False, True])
def test_answers_by_view_are_those_to_the_samples_as_they_are_shown(tmp_path, kept):
    found = asked(views(3), [convolutions()], IMAGES, MOVING, scratch=place(tmp_path) if kept else None)
    seen = []
    for epoch in range(7):
        inputs = found.view(epoch).of(IMAGES.inputs(SOME), SOME)
        assert_half_precision(found(SOME, inputs), live(convolutions())(SOME, inputs))
        seen.append(inputs.numpy().tobytes())
    assert len(set(seen)) == 3 and seen[:3] == seen[3:6]  # they take turns


def test_clean_answers_leave_the_view_to_the_student():
    assert asked(CLEAN, [convolutions()], IMAGES, MOVING).view(5) is None
    assert asked(LIVE, [convolutions()], IMAGES, MOVING).view(5) is None


def test_live_answers_are_to_what_the_student_sees_and_bring_features():
    model, inputs = network(), 100 + DATA.inputs(SOME)
    found = asked(LIVE, [model], objective=FITNET)(SOME, inputs)
    torch.testing.assert_close(found.logits, model.eval()(inputs))
    torch.testing.assert_close(found.features["body"], model.body(inputs))
    assert not found.logits.requires_grad and not found.features["body"].requires_grad


@pytest.mark.parametrize("answers", [CLEAN, LIVE])
def test_several_teachers_answer_with_their_mean(answers):
    models = [network(seed, hidden) for seed, hidden in ((0, 8), (1, 6), (2, 5))]
    inputs = DATA.inputs(SOME)
    expected = torch.stack([model.eval()(inputs) for model in models]).mean(0)
    found = asked(answers, models)(SOME, inputs)
    torch.testing.assert_close(found.logits, expected.detach(), rtol=2**-10, atol=2**-14)


@pytest.mark.parametrize("answers", [CLEAN, views(2), LIVE])
def test_teachers_stay_as_they_were(answers):
    models = [convolutions().train(), convolutions(1).train()]
    before = [weights(model) for model in models]
    asked(answers, models, IMAGES, MOVING)(SOME, IMAGES.inputs(SOME))
    assert [weights(model) for model in models] == before


def louder(factor):
    model = network()
    with torch.no_grad():
        model.head.weight *= factor
    return model


@pytest.mark.parametrize("kept", [False, True])
def test_answers_beyond_half_precision_are_kept_in_full(tmp_path, kept):
    found = asked(CLEAN, [louder(1e7)], scratch=place(tmp_path) if kept else None)
    assert (found.logits.dtype, asked(CLEAN).logits.dtype) == (np.float32, np.float16)
    inputs = DATA.inputs(SOME)
    expected = live(louder(1e7))(SOME, inputs).logits
    assert float(expected.abs().max()) > 1e5
    torch.testing.assert_close(found(SOME, inputs).logits, expected)


@pytest.mark.parametrize("factor", [torch.nan, torch.inf])
def test_answers_that_are_no_numbers_are_refused(factor):
    with pytest.raises(ValueError, match=r"^the teacher's answers are not all finite; train it with a lower train\.lr"):
        asked(CLEAN, [louder(factor)])


class Computed(Exception):
    """What was kept does not do."""


@pytest.fixture
def no_computing(monkeypatch):
    def refuse():
        def computed(*_):
            raise Computed

        monkeypatch.setattr(teachers, "_computed", computed)

    return refuse


def answers_to(found):
    found.view(0)
    return found(SOME, torch.zeros(len(SOME), 1)).logits.tolist()


@pytest.mark.parametrize(("answers", "augment"), [(CLEAN, Augment()), (CLEAN, MOVING), (views(2), MOVING)])
def test_kept_answers_are_read_again_and_not_computed(tmp_path, no_computing, answers, augment):
    first = asked(answers, [convolutions()], IMAGES, augment, scratch=place(tmp_path))
    no_computing()
    again = asked(answers, [convolutions()], IMAGES, augment, scratch=place(tmp_path))
    assert isinstance(again.logits, np.memmap) and again.identity == first.identity
    assert answers_to(again) == answers_to(first)
    assert [path.suffix for path in (tmp_path / "answers").iterdir()] == [".npy"]


def test_other_stages_and_other_augmentation_of_the_student_share_clean_answers(tmp_path, no_computing):
    asked(CLEAN, [convolutions()], IMAGES, scratch=place(tmp_path))
    no_computing()
    asked(CLEAN, [convolutions()], IMAGES, MOVING, seed=3, scratch=Scratch(tmp_path, "another", "data"))


KEYS = {
    "teacher": {"models": [convolutions(1)]},
    "one more teacher": {"models": [convolutions(), convolutions(1)]},
    "samples": {"samples": Samples(IMAGES.x, IMAGES.y, IMAGES.indices[::-1].copy())},
    "number of views": {"answers": views(3)},
    "mode": {"answers": CLEAN},
    "augment": {"augment": Augment(shift=1, flip=True, cutout=3)},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize("change", KEYS.values(), ids=KEYS)
def test_answers_are_kept_for_one_teacher_data_and_view_only(tmp_path, no_computing, change):
    usual = {"answers": views(2), "models": [convolutions()], "samples": IMAGES, "augment": MOVING}
    first = asked(**usual, scratch=place(tmp_path))
    other = asked(**{**usual, **change})
    assert first.identity != other.identity
    no_computing()
    with pytest.raises(Computed):
        asked(**{**usual, **change}, scratch=place(tmp_path))


def test_other_data_under_the_same_indices_has_answers_of_its_own(tmp_path, no_computing):
    asked(CLEAN, scratch=place(tmp_path))
    no_computing()
    with pytest.raises(Computed):
        asked(CLEAN, samples=replace(DATA, x=DATA.x + 1), scratch=place(tmp_path, "other data"))


@pytest.mark.parametrize("answers", [CLEAN, views(2)])
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"objective": FITNET},
            r"^answers.mode is (clean|views), which keeps logits only; losses that compare the module 'body' "
            r"need answers: {mode: live}$",
        ),
        (
            {"augment": Augment(mixup=0.2)},
            r"^answers.mode is (clean|views); mixup and cutmix need answers: {mode: live}$",
        ),
        (
            {"augment": Augment(cutmix=0.2)},
            r"^answers.mode is (clean|views); mixup and cutmix need answers: {mode: live}$",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(answers, more, message):
    with pytest.raises(ValueError, match=message):
        asked(answers, **more)


@pytest.mark.parametrize("answers", [CLEAN, views(2), LIVE])
def test_a_loss_between_peers_asks_no_teacher(answers):
    with pytest.raises(ValueError, match=r"^mutual learns with a peer, not from a teacher; name it alone, and in"):
        asked(answers, objective=Objective([Mutual(method="mutual")], 1.0))


def test_a_peer_answers_as_it_is_and_learns_where_the_student_does():
    peer, inputs = network(), DATA.inputs(SOME)
    found = PeerAnswers(peer)
    assert found.network is peer and found.view(3) is None
    with torch.no_grad():
        torch.testing.assert_close(found(SOME, inputs).logits, network().eval()(inputs))
    answers = found(SOME, inputs).logits
    assert peer.training and answers.requires_grad
    torch.testing.assert_close(answers, network().train()(inputs))


def test_only_the_latest_used_files_stay(tmp_path, no_computing, monkeypatch):
    folder = tmp_path / "answers"
    for seed in range(FILES_KEPT + 3):
        asked(CLEAN, [network(seed)], scratch=place(tmp_path))
        for number, path in enumerate(sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)):
            os.utime(path, (number, number))  # clocks are coarse
        with monkeypatch.context() as patch:
            patch.delattr(teachers, "_computed")
            asked(CLEAN, [network(0)], scratch=place(tmp_path))  # the first is used again and again
    assert len(list(folder.iterdir())) == FILES_KEPT
    no_computing()
    for seed in (0, *range(4, FILES_KEPT + 3)):
        asked(CLEAN, [network(seed)], scratch=place(tmp_path))
    with pytest.raises(Computed):
        asked(CLEAN, [network(1)], scratch=place(tmp_path))


def test_a_write_that_fails_leaves_no_answers_behind(tmp_path, monkeypatch):
    def half(file, _):
        file.write(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(np, "save", half)
        asked(CLEAN, scratch=place(tmp_path))
    assert list((tmp_path / "answers").iterdir()) == []
    assert answers_to(asked(CLEAN, scratch=place(tmp_path))) == answers_to(asked(CLEAN))
