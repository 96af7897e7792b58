"""A version of tabular data: MLflow itself checks the columns, and hands raw rows on."""

import hashlib
import sys
from types import ModuleType, SimpleNamespace

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from served_models import COLUMNS, make_served

from tasks.adapters.devices import Devices
from tasks.adapters.packaging import Package, save_variant

NONE = Devices([], {})
ROWS = pd.DataFrame({"size": [1.5, -3.0], "colour": ["red", "blue"]})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tabular")
    served = make_served(folder / "model", (4,), COLUMNS)
    save_variant(Package(folder / "model", ROWS, NONE), folder / "saved", model_id="m-1", run_id="r")
    return served, mlflow.pyfunc.load_model(str(folder / "saved"))


def test_raw_rows_are_answered_as_by_the_file(saved):
    served, model = saved
    pd.testing.assert_frame_equal(model.predict(ROWS), served.predict(ROWS))
    pd.testing.assert_frame_equal(model.input_example, ROWS)


def test_further_columns_do_not_matter(saved):
    served, model = saved
    pd.testing.assert_frame_equal(model.predict(ROWS.assign(note="x")), served.predict(ROWS))


@pytest.mark.parametrize(
    "rows, words",
    [(ROWS.drop(columns="size"), "missing inputs ['size']"), (ROWS.assign(size=["big", "small"]), "size")],
)
def test_another_schema_is_refused_by_column(saved, rows, words):
    with pytest.raises(mlflow.exceptions.MlflowException) as caught:
        saved[1].predict(rows)
    assert words in str(caught.value)


def test_a_category_that_was_never_seen_is_named(saved):
    with pytest.raises(ValueError, match="column 'colour' is 'mauve' in row 1"):
        saved[1].predict(ROWS.assign(colour=["red", "mauve"]))


def test_an_array_of_the_wrong_shape_is_refused(tmp_path):
    make_served(tmp_path / "model", (1, 2, 2))
    x = np.zeros((2, 1, 2, 2), np.float32)
    save_variant(Package(tmp_path / "model", x, NONE), tmp_path / "saved", model_id="m-2", run_id="r")
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    assert model.predict({"x": x})["label"].tolist() == ["no", "no"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
        model.predict({"x": x[:, :, :1]})


X = np.array([[[[1, 0], [0, 1]]], [[[-1, 0], [0, 0]]]], np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Logits of the float parent are twice those of the integer file, so that answers tell the two apart."""
    folder = tmp_path_factory.mktemp("devices")
    make_served(folder / "quantized", (1, 2, 2))
    make_served(folder / "pruned", (1, 2, 2), scale=2)
    files = {name: folder / name / "model.onnx" for name in ("quantized", "pruned")}
    places = {"quantized": "model.onnx", "pruned": "pruned/model.onnx"}
    ways = {"one": ("quantized", "onnxruntime", 1, 1), "all": ("pruned", "onnxruntime", 2, 2)}
    ways |= {"fast": ("quantized", "openvino", 2, 3), "alone": ("quantized", "openvino", 2, None)}
    rows = [
        {
            "name": name,
            "served": {
                **{"model": model, "runtime": runtime, "threads": threads, "onnxruntime_threads": plain},
                **{"file": places[model], "sha256": hashlib.sha256(files[model].read_bytes()).hexdigest()},
            },
            "misses": [],
        }
        for name, (model, runtime, threads, plain) in ways.items()
    ]
    nothing = {"name": "tiny", "served": None, "misses": ["size 40 bytes, limit 9"]}
    return Package(folder / "quantized", X, Devices([*rows, nothing], {"pruned/model.onnx": files["pruned"]}))


@pytest.fixture
def with_devices(package, tmp_path, monkeypatch):
    """The version, where OpenVINO is not installed."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    save_variant(package, tmp_path / "saved", model_id="m-3", run_id="r")
    return tmp_path / "saved"


@pytest.fixture
def opened(monkeypatch):
    """File and threads of each ONNX Runtime session, as MLflow has it opened."""
    found, real = [], onnxruntime.InferenceSession

    def session(model, options, providers):
        found.append((hashlib.sha256(model).hexdigest(), options.intra_op_num_threads))
        return real(model, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return found


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("config", "place", "threads"),
    [
        (None, "model.onnx", 1),
        ({"profile": ""}, "model.onnx", 1),
        ({"profile": None}, "model.onnx", 1),
        ({"profile": "one"}, "model.onnx", 1),
        ({"profile": "all"}, "pruned/model.onnx", 2),
        ({"profile": "all", "other": 1}, "pruned/model.onnx", 2),
    ],
)
def test_a_version_is_loaded_as_its_device_is_served(with_devices, opened, config, place, threads):
    model = mlflow.pyfunc.load_model(str(with_devices), model_config=config)
    assert opened == [(sha256(with_devices / place), threads)]
    logits = (1 if place == "model.onnx" else 2) * X.sum((1, 2, 3))
    assert model.predict({"x": X})["probability yes"].tolist() == pytest.approx(list(1 / (1 + np.exp(-logits))))


def test_a_server_of_mlflow_is_told_the_profile_by_its_environment(with_devices, opened, monkeypatch):
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", '{"profile": "all"}')
    mlflow.pyfunc.load_model(str(with_devices))
    assert opened == [(sha256(with_devices / "pruned/model.onnx"), 2)]


def test_openvino_serves_where_it_was_fastest_and_is_here(with_devices, opened, monkeypatch):
    asked = []

    def compile_model(model, device, settings):
        asked.append((hashlib.sha256(model).hexdigest(), device, settings["INFERENCE_NUM_THREADS"]))
        request = SimpleNamespace(infer=lambda inputs, share_inputs: [np.float32([[0, 1], [1, 0]])])
        return SimpleNamespace(create_infer_request=lambda: request)

    openvino = ModuleType("openvino")
    openvino.__spec__ = SimpleNamespace(name="openvino")
    openvino.Core = lambda: SimpleNamespace(compile_model=compile_model, read_model=lambda content: content)
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    model = mlflow.pyfunc.load_model(str(with_devices), model_config={"profile": "fast"})
    assert model.predict({"x": X})["label"].tolist() == ["yes", "no"]
    assert asked == [(sha256(with_devices / "model.onnx"), "CPU", 2)] and opened == []


def test_without_openvino_a_version_takes_onnx_runtime_as_it_was_measured(with_devices, opened, caplog):
    mlflow.pyfunc.load_model(str(with_devices), model_config={"profile": "fast"})
    assert opened == [(sha256(with_devices / "model.onnx"), 3)]
    assert [line for line in caplog.messages if "fastest in openvino" in line]


@pytest.mark.parametrize(
    ("profile", "line"),
    [
        ("alone", r"alone is served by openvino, which is not installed, .*; `pip install openvino` would do$"),
        ("al", r"has no profile 'al'; did you mean 'all'\?$"),
        ("gpu", r"has no profile 'gpu'; there are one, all, fast, alone, tiny$"),
        ("../one", r"has no profile '\.\./one'; did you mean 'one'\?$"),
        ("tiny", "nothing is served on tiny: size 40 bytes, limit 9$"),
        (7, "model_config: profile is 7; it must be the name of a profile$"),
        (["one"], r"model_config: profile is \['one'\]; it must be the name of a profile$"),
    ],
)
def test_a_profile_that_cannot_be_served_is_answered_in_one_line(with_devices, profile, line):
    with pytest.raises(ValueError, match=line) as caught:
        mlflow.pyfunc.load_model(str(with_devices), model_config={"profile": profile})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("profile", "place"), [("one", "model.onnx"), ("all", "pruned/model.onnx")])
def test_a_registered_file_that_was_changed_is_refused(with_devices, profile, place):
    with (with_devices / place).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=rf"{place}: its sha256 is \w{{12}}, of what was measured it is \w{{12}}$"):
        mlflow.pyfunc.load_model(str(with_devices), model_config={"profile": profile})


def test_a_version_without_devices_is_its_own_file_on_one_thread_and_checked_too(tmp_path, package, opened):
    save_variant(Package(package.folder, X, NONE), tmp_path / "saved", model_id="m-4", run_id="r")
    mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    assert opened == [(sha256(tmp_path / "saved/model.onnx"), 1)]
    with pytest.raises(ValueError, match=r"has no profile 'one'; there is none$"):
        mlflow.pyfunc.load_model(str(tmp_path / "saved"), model_config={"profile": "one"})
    (tmp_path / "saved/model.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"model\.onnx: its sha256 is"):
        mlflow.pyfunc.load_model(str(tmp_path / "saved"))


def test_openvino_is_required_where_it_serves_and_no_file_lies_twice(with_devices, package, tmp_path):
    def required(folder):
        return {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()}

    save_variant(Package(package.folder, X, NONE), tmp_path / "none", model_id="m-5", run_id="r")
    assert required(with_devices) - required(tmp_path / "none") == {"openvino"}
    models = {path.relative_to(with_devices).as_posix() for path in with_devices.rglob("*.onnx")}
    assert models == {"model.onnx", "pruned/model.onnx"}


def test_the_same_package_is_the_same_bytes_but_for_mlflow_s_clock(with_devices, package, tmp_path):
    save_variant(package, tmp_path / "again", model_id="m-3", run_id="r")
    files = {path.relative_to(with_devices) for path in with_devices.rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()}
    differ = [file for file in files if (with_devices / file).read_bytes() != (tmp_path / "again" / file).read_bytes()]
    assert [file.name for file in differ] in ([], ["MLmodel"])
