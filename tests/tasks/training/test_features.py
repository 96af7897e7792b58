import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tasks.training.features import FEATURE_LOSSES, TRIPLES_AMONG, adapter, aligned, at, fitnet, rkd, sp

# METHODS.md, section 6
S = torch.tensor([[2.0, 1, 0, -1], [0, 3, -1, 1], [1, -2, 2, 0]])
T = torch.tensor([[3, 0.5, -0.5, -1], [0.5, 2.5, -1.5, 0], [0, -1, 3, 1]])


def feature(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotated(points, seed=0):
    """The flattened points after a random orthogonal transform."""
    flat = points.flatten(1)
    return flat @ torch.linalg.qr(feature(flat.shape[1], flat.shape[1], seed=seed)).Q


def test_golden_value_of_the_reference_implementation_of_at():
    student, teacher = (torch.arange(16.0) / 10).view(1, 4, 2, 2), (torch.arange(32.0) / 20).view(1, 2, 4, 4)
    assert float(at(student, teacher)) == pytest.approx(0.007793, abs=1e-6)


def test_golden_value_of_the_reference_implementation_of_sp():
    assert float(sp(S, T)) == pytest.approx(0.019107, abs=1e-6)


def test_golden_value_of_the_reference_implementation_of_rkd():
    assert float(rkd(S, T, distance=25, angle=50)) == pytest.approx(0.782176, abs=2e-6)


def test_rkd_distances_by_hand():
    """Distances 1 2 3 of mean 2, against 1 1 2 of mean 4/3: relative ones differ by 1/4 in two of three pairs."""
    student, teacher = torch.tensor([[0.0], [1], [3]]), torch.tensor([[0.0], [1], [2]])
    assert float(rkd(student, teacher, distance=1, angle=0)) == pytest.approx(4 * 0.5 * 0.25**2 / 9)
    assert float(rkd(student, teacher, distance=0, angle=1)) == 0  # both lie on a line, in the same order


def test_rkd_angles_by_hand():
    """A right and an equilateral triangle: cosines 0 1/√2 1/√2 against 1/2 each, every one counted twice in 27."""
    student = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    teacher = torch.tensor([[0.0, 0], [1, 0], [0.5, 0.75**0.5]])
    expected = 2 * 0.5 * (0.5**2 + 2 * (0.5**0.5 - 0.5) ** 2) / 27
    assert float(rkd(student, teacher, distance=0, angle=1)) == pytest.approx(expected)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_nothing_is_left_to_learn_where_the_student_equals_the_teacher(name):
    teacher = feature(4, 3, 2, 2).float()
    student = teacher.clone().requires_grad_()
    value = FEATURE_LOSSES[name](student, teacher)
    value.backward()
    assert abs(float(value.detach())) < 1e-6
    assert float(student.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("name", FEATURE_LOSSES)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_gradients_match_finite_differences(name, size):
    student, teacher = feature(4, 2, 3, 3).requires_grad_(), feature(4, 2, size, size, seed=1)
    assert torch.autograd.gradcheck(lambda f: FEATURE_LOSSES[name](f, teacher), (student,))


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_following_the_gradient_leads_to_the_teacher(name):
    student, teacher = feature(5, 2, 2, 2).requires_grad_(), feature(5, 2, 2, 2, seed=1)
    before = float(FEATURE_LOSSES[name](student, teacher).detach())
    optimizer = torch.optim.Adam([student], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        value = FEATURE_LOSSES[name](student, teacher)
        value.backward()
        optimizer.step()
    assert before > 1e-3 and float(value.detach()) < 0.02 * before


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_dead_duplicate_and_constant_features_have_bounded_gradients(name):
    teacher = feature(4, 2, 2, 2).float()
    dead = teacher.clone()
    dead[0] = 0
    twins = teacher.clone()
    twins[1] = twins[0] + 1e-7
    for student in (dead, twins, torch.ones_like(teacher), torch.zeros_like(teacher)):
        student.requires_grad_()
        FEATURE_LOSSES[name](student, feature(4, 2, 2, 2, seed=1).float()).backward()
        assert float(student.grad.abs().max()) < 1e9 and student.grad.isfinite().all()


def test_at_ignores_scale_sign_and_number_of_the_channels():
    student, teacher = feature(3, 2, 4, 4), feature(3, 2, 4, 4, seed=1)
    torch.testing.assert_close(at(-3 * student, 0.5 * teacher), at(student, teacher))
    torch.testing.assert_close(at(student.repeat(1, 5, 1, 1), teacher), at(student, teacher))
    assert float(at(student.flip(3), teacher)) != pytest.approx(float(at(student, teacher)), rel=0.01)


def test_sp_ignores_rotation_and_scale_but_not_translation():
    student, teacher = feature(4, 2, 3, 3), feature(4, 5, seed=1)
    torch.testing.assert_close(sp(2 * rotated(student), rotated(teacher, 1)), sp(student, teacher))
    assert float(sp(student + 1, teacher)) != pytest.approx(float(sp(student, teacher)), rel=0.01)


def test_rkd_ignores_translation_rotation_and_scale_but_not_stretch():
    student, teacher = feature(4, 2, 3, 3), feature(4, 5, seed=1)
    torch.testing.assert_close(rkd(3 * rotated(student) + 7, 0.1 * rotated(teacher, 1) - 2), rkd(student, teacher))
    stretched = student * torch.tensor([1.0, 4.0]).view(1, 2, 1, 1)
    assert float(rkd(stretched, teacher)) != pytest.approx(float(rkd(student, teacher)), rel=0.01)


def test_rkd_angles_are_the_cosines_between_differences():
    points, others = feature(6, 3), feature(6, 3, seed=1)

    def cosines(x):
        arms = F.normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=2)
        return arms @ arms.mT

    expected = F.smooth_l1_loss(cosines(points), cosines(others))
    torch.testing.assert_close(rkd(points, others, distance=0, angle=1), expected)


@pytest.mark.parametrize("far", [0.7, 0.9, 1.0, 1.3])
def test_cosines_between_near_duplicates_stay_within_their_bounds(far):
    """Rounding of the long sides alone would make the cosines at the short side larger than one."""
    points = torch.tensor([[0.0, 0], [2e-8, 3e-8], [far, 0.6]])
    every_cosine_zero = torch.zeros(3, 2)
    assert float(rkd(points, every_cosine_zero, distance=0, angle=1)) <= 0.5 * 12 / 27 + 1e-6


def test_a_large_batch_has_the_triples_within_its_parts():
    """The mean over all of them, the last part being smaller; a sample beyond the part changes nothing in it."""
    student, teacher = feature(TRIPLES_AMONG + 3, 4), feature(TRIPLES_AMONG + 3, 4, seed=1)
    first, rest = (
        rkd(student[part], teacher[part], distance=0, angle=1)
        for part in (slice(TRIPLES_AMONG), slice(TRIPLES_AMONG, None))
    )
    expected = (TRIPLES_AMONG**3 * first + 3**3 * rest) / (TRIPLES_AMONG**3 + 3**3)
    torch.testing.assert_close(rkd(student, teacher, distance=0, angle=1), expected)


@pytest.mark.parametrize("loss", [sp, rkd])
def test_a_lone_sample_has_no_relations(loss):
    student = S[:1].clone().requires_grad_()
    value = loss(student, T[:1])
    value.backward()
    assert float(value.detach()) == 0 and not student.grad.any()


def test_fitnet_compares_images_at_the_smaller_size_and_with_vectors_as_means():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    quarters = torch.tensor([[2.5, 4.5], [10.5, 12.5]]).view(1, 1, 2, 2)
    assert float(fitnet(image, quarters)) == float(fitnet(quarters, image)) == 0
    assert float(fitnet(image, torch.tensor([[7.5 + 3]]))) == 9


def test_each_side_is_pooled_where_it_is_the_larger():
    ours, theirs = aligned(feature(2, 3, 4, 2), feature(2, 5, 2, 6))
    assert (ours.shape, theirs.shape) == ((2, 3, 2, 2), (2, 5, 2, 2))


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "message"),
    [
        (fitnet, (2, 3, 4), (2, 3, 4), r"fitnet: .* \(2, 3, 4\), the teacher's \(2, 3, 4\); both must be"),
        (fitnet, (2, 3), (4, 3), r"fitnet: .* \(2, 3\), the teacher's \(4, 3\); .* same batch"),
        (fitnet, (2, 3), (2, 5, 1, 1), r"fitnet: .* \(2, 3\), the teacher's \(2, 5\); .* adapter"),
        (at, (2, 3), (2, 3, 4, 4), r"at: .* \(2, 3\), the teacher's \(2, 3, 4, 4\); both must be"),
        (at, (1, 3, 4, 4), (2, 3, 4, 4), r"at: .* same batch"),
        (sp, (2, 3), (4, 3), r"sp: .* \(2, 3\), the teacher's \(4, 3\); both must be"),
        (rkd, (2,), (2, 3), r"rkd: .* \(2,\), the teacher's \(2, 3\); both must be"),
    ],
)
def test_shapes_that_do_not_fit_are_named(loss, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        loss(feature(*student), feature(*teacher))


@pytest.mark.parametrize(("shape", "kind"), [((2, 3, 4, 4), nn.Conv2d), ((2, 3), nn.Linear)])
def test_an_adapter_brings_the_channels_over_and_draws_from_its_generator_only(shape, kind):
    student, teacher = feature(*shape).float(), feature(2, 5, *shape[2:]).float()
    before = torch.get_rng_state()
    layers = [adapter(student, teacher, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(layers[0], kind) and layers[0](student).shape == teacher.shape
    first, again, other = (layer.weight for layer in layers)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert 0.3 < float(first.detach().abs().max()) <= 3**-0.5


def test_as_many_channels_need_no_adapter():
    assert isinstance(adapter(S, T, torch.Generator()), nn.Identity)
