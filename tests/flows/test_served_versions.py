"""A registered version, loaded by MLflow and by `downsize predict`: both serve what the record says was fastest."""

import hashlib
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest

from flows.served import open_served
from tasks.adapters.registry import open_registry
from tasks.params import Tracking, load_params
from tasks.register import register
from tests.mlflow_project import make_project, register_files, write_deploy

WAYS = {"cpu-1t": ("quantized", "onnxruntime", 1), "cpu-all": ("pruned", "onnxruntime", 2), "tiny": None}
X = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Registered once; the last test leaves other devices behind."""
    root = tmp_path_factory.mktemp("versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        make_project(root)
        write_deploy(root, WAYS)
        filed(root)
        yield root


@pytest.fixture
def opened(monkeypatch):
    """File and threads of each ONNX Runtime session."""
    found, real = [], onnxruntime.InferenceSession

    def session(model, options, providers):
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        found.append((hashlib.sha256(content).hexdigest(), options.intra_op_num_threads))
        return real(model, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return found


def filed(root):
    params = load_params(root / "params.yaml")
    return register(params.register_, params.tracking, register_files(root))["new_versions"]


def version(root, name="candidate"):
    with open_registry(Tracking(), root, "toy") as registry:
        return registry.resolve(name)


def file_of(root, variant):
    return hashlib.sha256((root / "artifacts" / variant / "model.onnx").read_bytes()).hexdigest()


def by_mlflow(name, profile):
    model = mlflow.pyfunc.load_model(f"models:/toy@{name}", model_config={"profile": profile} if profile else None)
    return model.predict({"x": X})


def by_downsize(root, name, profile):
    with open_served(root, root / "params.yaml", f"{name}@{profile}" if profile else name) as served:
        return served.predict(X)


def test_both_ways_serve_the_file_and_threads_of_the_profile(project, opened):
    for profile, expected in (("", ("quantized", 1)), ("cpu-1t", ("quantized", 1)), ("cpu-all", ("pruned", 2))):
        opened.clear()
        answers = by_mlflow("candidate", profile), by_downsize(project, "candidate", profile)
        assert opened == [(file_of(project, expected[0]), expected[1])] * 2
        assert answers[0].equals(answers[1])
    opened.clear()
    by_downsize(project, "4", "")  # pruned is served on cpu-all alone
    assert opened == [(file_of(project, "pruned"), 2)]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("candidate@cpu-al", r"^toy, version 5: has no profile 'cpu-al'; did you mean 'cpu-all'\?$"),
        ("candidate@tiny", "^toy, version 5: nothing is served on tiny: size$"),
        ("4@cpu-1t", "nothing is served on cpu-1t: quantized is served there, which is another version$"),
        ("1@cpu-1t", "nothing is served on cpu-1t: quantized is served there, which is another version$"),
        ("9@cpu-1t", "toy has no version '9'; "),
        ("nobody@cpu-1t", "toy has no alias 'nobody'; "),
    ],
)
def test_a_profile_that_a_version_has_not_is_named(project, name, line):
    with pytest.raises(ValueError, match=line), open_served(project, project / "params.yaml", name):
        pass


def test_a_version_from_before_there_was_a_record_is_served_as_it_was(project, opened):
    record = Path(version(project).source.removeprefix("file://")) / "deploy.json"
    content = record.read_bytes()
    record.unlink()
    by_downsize(project, "candidate", "")
    assert opened == [(file_of(project, "quantized"), 1)]
    with pytest.raises(ValueError, match=r"has no profile 'cpu-1t'; there is none$"):
        by_downsize(project, "candidate", "cpu-1t")
    record.write_bytes(content)


def test_a_new_record_on_a_known_file_counts_and_the_same_again_changes_nothing(project, opened, monkeypatch):
    record = Path(version(project).source.removeprefix("file://")) / "deploy.json"
    before = record.stat().st_mtime_ns
    assert filed(project) == 0 and record.stat().st_mtime_ns == before
    write_deploy(project, {"edge": ("pruned", "openvino", 2), **WAYS})
    assert filed(project) == 0 and record.stat().st_mtime_ns != before
    found = version(project)
    assert found.tags["devices"].startswith("edge: pruned in openvino, 2 threads; cpu-1t: quantized in onnxruntime, 1")
    assert found.tags["devices"] in found.description
    assert "openvino" in (record.parent / "requirements.txt").read_text()
    monkeypatch.setitem(sys.modules, "openvino", None)
    by_mlflow("candidate", "")
    assert opened == [(file_of(project, "pruned"), 3)]  # where OpenVINO is not, ONNX Runtime would do on three


def test_a_version_that_no_device_is_served_is_its_own_file_on_one_thread(project, opened):
    write_deploy(project, {"cpu-1t": None})
    filed(project)
    by_mlflow("candidate", "")
    assert opened == [(file_of(project, "quantized"), 1)]
    assert version(project).tags["devices"] == "model.onnx in onnxruntime, 1 thread"
