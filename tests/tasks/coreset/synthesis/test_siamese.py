import pytest
import torch

from tasks.coreset.synthesis.siamese import draw_change
from tasks.params.synthesis import Siamese

IMAGES = torch.rand(5, 2, 12, 12, generator=torch.Generator().manual_seed(0))
NOTHING = Siamese(shift=0.0, scale=1.0, rotate=0.0, brightness=0.0, contrast=0.0, cutout=0.0)
ALL = Siamese(flip=True)


def change(params, count=1, seed=0):
    return draw_change(count, params, torch.Generator().manual_seed(seed))


def test_all_images_of_a_batch_change_alike():
    found = change(ALL)(IMAGES[:1].expand(5, -1, -1, -1))
    assert not torch.allclose(found[0], IMAGES[0], atol=0.05)
    torch.testing.assert_close(found, found[:1].expand_as(found))


def test_real_and_made_images_meet_the_same_change():
    both = change(ALL)
    torch.testing.assert_close(both(IMAGES)[2:], both(IMAGES[2:]))


def test_as_many_changes_as_images_are_one_each():
    found = change(ALL, count=5)(IMAGES[:1].expand(5, -1, -1, -1))
    assert all(not torch.allclose(found[0], other, atol=0.05) for other in found[1:])


def test_the_seed_decides():
    assert torch.equal(change(ALL)(IMAGES), change(ALL)(IMAGES))
    assert not torch.equal(change(ALL)(IMAGES), change(ALL, seed=1)(IMAGES))


def test_nothing_asked_for_changes_nothing():
    torch.testing.assert_close(change(NOTHING)(IMAGES), IMAGES)


def test_a_flip_mirrors_some_images_and_no_others():
    found = change(NOTHING.model_copy(update={"flip": True}), count=200)(IMAGES[:1].expand(200, -1, -1, -1))
    mirrored = [torch.allclose(one, IMAGES[0].flip(2), atol=1e-5) for one in found]
    same = [torch.allclose(one, IMAGES[0], atol=1e-5) for one in found]
    assert 70 < sum(mirrored) < 130 and sum(mirrored) + sum(same) == 200


def test_a_shift_stays_within_its_share_of_the_side():
    dot = torch.zeros(1, 1, 11, 11)
    dot[0, 0, 5, 5] = 1
    found = change(NOTHING.model_copy(update={"shift": 0.2}), count=300)(dot.expand(300, -1, -1, -1))
    places = torch.arange(11.0)
    centre = (found.sum(2)[:, 0] @ places) / found.sum((1, 2, 3)) - 5
    assert 2.0 < centre.abs().max() <= 2.2 + 1e-4 and abs(centre.mean()) < 0.3


def test_the_cut_square_covers_its_share():
    found = change(NOTHING.model_copy(update={"cutout": 0.5}), count=200)(torch.ones(200, 1, 12, 12))
    gone = (found == 0).flatten(1).sum(1)
    assert gone.max() == 36 and gone.min() >= 9


@pytest.mark.parametrize(("name", "measure"), [("brightness", lambda x: x.mean()), ("contrast", lambda x: x.std())])
def test_light_changes_what_it_is_named_for(name, measure):
    found = change(NOTHING.model_copy(update={name: 0.4}), count=100)(IMAGES[:1].expand(100, -1, -1, -1))
    spread = torch.stack([measure(one) for one in found]) - measure(IMAGES[0])
    assert spread.min() < 0 < spread.max()


def test_the_gradient_reaches_every_pixel_that_is_seen():
    images = IMAGES.clone().requires_grad_()
    change(NOTHING.model_copy(update={"rotate": 10.0, "contrast": 0.2}))(images).square().sum().backward()
    assert (images.grad[:, :, 3:9, 3:9] != 0).all()


def test_tables_pass_unchanged():
    rows = torch.rand(4, 3)
    assert change(ALL)(rows) is rows
