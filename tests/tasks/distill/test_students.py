from copy import deepcopy
from functools import cache

import pytest
import torch
from pydantic import TypeAdapter, ValidationError, create_model
from torch import nn
from toy import card, pictures

from tasks import checkpoint
from tasks.distill import students
from tasks.distill.students import build_student, same_shape_fresh, slimmed, student_table
from tasks.measure.size import macs, parameters
from tasks.params import ChannelPruning, Factory, Section, Train
from tasks.params.recipe import _explain
from tasks.params.students import PrunedTeacher, Slim, Student
from tasks.prune import cost
from tasks.prune.evidence import Evidence
from tasks.prune.structured import shrink_
from tasks.training.loop import fit_

SHAPE = (1, 8, 8)
CARD = card(SHAPE)
DATA = pictures()
MOMENTS = torch.full((1, 1, 1), 8.0), torch.full((1, 1, 1), 4.0)
X = DATA.inputs(slice(0, 6))

CNN = Factory(factory="tasks.models.cnn:CNN", args={"channels": [16, 24], "strides": [2, 2]})
RESNET = Factory(factory="tasks.models.resnet:ResNet", args={"widths": [16, 24]})
MLP_ = Factory(factory="tasks.models.mlp:MLP", args={"hidden": [32, 24]})
DEPTHWISE = Factory(factory="tasks.models.depthwise:DepthwiseCNN", args={"channels": [16, 24, 32]})
FACTORIES = {factory.factory: factory for factory in (CNN, RESNET, MLP_, DEPTHWISE)}
COSTS = {"macs": lambda model: macs(model, SHAPE), "parameters": parameters}


class NoWidths(nn.Module):
    """A teacher whose only list is no list of widths."""

    def __init__(self, in_shape, classes, channels=(0.5, 2)):
        super().__init__()
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        return self.head(x.flatten(1))


@cache
def teacher_of(name="tasks.models.cnn:CNN"):
    """Trained on what it is judged by, so that it loses something with every channel."""
    factory = FACTORIES.get(name, Factory(factory=name))
    model = checkpoint.build(factory, CARD, MOMENTS, 3, "teacher.model")
    fit_(model, DATA, DATA, Train(epochs=30, batch_size=24, lr=0.02), seed=0, series="teacher")
    return model


def pruned(target, **more):
    given = {"method": "pruned_teacher", "target": target, "sensitivity": {"samples": 10}, **more}
    return TypeAdapter(Student).validate_python(given)


def student_of(params, teacher=None, seed=0):
    return build_student(params, teacher or teacher_of(), CARD, MOMENTS, DATA, seed)


def share(model, teacher, measure="macs"):
    return COSTS[measure](model) / COSTS[measure](teacher)


def slim(factory, **knobs):
    return slimmed(factory, Slim.model_validate({"method": "slim", "width": 1.0, **knobs})).args


Distill = create_model("Distill", __base__=Section, model=(Student, ...))
Recipe = create_model("Recipe", __base__=Section, distill=(Distill, ...))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"factory": "tasks.models.cnn:CNN", "args": {"kernel": 5}}, Factory),
        ({"method": "pruned_teacher", "target": {"macs": 0.5}}, PrunedTeacher),
        ({"method": "slim", "width": 1, "depth": 0.5}, Slim),
    ],
)
def test_a_factory_or_else_the_method_decides_what_is_read(given, kind):
    found = Recipe.model_validate({"distill": {"model": given}})
    assert type(found.distill.model) is kind
    assert Recipe.model_validate(found.model_dump()) == found
    assert Recipe(distill=Distill(model=found.distill.model)) == found


CHOICE = "distill.model: needs factory, or method: pruned_teacher or slim"
ONE_TARGET = "distill.model.pruned_teacher.target: give exactly one of macs, parameters and latency"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, CHOICE),
        ({"method": "slimm", "width": 0.5}, CHOICE),
        ({"method": ["slim"]}, CHOICE),
        ("cnn", "distill.model is 'cnn': needs factory, or method: pruned_teacher or slim"),
        ({"method": "pruned_teacher"}, "distill.model.pruned_teacher.target is missing"),
        ({"method": "pruned_teacher", "target": {}}, ONE_TARGET),
        ({"method": "pruned_teacher", "target": {"macs": 0.5, "latency": 0.5}}, ONE_TARGET),
        ({"method": "slim", "width": 1.5}, "distill.model.slim.width is 1.5: input should be less than or equal to 1"),
        ({"factory": "a:b", "method": "slim"}, "unknown key distill.model.factory.method"),
    ],
)
def test_mistakes_are_one_line_and_name_what_would_do(given, message):
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"distill": {"model": given}})
    assert [_explain(item) for item in caught.value.errors()] == [message]


@pytest.mark.parametrize(
    ("widths", "share", "expected"),
    [
        ([27, 42, 24, 1], 0.3, [8, 12, 7, 1]),  # exactly 8.1, 12.6, 7.2 and 0.3
        ([15, 9, 3], 0.95, [15, 8, 3]),  # 14.25 goes to 16, wider than it was
        ([15, 9, 3], 1.0, [15, 9, 3]),
    ],
)
def test_widths_by_hand(widths, share, expected):
    args = {"channels": widths, "strides": [1] * len(widths)}
    assert slim(Factory(factory=CNN.factory, args=args), width=share) == {**args, "channels": expected}


def test_widths_that_are_left_to_the_default_are_found():
    assert slim(Factory(factory=RESNET.factory), width=0.5) == {"widths": [8, 16, 32, 64]}


@pytest.mark.parametrize(("depth", "places"), [(0.8, [0, 1, 3, 4]), (0.6, [0, 2, 4]), (0.1, [0, 4])])
def test_depth_keeps_the_ends_and_shortens_the_list_beside_at_the_same_places(depth, places):
    args = {"channels": [10, 20, 30, 40, 50], "strides": [1, 2, 3, 4, 5], "kernel": 5}
    found = slim(Factory(factory=CNN.factory, args=args), depth=depth)
    assert found["strides"] == [place + 1 for place in places]
    assert found["channels"] == [10 * place + 10 for place in places] and found["kernel"] == 5


def test_depth_leaves_the_shape_of_the_data_and_lists_of_another_length_alone():
    others = {"in_shape": [1, 8, 8], "places": [1, 2, 3, 4]}
    factory = Factory(factory=RESNET.factory, args={**others, "widths": [8, 16, 24]})
    assert slim(factory, depth=0.5) == {**others, "widths": [8, 24]}


SLIM_CNN = Factory(factory=CNN.factory, args={"channels": [8, 12], "strides": [2, 2]})


@pytest.mark.parametrize(("params", "factory"), [(Slim(method="slim", width=0.5), SLIM_CNN), (MLP_, MLP_)])
def test_a_slim_student_or_a_factory_s_is_built_fresh_from_the_seed(params, factory):
    student = student_of(params, seed=5)
    assert student.factory == factory
    assert torch.equal(student(X), checkpoint.build(factory, CARD, MOMENTS, 5, "distill.model")(X))


def test_a_teacher_without_widths_says_what_would_do():
    message = (
        r"^distill\.model: method slim needs a .* as widths or channels or hidden; \S+:NoWidths does not; name the"
    )
    with pytest.raises(ValueError, match=message):
        slim(Factory(factory=f"{__name__}:NoWidths"), width=0.5)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("measure", COSTS)
def test_the_target_is_met_within_rounding(factory, measure):
    teacher = teacher_of(factory)
    student = student_of(pruned({measure: 0.5}, round_to=1), teacher)
    assert 0.43 < share(student, teacher, measure) <= 0.5


def test_the_channels_that_stay_have_the_teachers_weights():
    teacher = teacher_of()
    student = student_of(pruned({"macs": 0.4}, round_to=2), teacher)
    inputs = [0]
    for block in (0, 1):
        (old, old_norm, _), (new, new_norm, _) = teacher.model.body[block], student.model.body[block]
        rows = old.weight[:, inputs].flatten(1).tolist()
        kept = [rows.index(row) for row in new.weight.flatten(1).tolist()]
        assert kept == sorted(kept)
        for name in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(getattr(new_norm, name), getattr(old_norm, name)[kept])
        inputs = kept
    assert len(inputs) < 24 and torch.equal(student.model.head.weight, teacher.model.head.weight[:, inputs])
    assert torch.equal(student.mean, teacher.mean) and student.factory == teacher.factory


@pytest.mark.parametrize("scope", ["uniform", "global", "isomorphic"])
def test_another_scope_cuts_as_the_stage_prune_does_and_scans_nothing(monkeypatch, scope):
    monkeypatch.setattr("tasks.distill.students.scan", None)
    monkeypatch.setattr("tasks.distill.students.loss_and_accuracy", None)
    teacher, expected = teacher_of(), deepcopy(teacher_of()).eval()
    more = {"criterion": {"method": "taylor"}, "scope": scope, "round_to": 2, "compensate": True}
    settings = {"pattern": "channel", "target": {"macs": 0.4}, "recalibrate": False, **more}
    evidence = Evidence(CARD.input_shape, None, DATA.first(10, 0), 0, CARD)
    list(shrink_(expected, ChannelPruning.model_validate(settings), evidence, [], 0.0, [1.0]))
    student = student_of(pruned({"macs": 0.4}, **more), teacher)
    assert str(student) == str(expected) != str(teacher)
    assert torch.equal(student.eval()(X), expected(X))


def test_the_weakest_channels_go():
    teacher, silent = deepcopy(teacher_of()), [1, 2, 5, 6, 9, 11, 12, 14]
    with torch.no_grad():
        teacher.model.body[0][0].weight[silent] *= 1e-3
        teacher.model.body[0][1].weight[silent] = teacher.model.body[0][1].bias[silent] = 0
        teacher.model.body[1][0].weight[:, silent] *= 1e-3
    student = student_of(pruned({"macs": 0.55}), teacher)
    kept = [channel for channel in range(16) if channel not in silent]
    assert torch.equal(student.model.body[0][0].weight, teacher.model.body[0][0].weight[kept])


def test_the_teacher_stays_as_it_is_and_a_frozen_one_has_a_student_that_trains():
    teacher = deepcopy(teacher_of()).train().requires_grad_(False)
    before = deepcopy(teacher.state_dict())
    student = student_of(pruned({"parameters": 0.6}), teacher)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("params", [pruned({"macs": 0.5}), Slim(method="slim", width=0.5), CNN])
def test_the_same_seed_gives_the_same_bytes(tmp_path, params):
    for folder in ("first", "again"):
        checkpoint.save(student_of(params, seed=4), CARD, tmp_path / folder, parent="teacher")
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("factory", FACTORIES)
def test_channels_in_multiples_of_eight_come_back_bit_for_bit(tmp_path, factory):
    student = student_of(pruned({"macs": 0.5}), teacher_of(factory))
    outputs = [layer.weight.shape[0] for layer in student.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert outputs[-1] == 3 and all(channels % 8 == 0 for channels in outputs[:-1])
    checkpoint.save(student, CARD, tmp_path, parent="teacher")
    again = checkpoint.load(tmp_path, CARD)
    assert torch.equal(again(X), student.eval()(X)) and str(again) == str(student)


def test_a_teacher_without_channels_to_cut_names_the_field():
    with pytest.raises(ValueError, match=r"^distill\.model: pruned_teacher cannot cut this teacher \(prune: no layer"):
        student_of(pruned({"macs": 0.5}), teacher_of(f"{__name__}:NoWidths"))


@pytest.fixture
def latencies(monkeypatch):
    """Instead of a clock: a tenth that stays whatever is cut, and the rest in step with the MACs."""
    seen = []

    def latency(model, reference, samples):
        seen.append(0.1 + 0.9 * share(model, reference))
        return seen[-1]

    class Table:
        """Foretells multiply-accumulates, nearly."""

        @staticmethod
        def latency_ms(sizes):
            return sum(inputs * outputs for inputs, outputs in sizes.values())

    monkeypatch.setattr(cost, "deployed", lambda model, *_: deepcopy(model))
    monkeypatch.setattr(cost, "relative_latency", latency)
    monkeypatch.setattr(students, "timed_operations", lambda *_: Table())
    return seen


@pytest.mark.parametrize("target", [0.5, 0.7, 0.95])
def test_the_largest_student_that_is_fast_enough_is_found_in_six_measurements(latencies, target):
    teacher = teacher_of()
    student = student_of(pruned({"latency": target}, round_to=1), teacher)
    assert target - 0.07 < 0.1 + 0.9 * share(student, teacher) <= target
    assert len(latencies) <= 6


@pytest.mark.parametrize("measure", [*COSTS, "latency"])
def test_an_unreachable_target_names_its_field_and_the_least_there_is(latencies, measure):
    params = pruned({measure: 0.1}, sensitivity={"ratios": [0.5], "samples": 10})
    with pytest.raises(ValueError, match=rf"^distill.model.target.{measure} is 0.1; .* leaves? 0\.\d+; raise it"):
        student_of(params)
    assert len(latencies) == (measure == "latency")


def test_the_control_has_the_shape_and_nothing_of_the_weights():
    student = student_of(pruned({"macs": 0.5}))
    before = deepcopy(student.state_dict())
    fresh = same_shape_fresh(student, 1)
    assert str(fresh) == str(student) and fresh.factory == student.factory
    own = {name for name, tensor in fresh.state_dict().items() if torch.equal(tensor, before[name])}
    assert own == {"mean", "inverse_std"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    bound = (9 * student.model.body[0][0].out_channels) ** -0.5  # PyTorch's own, of the pruned size
    weight = fresh.model.body[1][0].weight
    assert 0.8 * bound < float(weight.detach().abs().max()) <= bound


def test_the_control_comes_from_the_seed_alone():
    student, state = student_of(pruned({"macs": 0.5})), torch.random.get_rng_state()
    first, again, other = (same_shape_fresh(student, seed).eval()(X) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_module_that_would_keep_the_teachers_weights_is_refused():
    student = deepcopy(teacher_of())
    student.model.scale = nn.ParameterList([torch.ones(1)])
    with pytest.raises(ValueError, match=r"^distill\.model: ParameterList 'model.scale' needs .* reset_parameters$"):
        same_shape_fresh(student, 0)


def test_the_table_by_hand():
    rows = [("teacher", nn.Linear(64, 16, bias=False)), ("student", nn.Linear(64, 3))]
    assert student_table(rows, (64,)).splitlines() == [
        "model    parameters   MACs  bytes float32  bytes int8",
        "-------  ----------  -----  -------------  ----------",
        "teacher       1,024  1,024          4,096       1,024",
        "student         195    192            780         195",
    ]
