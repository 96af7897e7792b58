from dataclasses import replace

import pytest

from tasks.distill.probe import ALONE, CANDIDATES, Trial, choose
from tasks.training.losses import LOSSES


def chosen(scores, epochs=8):
    """What `choose` finds where each candidate has its place's score, whatever the length."""
    asked = []

    def score(candidate, length):
        asked.append((candidate, length))
        return scores[CANDIDATES.index(candidate)]

    return *choose(epochs, score), asked


def places(candidates):
    return [CANDIDATES.index(candidate) for candidate in candidates]


@pytest.mark.parametrize(
    ("epochs", "lengths"), [(8, (2, 4, 8)), (1, (1, 1, 1)), (3, (1, 2, 3)), (10, (3, 5, 10)), (0, (1, 1, 1))]
)
def test_ten_then_five_then_two_train_ever_longer(epochs, lengths):
    scores = [0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.5, 0.9, 0.0]
    _, trials, asked = chosen(scores, epochs)
    assert [length for _, length in asked] == [lengths[0]] * 10 + [lengths[1]] * 5 + [lengths[2]] * 2
    assert places(candidate for candidate, _ in asked) == [*range(10), 8, 1, 3, 5, 7, 8, 1]
    assert trials == [Trial(c.name, n, scores[CANDIDATES.index(c)]) for c, n in asked]


@pytest.mark.parametrize("best", range(10))
def test_the_best_wins_the_student_alone_too(best):
    scores = [0.5] * 10
    scores[best] = 0.9
    winner, _, _ = chosen(scores)
    assert winner is CANDIDATES[best]
    assert CANDIDATES[0] is ALONE and ALONE.losses == ()


def test_equal_ones_stay_in_order_so_that_the_plainest_wins():
    winner, _, asked = chosen([0.5] * 10)
    assert winner is ALONE and places(candidate for candidate, _ in asked) == [*range(10), 0, 1, 2, 3, 4, 0, 1]


def test_the_last_round_decides_and_not_the_first():
    scores = {2: {"kd T2": 0.9, "dist T4": 0.8}, 4: {"kd T2": 0.9, "dist T4": 0.8}, 8: {"kd T2": 0.6, "dist T4": 0.7}}
    winner, _ = choose(8, lambda candidate, length: scores[length].get(candidate.name, 0.1))
    assert winner.name == "dist T4"


def test_candidates_have_names_of_their_own_and_known_losses():
    assert len({candidate.name for candidate in CANDIDATES}) == 10
    assert all(loss.method in LOSSES for candidate in CANDIDATES for loss in candidate.losses)


def test_some_differ_in_their_weights_only():
    plain = {candidate.name: candidate for candidate in CANDIDATES}
    (usual,), (heavy,) = plain["dist T2"].losses, plain["dist T2 weight 5"].losses
    assert heavy == usual.model_copy(update={"weight": 5.0}) and heavy.weight > usual.weight
    assert plain["kd T4 without labels"] == replace(plain["kd T4"], name="kd T4 without labels", target_weight=0.0)
