import numpy as np
import pytest

from tasks.quantize.products import ARITHMETICS, patches, product

NO_ZEROS = (np.uint8(0), np.int8(0))


def matrix(rows, dtype):
    return np.array(rows, dtype)


def test_two_products_that_overflow_16_bits_are_cut_off():
    activations, weights = matrix([[255, 255, 1, 0]], np.uint8), matrix([[127], [127], [127], [127]], np.int8)
    assert product(activations, weights, NO_ZEROS, "s8s8").tolist() == [[255 * 254 + 127]]
    assert product(activations, weights, NO_ZEROS, "u8s8_saturating").tolist() == [[32767 + 127]]
    assert product(activations, -weights, NO_ZEROS, "u8s8_saturating").tolist() == [[-32768 - 127]]


def test_only_neighbours_are_added_in_16_bits():
    weights = matrix([[127], [0], [0], [127]], np.int8)
    activations = matrix([[255, 255, 255, 255]], np.uint8)
    assert product(activations, weights, NO_ZEROS, "u8s8_saturating").tolist() == [[2 * 255 * 127]]


def test_an_odd_last_one_is_paired_with_zero():
    assert product(
        matrix([[0, 0, 255]], np.uint8), matrix([[0], [0], [127]], np.int8), NO_ZEROS, "u8s8_saturating"
    ) == [[255 * 127]]


def test_what_is_multiplied_are_the_raw_bytes_and_zero_points_come_off_exactly():
    activations, weights = matrix([[255, 255]], np.uint8), matrix([[127], [127]], np.int8)
    zeros = (np.uint8(100), np.int8(0))
    assert product(activations, weights, zeros, "u8s8_saturating").tolist() == [[32767 - 100 * 254]]
    assert product(activations, weights, zeros, "s8s8").tolist() == [[155 * 254]]


def naive(activations, weights):
    """Pair by pair, in Python's own integers."""
    sums = np.zeros((len(activations), weights.shape[1]))
    for row, column in np.ndindex(*sums.shape):
        for k in range(0, len(weights), 2):
            pair = sum(int(activations[row, i]) * int(weights[i, column]) for i in (k, k + 1))
            sums[row, column] += max(-32768, min(32767, pair))
    return sums


def test_saturation_agrees_with_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    activations = rng.integers(0, 256, (20, 16)).astype(np.uint8)
    weights = rng.integers(-127, 128, (16, 9)).astype(np.int8)
    found = product(activations, weights, NO_ZEROS, "u8s8_saturating")
    assert np.array_equal(found, naive(activations, weights))
    assert not np.array_equal(found, activations.astype(int) @ weights.astype(int))


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_seven_bit_weights_cannot_saturate(arithmetic):
    activations, weights = np.full((1, 8), 255, np.uint8), np.full((8, 1), 64, np.int8)
    assert product(activations, weights, NO_ZEROS, arithmetic).tolist() == [[8 * 255 * 64]]


def test_unsigned_weights_are_widened_first():
    activations, weights = np.full((1, 2), 255, np.uint8), np.full((2, 1), 255, np.uint8)
    zeros = (np.uint8(0), np.uint8(128))
    assert product(activations, weights, zeros, "u8s8_saturating").tolist() == [[2 * 255 * 127]]


def test_patches_are_cut_as_convolutions_read_them():
    pictures = np.arange(2 * 3 * 5 * 5).reshape(2, 3, 5, 5)
    found = patches(pictures, (2, 2), (2, 1), (1, 3))
    assert found.shape == (2, 2, 2, 2, 2, 3)
    assert found[1, 1, 1].tolist() == [
        [pictures[1, :, 2 + row, 1 + 3 * column].tolist() for column in range(2)] for row in range(2)
    ]
