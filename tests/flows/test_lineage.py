from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.lineage import Lineage, lineage, lineage_text
from flows.promote import promote
from tasks.adapters.registry import open_registry
from tasks.adapters.versions import lock_hash
from tasks.params import Tracking, load_params
from tasks.register import register
from tests.mlflow_project import make_project, register_files


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lineage")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DOWNSIZE_FLOW_RUN", "flow-7")
        (root / "dvc.lock").write_text("schema: '2.0'\n")
        params = make_project(root)
        register(params.register_, params.tracking, register_files(root))
        promote(root, params, reason="first of all")
    return root


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def traced(root: Path, name: str) -> Lineage:
    return lineage(root, load_params(root / "params.yaml"), name)


def test_the_ancestry_goes_down_to_data_lock_params_and_flow_run(project: Path) -> None:
    found = traced(project, "champion")
    assert [(one.version, one.variant) for one in found.ancestry] == [
        (5, "quantized"),
        (4, "pruned"),
        (3, "student"),
        (2, "teacher"),
    ]
    quantized = found.ancestry[0]
    card = json.loads((project / "artifacts/data/card.json").read_text())
    assert quantized.origin["data"] == card["sha256"] and quantized.data_name == "toy"
    assert quantized.origin["dvc.lock"] == lock_hash(project)
    assert quantized.origin["flow run"] == "flow-7" and "torch==" in quantized.origin["packages"]
    assert quantized.params["prune.target.macs"] == "0.5"
    assert quantized.figures["accuracy"] == 0.96 and quantized.aliases == ["candidate", "champion"]
    assert found.missing is None
    json.dumps(asdict(found))


def test_the_text_says_each_thing_once_and_who_moved_what(project: Path) -> None:
    text = lineage_text(traced(project, "5"))
    assert text.startswith("toy version 5 (candidate, champion): quantized, gate pass, 20")
    assert "\nmade from toy version 4: pruned, gate pass, 20" in text
    assert text.count("  data ") == 1 and text.count("  file ") == 4
    assert text.splitlines()[-1].endswith(": promote from version none to 5: passed the budget; first of all")


def test_a_parent_that_is_gone_is_named(project: Path) -> None:
    with open_registry(Tracking(), project, "toy") as registry:
        registry.client.delete_model_version("toy", "3")
    found = traced(project, "5")
    assert [one.version for one in found.ancestry] == [5, 4] and found.missing == 3
    assert "made from version 3, which is no longer in the registry" in lineage_text(found)


def test_an_unknown_version_says_what_there_is(project: Path) -> None:
    with pytest.raises(ValueError, match=r"^toy has no alias 'canary'; versions: .*, aliases: candidate \(5\), champ"):
        traced(project, "canary")
