import numpy as np
import pytest
import torch
from torch.nn import functional as F
from toy import pictures

from tasks.data.augment import draw, generator_of, mixed
from tasks.params import Augment

IMAGES = torch.arange(3 * 2 * 6 * 5, dtype=torch.float32).view(3, 2, 6, 5) + 1
EVERYTHING = Augment(shift=2, flip=True, cutout=3)
EVERY_KIND = [Augment(), Augment(shift=2), Augment(flip=True), Augment(cutout=3), Augment(cutout=99), EVERYTHING]
ALL = slice(None)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def changed(images, augment, seed=0):
    return draw(len(images), tuple(images.shape[1:]), augment, generator(seed)).of(images, ALL)


def copies(count):
    return IMAGES[:1].expand(count, -1, -1, -1)


@pytest.mark.parametrize("augment", EVERY_KIND)
def test_augmentation_keeps_shape_type_and_source_and_repeats(augment):
    before = IMAGES.clone()
    first, again = (changed(IMAGES, augment) for _ in range(2))
    assert first.shape == IMAGES.shape and first.dtype == IMAGES.dtype
    assert torch.equal(first, again) and torch.equal(IMAGES, before)


@pytest.mark.parametrize("augment", EVERY_KIND)
def test_a_view_gives_the_same_image_whenever_and_beside_whatever_it_is_asked_for(augment):
    images = torch.rand(40, 2, 6, 5, generator=generator(1))
    view = draw(40, (2, 6, 5), augment, generator())
    whole = view.of(images, ALL)
    for positions in (np.array([7, 3, 39, 3]), np.arange(40)[::-1].copy(), slice(10, 25)):
        assert torch.equal(view.of(images[positions], positions), whole[positions])


def test_no_augmentation_changes_nothing():
    assert torch.equal(changed(IMAGES, Augment()), IMAGES)


@pytest.mark.parametrize("shape", [(4,), (6, 5), ()])
def test_what_is_no_image_passes_unchanged(shape):
    table = torch.rand(5, *shape)
    assert changed(table, EVERYTHING) is table


def test_a_shifted_image_is_a_window_of_the_image_with_its_border_reflected():
    padded = F.pad(IMAGES, [2] * 4, mode="reflect")
    windows = [padded[:, :, top : top + 6, left : left + 5] for top in range(5) for left in range(5)]
    seen = set()
    for seed in range(40):
        for image, moved in enumerate(changed(IMAGES, Augment(shift=2), seed)):
            (where,) = [at for at, window in enumerate(windows) if torch.equal(window[image], moved)]
            seen.add(where)
    assert seen == set(range(25))  # every shift from -2 to 2 in both directions occurs


def test_a_flipped_image_is_its_mirror_image_about_half_the_time():
    batch = copies(1000)
    found = changed(batch, Augment(flip=True))
    mirrored = (found == batch.flip(3)).flatten(1).all(1)
    assert (mirrored | (found == batch).flatten(1).all(1)).all()
    assert 450 < int(mirrored.sum()) < 550


def test_shift_and_flip_together_still_keep_every_row_in_one_piece():
    padded = F.pad(IMAGES, [2] * 4, mode="reflect")
    for image, moved in enumerate(changed(IMAGES, Augment(shift=2, flip=True))):
        windows = [padded[image, :, top : top + 6, left : left + 5] for top in range(5) for left in range(5)]
        assert any(torch.equal(moved, window) or torch.equal(moved, window.flip(2)) for window in windows)


def test_cutout_blanks_one_square_of_its_size_in_all_channels():
    batch = copies(200)
    found = changed(batch, Augment(cutout=3))
    blank = found == 0
    assert torch.equal(blank[:, 0], blank[:, 1]) and (blank[:, 0].sum((1, 2)) == 9).all()
    assert torch.equal(found[~blank], batch[~blank])
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert (rows == 3).all() and (columns == 3).all()
    assert blank.any(0).all()  # and reaches every corner


def test_images_are_augmented_each_in_its_own_way():
    batch = pictures(1).inputs(ALL).expand(20, -1, -1, -1)
    assert len({image.numpy().tobytes() for image in changed(batch, EVERYTHING)}) > 10


@pytest.mark.parametrize("shift", [5, 99])
def test_a_shift_as_large_as_the_image_is_one_line(shift):
    with pytest.raises(ValueError, match=rf"^augment.shift is {shift}; it must be below the image's 5 pixels$"):
        changed(IMAGES, Augment(shift=shift))


def test_the_largest_shift_works():
    assert changed(IMAGES, Augment(shift=4)).shape == IMAGES.shape


def test_every_seed_and_stream_has_a_generator_of_its_own():
    drawn = {tuple(torch.rand(2, generator=generator_of(seed, n)).tolist()) for seed in range(20) for n in range(20)}
    assert len(drawn) == 400
    assert torch.equal(torch.rand(3, generator=generator_of(4, 2)), torch.rand(3, generator=generator_of(4, 2)))


TARGETS = F.one_hot(torch.arange(8) % 3, 3).float()
PICTURES = torch.rand(8, 2, 12, 10, generator=generator(3))
MIXES = [Augment(mixup=0.4), Augment(cutmix=1.0), Augment(mixup=1.0, cutmix=1.0)]


@pytest.mark.parametrize("augment", MIXES)
@pytest.mark.parametrize("inputs", [PICTURES, PICTURES[:, 0, 0]])
def test_mixing_keeps_targets_probabilities_and_repeats_by_its_generator_alone(augment, inputs):
    before = inputs.clone()
    for seed in range(20):
        torch.manual_seed(seed)
        np.random.seed(seed)
        first, again = (mixed(inputs, TARGETS, augment, generator(seed)) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert first[0].shape == inputs.shape
        torch.testing.assert_close(first[1].sum(1), torch.ones(8))
        assert float(first[1].min()) >= 0
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("inputs", [PICTURES, PICTURES[:, 0, 0]])
def test_mixup_blends_each_sample_with_its_partner_and_targets_alike(inputs):
    shares = set()
    for seed in range(20):
        twice = torch.cat([inputs.flatten(1), torch.eye(8)], 1)  # the last columns tell who was mixed with whom
        together, targets = mixed(twice, TARGETS, Augment(mixup=1.0), generator(seed))
        blend = together[:, -8:]
        torch.testing.assert_close(together[:, :-8], blend @ inputs.flatten(1))
        torch.testing.assert_close(targets, blend @ TARGETS)
        assert int((blend > 0).sum(1).max()) <= 2
        shares.add(round(float(blend.diagonal().min()), 4))
    assert len(shares) > 10


def test_cutmix_patches_a_rectangle_whose_share_of_pixels_is_that_of_the_targets():
    names = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 2, 12, 10)
    sizes = set()
    for seed in range(40):
        found, targets = mixed(names, torch.eye(8), Augment(cutmix=1.0), generator(seed))
        torch.testing.assert_close(targets, torch.stack([(found[:, 0] == n).float().mean((1, 2)) for n in range(8)], 1))
        foreign = (found != names).any(1)
        for patch in foreign[foreign.any(2).any(1)]:
            assert int(patch.sum()) == int(patch.any(1).sum()) * int(patch.any(0).sum())
        sizes.add(int(foreign.sum((1, 2)).max()))
    assert len(sizes) > 15


def test_a_patch_may_lie_anywhere():
    found = [mixed(PICTURES, TARGETS, Augment(cutmix=1.0), generator(seed))[0] != PICTURES for seed in range(60)]
    assert torch.cat(found).any(1).any(0).all()


def test_where_both_are_asked_for_each_batch_takes_one_of_them():
    names = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 2, 12, 10)
    patched = 0
    for seed in range(200):
        found, _ = mixed(names, torch.eye(8), Augment(mixup=1.0, cutmix=1.0), generator(seed))
        patched += int(torch.equal(found, found.round()))
    assert 70 < patched < 130
