import numpy as np
import pytest
import torch
from toy import blobs, pictures

from tasks.data.batches import Samples, augmented, in_order, shuffled, steps_per_epoch
from tasks.params import Augment

IMAGES = torch.arange(3 * 2 * 6 * 5, dtype=torch.float32).view(3, 2, 6, 5) + 1
EVERYTHING = Augment(shift=2, flip=True, cutout=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_samples_are_read_through_their_indices():
    x, y = np.arange(10, dtype=np.uint8)[:, None], np.arange(10) * 10
    samples = Samples(x, y, np.array([7, 2, 5]))
    assert len(samples) == 3
    assert samples.inputs(np.array([2, 0])).tolist() == [[5], [7]]
    assert samples.inputs(slice(None)).dtype == torch.float32
    assert samples.targets(slice(1, 3)).tolist() == [20, 50]


@pytest.mark.parametrize("batch_size", [1, 7, 60, 100])
def test_in_order_gives_all_samples_in_their_order(batch_size):
    data = blobs()
    inputs, targets = (torch.cat(parts) for parts in zip(*in_order(data, batch_size), strict=True))
    assert torch.equal(inputs, torch.from_numpy(data.x)) and torch.equal(targets, torch.from_numpy(data.y))


@pytest.mark.parametrize(("batch_size", "steps", "size"), [(16, 3, 16), (20, 3, 20), (60, 1, 60), (128, 1, 60)])
def test_an_epoch_draws_no_sample_twice_in_equal_batches(batch_size, steps, size):
    batches = list(shuffled(blobs(), batch_size, generator()))
    assert [len(batch) for batch in batches] == [size] * steps and steps_per_epoch(blobs(), batch_size) == steps
    drawn = np.concatenate(batches)
    assert len(set(drawn.tolist())) == len(drawn) and drawn.tolist() != sorted(drawn.tolist())


def test_each_epoch_has_its_own_order_and_each_seed_too():
    one = generator()
    first, second, again, other = (
        np.concatenate(list(shuffled(blobs(), 20, source))).tolist() for source in (one, one, generator(), generator(1))
    )
    assert first == again and first != second and first != other


def test_first_draws_without_replacement_and_takes_the_teachers_logits_along():
    logits = torch.arange(60.0)[:, None]
    data = Samples(blobs().x, blobs().y, np.arange(60)[::-1], logits)
    part = data.first(10, seed=0)
    assert len(set(part.indices.tolist())) == 10
    assert part.teacher_logits.flatten().tolist() == [59 - index for index in part.indices]
    assert part.indices.tolist() == data.first(10, seed=0).indices.tolist() != data.first(10, seed=1).indices.tolist()
    assert data.first(60, seed=0) is data and data.first(99, seed=0) is data


@pytest.mark.parametrize(
    "augment", [Augment(), Augment(shift=2), Augment(flip=True), Augment(cutout=3), Augment(cutout=99), EVERYTHING]
)
def test_augmentation_keeps_shape_type_and_source_and_repeats(augment):
    before = IMAGES.clone()
    first, again = (augmented(IMAGES, augment, generator()) for _ in range(2))
    assert first.shape == IMAGES.shape and first.dtype == IMAGES.dtype
    assert torch.equal(first, again) and torch.equal(IMAGES, before)


def test_no_augmentation_changes_nothing():
    assert torch.equal(augmented(IMAGES, Augment(), generator()), IMAGES)


def test_tables_are_left_alone():
    table = torch.rand(5, 4)
    assert augmented(table, EVERYTHING, generator()) is table


def test_a_shifted_image_is_a_window_of_the_image_with_its_border_reflected():
    padded = torch.nn.functional.pad(IMAGES, [2] * 4, mode="reflect")
    windows = [padded[:, :, top : top + 6, left : left + 5] for top in range(5) for left in range(5)]
    seen = set()
    for seed in range(40):
        for image, moved in enumerate(augmented(IMAGES, Augment(shift=2), generator(seed))):
            (where,) = [at for at, window in enumerate(windows) if torch.equal(window[image], moved)]
            seen.add(where)
    assert seen == set(range(25))  # every shift from -2 to 2 in both directions occurs


def test_a_flipped_image_is_its_mirror_image_about_half_the_time():
    batch = IMAGES[:1].expand(1000, -1, -1, -1)
    found = augmented(batch, Augment(flip=True), generator())
    mirrored = (found == batch.flip(3)).flatten(1).all(1)
    assert (mirrored | (found == batch).flatten(1).all(1)).all()
    assert 450 < int(mirrored.sum()) < 550


def test_shift_and_flip_together_still_keep_every_row_in_one_piece():
    wide = torch.nn.functional.pad(IMAGES, [2] * 4, mode="reflect")
    found = augmented(IMAGES, Augment(shift=2, flip=True), generator())
    for image, moved in enumerate(found):
        windows = [wide[image, :, top : top + 6, left : left + 5] for top in range(5) for left in range(5)]
        assert any(torch.equal(moved, window) or torch.equal(moved, window.flip(2)) for window in windows)


def test_cutout_blanks_one_square_of_its_size_in_all_channels():
    batch = IMAGES[:1].expand(200, -1, -1, -1)
    found = augmented(batch, Augment(cutout=3), generator())
    blank = found == 0
    assert torch.equal(blank[:, 0], blank[:, 1]) and (blank[:, 0].sum((1, 2)) == 9).all()
    assert torch.equal(found[~blank], batch[~blank])
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert (rows == 3).all() and (columns == 3).all()
    assert blank.any(0).all()  # and reaches every corner


def test_images_are_augmented_each_in_its_own_way():
    batch = pictures(1).inputs(slice(None)).expand(20, -1, -1, -1)
    assert len({image.numpy().tobytes() for image in augmented(batch, EVERYTHING, generator())}) > 10
