from __future__ import annotations

import hashlib
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from tasks.adapters.devices import Devices
from tasks.adapters.packaging import Package
from tasks.adapters.registry import MODEL_ID, SHA256, Registry, Version, open_registry
from tasks.adapters.tracking import open_recipe
from tasks.params import Tracking, load_params
from tests.mlflow_project import make_project

ROWS = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    make_project(root)
    return root


@pytest.fixture
def registry(project: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registered model of the test's own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with open_registry(Tracking(), project, request.node.name) as opened:
        yield opened


def add(registry: Registry, project: Path, variant: str, **tags: str) -> Version:
    recipe = open_recipe(registry.client, load_params(project / "params.yaml"), project)
    content = (project / "artifacts" / variant / "model.onnx").read_bytes()
    tags = {"variant": variant, SHA256: hashlib.sha256(content).hexdigest(), **tags}
    return registry.add(variant, Package(project / "artifacts" / variant, ROWS, Devices([], {})), recipe, tags=tags)


def test_a_version_is_found_by_all_its_tags(registry: Registry, project: Path) -> None:
    assert registry.find(variant="student") is None
    first = add(registry, project, "student", artifact_sha256="aa")
    second = add(registry, project, "pruned", artifact_sha256="aa")
    assert (first.number, second.number) == (1, 2)
    assert registry.find(artifact_sha256="aa") == first
    assert registry.find(variant="pruned", artifact_sha256="aa") == second
    assert registry.find(variant="pruned", artifact_sha256="bb") is None


def test_the_version_holds_the_very_file_and_answers_as_it_does(registry: Registry, project: Path) -> None:
    import mlflow
    import onnx
    import onnxruntime

    folder = project / "artifacts" / "student_alone"
    with (folder / "model.onnx").open("ab") as file:  # fields out of order: written again, they would be in order
        file.write(onnx.ModelProto(producer_name="another exporter").SerializeToString())
    assert onnx.load(folder / "model.onnx").SerializeToString() != (folder / "model.onnx").read_bytes()
    version = add(registry, project, "student_alone")
    source = registry.client.get_model_version(registry.model_name, str(version.number)).source
    saved = Path(source.removeprefix("file://"))
    assert (saved / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert {path.name for path in (saved / "variant").iterdir()} == {"deploy.json", "model.json"}
    requirements = (saved / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in requirements)
    assert {line.partition("==")[0] for line in requirements} == {"mlflow", "numpy", "onnx", "onnxruntime", "pandas"}
    model = mlflow.pyfunc.load_model(str(saved))
    assert model.metadata.signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 1, 2, 2)}
    assert model.metadata.flavors["onnx"]["providers"] == ["CPUExecutionProvider"]
    np.testing.assert_array_equal(model.input_example["x"], ROWS)
    expected = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"x": ROWS})[0]
    probabilities = model.predict({"x": ROWS})[["probability a", "probability b", "probability c"]]
    np.testing.assert_allclose(probabilities, softmax(expected, axis=1), rtol=1e-5)
    assert mlflow.onnx.load_model(str(saved)).graph == onnx.load(folder / "model.onnx").graph


def test_the_logged_model_hangs_below_the_recipe_and_names_its_version(registry: Registry, project: Path) -> None:
    version = add(registry, project, "quantized", gate="pass")
    logged = registry.client.get_logged_model(version.tags[MODEL_ID])
    recipe = open_recipe(registry.client, load_params(project / "params.yaml"), project)
    assert (logged.name, logged.source_run_id, str(logged.status)) == ("quantized", recipe.run_id, "READY")
    assert logged.tags["gate"] == "pass"
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": registry.model_name, "version": "1"}]
    outputs = registry.client.get_run(recipe.run_id).outputs.model_outputs
    assert version.tags[MODEL_ID] in {output.model_id for output in outputs}


def test_aliases_move_and_go(registry: Registry, project: Path) -> None:
    assert registry.alias("champion") is None  # there is not even a model
    first, second = add(registry, project, "student"), add(registry, project, "pruned")
    assert registry.alias("champion") is None
    registry.point("champion", first.number)
    registry.point("champion", second.number)
    assert registry.alias("champion") == second
    for _ in range(2):
        registry.point("champion", None)
        assert registry.alias("champion") is None


def test_tags_change_on_the_version(registry: Registry, project: Path) -> None:
    version = add(registry, project, "student", gate="fail")
    registry.tag(version, {"gate": "pass", "variant": "student"})
    found = registry.find(variant="student")
    assert found is not None and found.tags["gate"] == "pass"


def test_the_audit_trail_keeps_every_entry_in_order(registry: Registry, project: Path) -> None:
    assert registry.audit() == {}  # there is not even a model
    add(registry, project, "student")
    for key in ("20260102", "20260101", "20260103"):
        registry.write_audit(key, {"action": "promote", "at": key})
    assert [entry["at"] for entry in registry.audit().values()] == ["20260101", "20260102", "20260103"]


def test_a_version_is_named_by_number_or_alias(registry: Registry, project: Path) -> None:
    with pytest.raises(ValueError, match=r"has no version 'champion', nor any other; `downsize register` makes them$"):
        registry.resolve("champion")
    for variant in ("student", "pruned", "quantized"):
        add(registry, project, variant)
    registry.client.delete_model_version(registry.model_name, "2")
    registry.point("champion", 3)
    assert registry.resolve("champion") == registry.resolve("3") == registry.numbered(3)
    with pytest.raises(ValueError, match=r"has no version '2'; versions: 1, 3, aliases: champion \(3\)$"):
        registry.resolve("2")
    with pytest.raises(ValueError, match=r"has no alias 'canary'; versions: 1, 3, aliases: champion \(3\)$"):
        registry.resolve("canary")


def test_a_fetched_version_is_what_its_stage_left_or_refused(registry: Registry, project: Path, tmp_path: Path) -> None:
    folder = registry.fetch(add(registry, project, "student"), tmp_path)
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "deploy.json", "model.json"}
    assert (folder / "model.onnx").read_bytes() == (project / "artifacts/student/model.onnx").read_bytes()
    other = add(registry, project, "student", artifact_sha256="aa")
    with pytest.raises(ValueError, match=r"version 2 has another file than was registered: .* says aa$"):
        registry.fetch(other, tmp_path)


def test_a_card_is_the_description_and_a_file_beside_the_model(registry: Registry, project: Path) -> None:
    version = add(registry, project, "student")
    registry.describe(version, "# card" + "x" * 6000)
    found = registry.numbered(version.number)
    assert found.description == "# card" + "x" * 4994
    kept = Path(found.source.removeprefix("file://")) / "model_card.md"
    assert len(kept.read_text()) == 6006
    kept.unlink()
    registry.describe(found, "# card" + "x" * 6000)
    assert not kept.exists()  # nothing to change


def test_an_unreachable_registry_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(ConnectionError, match=r"^model registry at http://\*\*\*@127") as caught,
        open_registry(Tracking(uri=uri), tmp_path, "toy") as registry,
    ):
        registry.find(variant="student")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_an_address_that_is_none_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(ConnectionError, match=r"^model registry at nonsense://host: "),
        open_registry(Tracking(uri="nonsense://host"), tmp_path, "toy") as registry,
    ):
        registry.find(variant="student")


def test_an_error_of_the_caller_stays_what_it_is(project: Path) -> None:
    with pytest.raises(FileNotFoundError), open_registry(Tracking(), project, "toy"):
        (project / "nothing").read_bytes()


def test_disabled_tracking_has_no_registry(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"tracking\.enabled is false"),
        open_registry(Tracking(enabled=False), tmp_path, "toy"),
    ):
        pass
    assert logging.getLogger("mlflow").level != logging.ERROR
