from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows import promote as module
from flows.promote import Move, promote, rollback
from tasks.adapters.registry import Registry, Version, open_registry
from tasks.params import Params, Tracking, load_params
from tasks.register import register
from tests.mlflow_project import make_project, make_variant, register_files, write_summary


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose five variants are registered; version 5, quantized, is the candidate."""
    root = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        params = make_project(root)
        register(params.register_, params.tracking, register_files(root))
    return root


@pytest.fixture
def project(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return shutil.copytree(registered, tmp_path / "project")


def params_of(root: Path) -> Params:
    return load_params(root / "params.yaml")


def registry(root: Path) -> Registry:
    with open_registry(Tracking(), root, "toy") as opened:
        return opened


def aliases(root: Path) -> dict[str, int | None]:
    found: dict[str, Version | None] = {name: registry(root).alias(name) for name in ("champion", "previous")}
    return {name: version.number if version else None for name, version in found.items()}


def new_candidate(root: Path, scale: float) -> None:
    """Another quantized model: the next version."""
    shutil.rmtree(root / "artifacts" / "quantized")
    make_variant(root / "artifacts" / "quantized", scale)
    params = params_of(root)
    register(params.register_, params.tracking, register_files(root))


def test_the_candidate_becomes_champion(project: Path) -> None:
    move = promote(project, params_of(project))
    assert move == Move("promote", "toy", 5, None)
    assert str(move) == "toy: champion is now version 5"
    assert aliases(project) == {"champion": 5, "previous": None}


def test_promoting_the_champion_again_changes_nothing(project: Path) -> None:
    promote(project, params_of(project))
    audit = registry(project).audit()
    again = promote(project, params_of(project))
    assert str(again) == "toy: version 5 is already champion"
    assert registry(project).audit() == audit
    assert aliases(project) == {"champion": 5, "previous": None}


def test_what_was_replaced_is_remembered_and_comes_back(project: Path) -> None:
    promote(project, params_of(project))
    new_candidate(project, scale=9.0)
    move = promote(project, params_of(project))
    assert str(move) == "toy: champion is now version 6, which replaces version 5"
    assert aliases(project) == {"champion": 6, "previous": 5}
    champion = registry(project).alias("champion")
    assert champion is not None and champion.tags["replaced"] == "5" and "@" in champion.tags["promoted_by"]
    back = rollback(project, params_of(project))
    assert str(back) == "toy: champion is now version 5, which replaces version 6"
    assert aliases(project) == {"champion": 5, "previous": None}
    entries = list(registry(project).audit().values())
    assert [(entry["action"], entry["replaced"], entry["version"]) for entry in entries] == [
        ("promote", None, 5),
        ("promote", 5, 6),
        ("rollback", 6, 5),
    ]
    assert all("@" in entry["who"] for entry in entries)


def test_rollback_goes_one_step(project: Path) -> None:
    with pytest.raises(ValueError, match=r"^toy has no previous champion to go back to$"):
        rollback(project, params_of(project))
    promote(project, params_of(project))
    new_candidate(project, scale=9.0)
    promote(project, params_of(project))
    rollback(project, params_of(project))
    with pytest.raises(ValueError, match="no previous champion"):  # a repeated command must not go on digging
        rollback(project, params_of(project))
    assert aliases(project)["champion"] == 5


def test_a_rollback_cut_off_after_the_champion_moved_is_finished_by_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(project, params_of(project))
    new_candidate(project, scale=9.0)
    promote(project, params_of(project))
    point = Registry.point

    def cut_off(self: Registry, alias: str, version: Version | None) -> None:
        if version is None:
            raise KeyboardInterrupt
        point(self, alias, version)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "point", cut_off)
        with pytest.raises(KeyboardInterrupt):
            rollback(project, params_of(project))
    assert aliases(project) == {"champion": 5, "previous": 5}
    audit = registry(project).audit()
    assert str(rollback(project, params_of(project))) == "toy: version 5 is already champion"
    assert aliases(project) == {"champion": 5, "previous": None}
    assert registry(project).audit() == audit
    champion = registry(project).alias("champion")
    assert champion is not None and "rolled_back" not in champion.tags


def test_what_was_rolled_back_is_not_promoted_by_the_next_schedule(project: Path) -> None:
    promote(project, params_of(project))
    new_candidate(project, scale=9.0)
    promote(project, params_of(project))
    rollback(project, params_of(project))
    with pytest.raises(ValueError, match=r"version 6 was rolled back at .*; delete its tag 'rolled_back'"):
        promote(project, params_of(project))
    assert aliases(project)["champion"] == 5
    registry(project).client.delete_model_version_tag("toy", "6", "rolled_back")
    assert promote(project, params_of(project)).version == 6


def test_no_candidate_no_promotion(project: Path) -> None:
    registry(project).point("candidate", None)
    with pytest.raises(ValueError, match=r"^toy has no candidate; `downsize register`"):
        promote(project, params_of(project))
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("toy", "unheard-of"))
    with pytest.raises(ValueError, match=r"^unheard-of has no candidate"):
        promote(project, params_of(project))


@pytest.mark.parametrize("gate", ["fail", "inconclusive", "reference"])
def test_a_gate_that_is_not_passed_is_not_promoted(project: Path, gate: str) -> None:
    promote(project, params_of(project))
    new_candidate(project, scale=9.0)
    version = registry(project).alias("candidate")
    assert version is not None
    registry(project).tag(version, {"gate": gate})
    with pytest.raises(ValueError, match=f"^toy: version 6 has gate '{gate}'; only one that passed is promoted$"):
        promote(project, params_of(project))
    assert aliases(project) == {"champion": 5, "previous": None}


def test_register_takes_the_candidate_away_but_never_the_champion(project: Path) -> None:
    promote(project, params_of(project))
    write_summary(project, {name: "fail" for name in ("student_alone", "student", "pruned", "quantized")})
    params = params_of(project)
    register(params.register_, params.tracking, register_files(project))
    assert aliases(project)["champion"] == 5


def test_a_promotion_cut_off_before_the_last_step_leaves_production_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(project, params_of(project))
    new_candidate(project, scale=9.0)
    point = Registry.point

    def cut_off(self: Registry, alias: str, version: Version | None) -> None:
        if alias == module.CHAMPION:
            raise KeyboardInterrupt
        point(self, alias, version)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "point", cut_off)
        with pytest.raises(KeyboardInterrupt):
            promote(project, params_of(project))
    assert aliases(project)["champion"] == 5
    promote(project, params_of(project))
    assert aliases(project) == {"champion": 6, "previous": 5}
