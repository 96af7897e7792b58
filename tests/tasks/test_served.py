import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from served_models import COLUMNS, hand_over, make_served
from toy import blobs, card

from tasks import served as module
from tasks.data.tables import csv
from tasks.export.onnx import export
from tasks.measure.accuracy import logits
from tasks.models.mlp import MLP
from tasks.served import Served, on_device

ROWS = pd.DataFrame({"note": ["x", "y", "z"], "colour": ["red", "blue", None], "size": [0.5, -2, 0]})


@pytest.fixture
def table(tmp_path):
    return make_served(tmp_path, (4,), COLUMNS)


def test_it_imports_nothing_of_downsize_since_it_travels_alone():
    found = ast.walk(ast.parse(Path(module.__file__).read_text()))
    names = [node.module for node in found if isinstance(node, ast.ImportFrom)]
    assert names and not any(name.startswith(("tasks", "flows")) for name in names)


def test_raw_rows_are_encoded_as_the_training_table_was(table, tmp_path):
    (tmp_path / "t.csv").write_text("size,colour,y\n0.5,red,a\n-2,blue,b\n0,,a\n")
    learned = csv("t.csv", "y", root=tmp_path)
    np.testing.assert_array_equal(table.encode(ROWS), learned.x)
    assert [column.categories for column in learned.columns] == [(), tuple(COLUMNS[1]["categories"])]


def test_answers_by_hand(table):
    answers = table.predict(ROWS)  # logits 1.5, -1 and 1 for yes, against 0
    assert answers["label"].tolist() == ["yes", "no", "yes"]
    assert answers["probability yes"].tolist() == pytest.approx([1 / (1 + np.exp(-v)) for v in (1.5, -1, 1)])
    np.testing.assert_allclose(answers["probability yes"] + answers["probability no"], 1)


@pytest.mark.parametrize("given", [lambda x: x, lambda x: {"x": x}, lambda x: x.tolist()])
def test_arrays_are_taken_as_mlflow_hands_them_over(tmp_path, given):
    model = make_served(tmp_path, (1, 2, 2))
    x = np.array([[[[1, 0], [0, 1]]], [[[-1, 0], [0, 0]]]])
    assert model.predict(given(x))["label"].tolist() == ["yes", "no"]


def test_an_exported_model_is_served_with_the_models_own_answers(tmp_path):
    model, data = MLP((4,), 3, (8,)), blobs()
    export(model, card((4,)), data, tmp_path, "teacher.model")
    answers = Served(tmp_path, tmp_path / "model.onnx").predict(data.inputs(slice(None)).numpy())
    expected = logits(model, data).softmax(1).numpy()
    np.testing.assert_allclose(answers[[f"probability {name}" for name in "abc"]], expected, atol=1e-5)
    assert answers["label"].tolist() == [card((4,)).classes[i] for i in expected.argmax(1)]


@pytest.mark.parametrize(
    "rows, line",
    [
        (ROWS.drop(columns="size"), "column 'size' is missing; there are note, colour"),
        (ROWS.rename(columns={"colour": "color"}), "column 'colour' is missing; did you mean it by 'color'"),
        (ROWS.assign(size=["1", "big", "2"]), "column 'size' is 'big' in row 1; it must be a finite number"),
        (ROWS.assign(size=[1, 2, None]), "column 'size' is nan in row 2; it must be a finite number"),
        (ROWS.assign(colour=["red", "mauve", None]), r"column 'colour' is 'mauve' in row 1; it must be one of blue"),
    ],
)
def test_a_row_that_does_not_fit_is_named(table, rows, line):
    with pytest.raises(ValueError, match=line.replace("(", r"\(")):
        table.predict(rows)


def test_another_shape_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"x is \(2, 3\); it must be \(samples, 1, 2, 2\)"):
        make_served(tmp_path, (1, 2, 2)).predict(np.zeros((2, 3)))


X = np.array([[[[1, 0], [0, 1]]], [[[-1, 0], [0, 0]]]], np.float32)


@pytest.fixture
def opened(monkeypatch):
    """Threads of each ONNX Runtime session, as they are opened."""
    threads, real = [], module.onnxruntime.InferenceSession

    def session(path, options, providers):
        threads.append(options.intra_op_num_threads)
        return real(path, options, providers=providers)

    monkeypatch.setattr(module.onnxruntime, "InferenceSession", session)
    return threads


def test_a_device_is_served_with_the_threads_that_its_profile_was_measured_with(tmp_path, opened):
    folder = hand_over(tmp_path, one=("onnxruntime", 1), all=("onnxruntime", 2))
    opened.clear()
    assert on_device(folder, "all").predict(X)["label"].tolist() == ["yes", "no"]
    on_device(folder, "one"), on_device(folder)
    assert opened == [2, 1, 1]


def test_without_a_name_it_is_the_first_that_anything_is_served_on(tmp_path, opened):
    on_device(hand_over(tmp_path, tiny=None, all=("onnxruntime", 3)))
    assert opened[-1] == 3


def test_openvino_serves_where_the_record_says_so(tmp_path, monkeypatch):
    asked = []

    def compile_model(model, device, settings):
        asked.append((model, device, settings["INFERENCE_NUM_THREADS"]))
        request = SimpleNamespace(infer=lambda inputs, share_inputs: [np.float32([[0, 1], [1, 0]])])
        return SimpleNamespace(create_infer_request=lambda: request)

    core = SimpleNamespace(compile_model=compile_model, read_model=lambda content: ("read", content))
    openvino = SimpleNamespace(Core=lambda: core)
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    monkeypatch.setattr(module, "find_spec", lambda package: package)
    served = on_device(hand_over(tmp_path, fast=("openvino", 2)), "fast")
    assert served.predict(X)["label"].tolist() == ["yes", "no"]
    assert asked == [(("read", (tmp_path / "model/model.onnx").read_bytes()), "CPU", 2)]


def test_a_runtime_that_is_not_here_is_named_and_onnx_runtime_takes_the_file(tmp_path, monkeypatch, opened, caplog):
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    served = on_device(hand_over(tmp_path, fast=("openvino", 2, 3)), "fast")
    assert served.predict(X)["label"].tolist() == ["yes", "no"] and opened[-1] == 3
    assert caplog.messages == [
        "fast was fastest in openvino, which is not installed; onnxruntime serves it on 3 threads, as was measured too"
    ]


def test_a_runtime_that_is_not_here_is_asked_for_where_onnx_runtime_was_not_found_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=r"fast is served by openvino, .* `pip install openvino` would do$"):
        on_device(hand_over(tmp_path, fast=("openvino", 2)), "fast")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gpu", "has no profile 'gpu'; there are one, tiny"),
        ("ony", r"has no profile 'ony'; did you mean 'one'\?"),
        ("tiny", "nothing is served on tiny: size"),
    ],
)
def test_a_profile_that_nothing_is_served_on_is_named(tmp_path, name, line):
    with pytest.raises(ValueError, match=f"{line}$"):
        on_device(hand_over(tmp_path, one=("onnxruntime", 1), tiny=None), name)


def test_a_file_other_than_was_measured_is_refused(tmp_path):
    folder = hand_over(tmp_path, one=("onnxruntime", 1))
    with (folder / "model/model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"model\.onnx: its sha256 is \w{12}, of what was measured it is \w{12}$"):
        on_device(folder)


@pytest.mark.parametrize(("file", "runtime"), [("../model.onnx", "onnxruntime"), ("model/model.onnx", "tensorrt")])
def test_a_record_that_leads_elsewhere_is_refused(tmp_path, file, runtime):
    folder = hand_over(tmp_path, one=(runtime, 1))
    deploy = json.loads((folder / "deploy.json").read_text())
    deploy["profiles"][0]["served"]["file"] = file
    (folder / "deploy.json").write_text(json.dumps(deploy))
    with pytest.raises(ValueError, match=rf"serves {file} by {runtime}; a file in there would do, by onnxruntime or"):
        on_device(folder)
