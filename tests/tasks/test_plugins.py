import sys

import pytest

from tasks.params import Factory
from tasks.plugins import make, resolve

OWN = """
import {dependency}


def model(width, in_shape, classes=2, *, depth=1):
    return width, in_shape, classes, depth


def anything(**knobs):
    return knobs


NOT_CALLABLE = [1, 2]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, beside params.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN.format(dependency="json"))
    yield name
    sys.modules.pop(name, None)


def called(name, field="teacher.model", offered=None, **args):
    return make(Factory(factory=name, args=args), field, **(offered or {}))


def test_the_users_own_module_is_found_and_called_with_its_args(own):
    assert called(f"{own}:model", width=3, in_shape=[1]) == (3, [1], 2, 1)


def test_what_is_offered_is_passed_where_it_is_taken_and_args_come_first(own):
    offered = {"in_shape": [1, 8, 8], "classes": 10, "unwanted": 0}
    assert called(f"{own}:model", offered=offered, width=3) == (3, [1, 8, 8], 10, 1)
    assert called(f"{own}:model", offered=offered, width=3, classes=5, depth=4) == (3, [1, 8, 8], 5, 4)


def test_a_function_that_takes_any_name_gets_its_args_and_nothing_unasked(own):
    assert called(f"{own}:anything", offered={"classes": 10}, depth=4) == {"depth": 4}


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("no_such_thing:X", {}, "teacher.model: no module 'no_such_thing' here or among the installed packages"),
        ("torch.no_such:X", {}, "teacher.model: no module 'torch.no_such' here or among the installed packages"),
        ("torch.nn:Lineer", {}, "teacher.model: torch.nn has no 'Lineer'; did you mean 'Linear'?"),
        ("torch.nn:zzzzzz", {}, "teacher.model: torch.nn has no 'zzzzzz'"),
        (
            "tasks.models.cnn:CNN",
            {"chanels": [8]},
            "teacher.model.args: tasks.models.cnn:CNN takes no 'chanels'; did you mean 'channels'?",
        ),
        ("tasks.models.cnn:CNN", {"qq": 1}, "teacher.model.args: tasks.models.cnn:CNN takes no 'qq'"),
        ("tasks.models.cnn:CNN", {}, "teacher.model.args: tasks.models.cnn:CNN needs in_shape, classes"),
        ("tasks.models.cnn:CNN", {"classes": 2}, "teacher.model.args: tasks.models.cnn:CNN needs in_shape"),
    ],
)
def test_mistakes_name_the_field_and_what_would_do(name, args, message):
    with pytest.raises(ValueError) as caught:
        called(name, **args)
    assert str(caught.value) == message


def test_what_cannot_be_called_is_refused(own):
    with pytest.raises(ValueError, match=f"^teacher.model: {own}:NOT_CALLABLE is a list; it must be callable$"):
        called(f"{own}:NOT_CALLABLE")


def test_what_does_not_say_its_arguments_is_refused():
    with pytest.raises(
        ValueError, match=r"^teacher\.model: builtins:dict does not say what arguments it takes; wrap it"
    ):
        called("builtins:dict")


def test_a_package_that_the_users_module_lacks_is_named(own, tmp_path):
    (tmp_path / f"{own}.py").write_text(OWN.format(dependency="absent_package.part"))
    with pytest.raises(ValueError, match=f"{own} needs the package 'absent_package', which is not installed"):
        called(f"{own}:model")


def test_an_error_inside_the_users_code_is_not_dressed_up(own, tmp_path):
    (tmp_path / f"{own}.py").write_text("def model():\n    raise KeyError('theirs')\n")
    with pytest.raises(KeyError, match="theirs"):
        called(f"{own}:model")


def test_resolve_returns_the_object_itself():
    assert resolve(Factory(factory="builtins:dict"), "ingest.source") is dict
