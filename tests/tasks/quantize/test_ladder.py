import logging

import numpy as np
import onnx
import pytest
from pydantic import TypeAdapter
from toy import blobs, card, network, trained

from tasks.data.splits import Splits
from tasks.export.onnx import export
from tasks.measure.budget import Limits
from tasks.params import Int8, Quantize, Train
from tasks.quantize import ladder
from tasks.quantize.judge import Judgement
from tasks.quantize.ladder import climb
from tasks.quantize.retrain import Coach

RUNGS = ["static INT8", "calibration by tensor", "equalisation, bias correction", "mixed precision", "training"]
LIMITS = Limits(0.0, 0.0)  # none of it is asked for where max_drop is a number
QUICK = {"train": {"epochs": 1, "batch_size": 30, "lr": 0.001}}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The float file of a perceptron, and its data."""
    folder = tmp_path_factory.mktemp("float")
    data = blobs(60)
    export(trained(Train(epochs=8, batch_size=16))[0], card((4,)), data, folder, "model")
    model = onnx.shape_inference.infer_shapes(onnx.load(folder / "model.onnx"), strict_mode=True, data_prop=True)
    for node in model.graph.node:
        node.name = node.output[0]
    return model, Splits(card((4,)), data, data, data, data)


@pytest.fixture
def drops(monkeypatch):
    """Call it with what each judgement says in turn; returns the list of files that were judged."""

    def drops(*found):
        waiting, judged = list(found), []

        def judge(self, model):
            judged.append(model)
            drop = waiting.pop(0)
            return Judgement(drop, 0.5, 0.2, 0.9, 0.1, 100, 1.0, inside=drop <= self.allowed)

        monkeypatch.setattr(ladder.Judge, "__call__", judge)
        # what the search by layer asks the judge is another test's
        monkeypatch.setattr(ladder, "assign", lambda saved, build, judge: (build(frozenset(saved)), []))
        return judged

    return drops


def climbed(project, **params):
    model, data = project
    read = TypeAdapter(Quantize).validate_python({"training": QUICK, "portable": False, "max_drop": 0.01} | params)
    assert isinstance(read, Int8)
    return climb(model, read, LIMITS, Coach(lambda _: network(), data, 0, None))


def test_the_first_rung_inside_is_the_last_tried(project, drops):
    drops(0.03, 0.02, 0.01)
    (_, facts), chosen, rungs = climbed(project)
    assert [rung.rung for rung in rungs] == RUNGS[:3] and [rung.inside for rung in rungs] == [False, False, True]
    assert chosen.rung == RUNGS[2] and facts["corrected_layers"] == 2


def test_a_good_file_needs_no_remedy_and_no_teacher(project, drops):
    drops(-0.002)
    model, data = project

    def nobody(_):
        raise AssertionError("the teacher is loaded")

    params = Int8(scheme="int8", max_drop=0.005, portable=False)
    _, chosen, rungs = climb(model, params, LIMITS, Coach(nobody, data, 0, None))
    assert chosen.rung == "static INT8" and len(rungs) == 1


def test_training_is_the_last_rung_and_keeps_everything_in_integers(project, drops):
    judged = drops(0.03, 0.04, 0.05, 0.02, 0.0)
    (made, facts), chosen, rungs = climbed(project)
    assert [rung.rung for rung in rungs] == RUNGS and chosen.rung == "training"
    assert facts["training"]["epochs"] == 1 and facts["training"]["label_agreement"] == 1
    assert "calibration" not in facts  # static INT8 lost least of the three, and is what was trained
    assert made is judged[-1]
    heavy = [node for node in made.graph.node if node.op_type == "Gemm"]
    assert heavy and all("DequantizeLinear" in name for node in heavy for name in node.input[:2])


def test_where_no_rung_is_inside_the_least_drop_is_taken_with_a_warning(project, drops, caplog):
    judged = drops(0.05, 0.03, 0.04, 0.03)
    with caplog.at_level(logging.WARNING):
        (made, _), chosen, rungs = climbed(project, training=None)
    assert [rung.rung for rung in rungs] == RUNGS[:4]
    assert chosen.rung == RUNGS[1] and made is judged[1]  # of equals the first
    assert "no rung is within quantize.max_drop 0.01; calibration by tensor, with a drop of 0.0300" in caplog.text


def test_rungs_that_the_params_have_taken_already_are_left_out(project, drops):
    drops(*[0.03] * 4)
    _, _, rungs = climbed(project, calibration={"method": "auto"}, training=None)
    assert [rung.rung for rung in rungs] == [RUNGS[0], *RUNGS[2:4]]


@pytest.mark.parametrize("activation", ["unsigned", "signed"])
def test_the_last_rungs_keep_the_activations_and_the_floats_that_were_asked_for(
    project, monkeypatch, drops, activation
):
    judged, offered = drops(*[0.03] * 4, 0.0), []

    def assign(saved, build, judge):
        offered.extend(saved)
        return build(frozenset(saved)), []

    monkeypatch.setattr(ladder, "assign", assign)
    first = next(node.name for node in project[0].graph.node if node.op_type == "Gemm")
    (_, facts), chosen, _ = climbed(project, activation=activation, in_float=[first])
    assert chosen.rung == "training" and facts["activation"] == {"type": activation}
    assert offered and first not in offered
    dtype = onnx.TensorProto.INT8 if activation == "signed" else onnx.TensorProto.UINT8
    for made in judged[-2:]:
        types = {item.name: item.data_type for item in made.graph.initializer}
        assert {types[node.input[2]] for node in made.graph.node if node.op_type == "QuantizeLinear"} == {dtype}


def test_mixed_precision_leaves_in_float_what_loses_too_much(project):
    """Judged for real: one layer's weights span so much that seven bits leave nothing of what matters."""
    source, data = project
    model = onnx.ModelProto()
    model.CopyFrom(source)
    weight = next(item for item in model.graph.initializer if len(item.dims) == 2 and item.dims[0] == 3)
    array = onnx.numpy_helper.to_array(weight).copy()
    array[:, 0] = 1e4  # the hidden unit behind it is cut off below
    first = next(item for item in model.graph.initializer if list(item.dims) == [8, 4])
    hidden = onnx.numpy_helper.to_array(first).copy()
    hidden[0] = 0
    for item, values in ((weight, array), (first, hidden)):
        item.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), item.name))
    params = Int8(scheme="int8", max_drop=0.0, training=None, portable=False)
    (_, facts), chosen, rungs = climb(model, params, LIMITS, Coach(lambda _: network(), data, 0, None))
    assert chosen.rung == "mixed precision" and not rungs[0].inside and rungs[-1].inside
    assert facts["in_float"] == ["logits"] and 0 < rungs[-1].integer_op_share < 1


def test_by_default_the_first_rung_inside_the_budget_against_the_teacher_is_taken(project, caplog):
    """Sixty samples without a loss prove no drop below 4.9 pp; the teacher of another seed is mostly wrong."""
    model, data = project
    params = Int8(scheme="int8", portable=False, training=None)
    assert params.max_drop == "budget"
    for limit, count in ((0.05, 1), (0.04, 1)):  # the float file itself is beyond the second, and INT8 loses no more
        coach = Coach(lambda name: {"teacher": trained(Train(epochs=8, batch_size=16))[0]}[name], data, 0, None)
        with caplog.at_level(logging.WARNING):
            _, chosen, rungs = climb(model, params, Limits(limit, None), coach)
        assert len(rungs) == count and chosen.inside and chosen.accuracy_drop_upper95 == pytest.approx(0.0487, abs=1e-4)
    assert caplog.text.count("the float file itself is outside the budget, with a drop of up to 0.0487") == 1


def test_a_budget_that_is_kept_by_no_rung_is_named_as_such(project, monkeypatch, caplog):
    monkeypatch.setattr(
        ladder.Judge, "__call__", lambda self, model: Judgement(0.1, 0.2, 0.2, 0.9, 0.1, 100, 1.0, False)
    )
    with caplog.at_level(logging.WARNING):
        climbed(project, max_drop="budget", training=None)
    assert "no rung is within the budget; static INT8, with a drop of 0.1000, is taken" in caplog.text
