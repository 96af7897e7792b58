"""MLflow's model registry: the only place that reads or writes versions and aliases."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from tasks.adapters.client import hide_password, mlflow_client, one_line, tracking_uri
from tasks.adapters.tracking import Recipe
from tasks.adapters.versions import pinned
from tasks.params import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

REQUIREMENTS: Final = ("mlflow", "numpy", "onnx", "onnxruntime")
MODEL_ID: Final = "model_id"  # tag; the registry itself forgets it when read back


@dataclass(frozen=True)
class Version:
    """One version of the registered model."""

    number: int
    tags: Mapping[str, str]


class Registry:
    """The versions, aliases and audit trail of one registered model."""

    def __init__(self, client: MlflowClient, model_name: str) -> None:
        """Open the model; it need not exist yet."""
        self.client, self.model_name = client, model_name

    def find(self, **tags: str) -> Version | None:
        """The oldest version that carries all these tags."""
        wanted = [f"name = '{self.model_name}'", *(f"tags.{key} = '{value}'" for key, value in tags.items())]
        found = self.client.search_model_versions(" and ".join(wanted))
        return min(map(_version, found), key=lambda version: version.number, default=None)

    def add(
        self, variant: str, folder: Path, recipe: Recipe, *, tags: Mapping[str, str], rows: npt.NDArray[np.float32]
    ) -> Version:
        """Log the variant in `folder` below the recipe's run and register it.

        The version holds model.onnx byte for byte, and the folder's other files below `variant/`.
        rows: raw samples, shown as the input example.
        """
        from mlflow.entities import LoggedModelOutput

        client = self.client
        model = client.create_logged_model(recipe.experiment_id, variant, recipe.run_id, dict(tags), model_type="onnx")
        with tempfile.TemporaryDirectory() as scratch:
            saved = Path(scratch) / "model"
            _save(folder, saved, rows, model_id=model.model_id, run_id=recipe.run_id)
            client.log_model_artifacts(model.model_id, str(saved))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(recipe.run_id, [LoggedModelOutput(model.model_id, step=0)])
        if not client.search_registered_models(f"name = '{self.model_name}'"):
            client.create_registered_model(self.model_name)
        tags = {**tags, MODEL_ID: model.model_id}
        # source by location: for `models:/ID` MLflow 3.17 would look in the process-wide tracking URI
        created = client.create_model_version(
            self.model_name, model.artifact_location, recipe.run_id, tags, model_id=model.model_id
        )
        listed = json.dumps([{"name": self.model_name, "version": str(created.version)}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": listed})  # links the two in the UI
        return Version(int(created.version), tags)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags on a version; those that have the value already are left alone."""
        for key, value in tags.items():
            if version.tags.get(key) != value:
                self.client.set_model_version_tag(self.model_name, str(version.number), key, value)

    def alias(self, name: str) -> Version | None:
        """The version an alias points to."""
        from mlflow.exceptions import MlflowException

        try:
            return _version(self.client.get_model_version_by_alias(self.model_name, name))
        except MlflowException as error:
            # MLflow says the former for an alias and the latter for a model that does not exist
            if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                return None
            raise

    def point(self, alias: str, version: Version | None) -> None:
        """Move an alias to a version; None takes the alias away."""
        if version is not None:
            self.client.set_registered_model_alias(self.model_name, alias, str(version.number))
        elif self.alias(alias) is not None:
            self.client.delete_registered_model_alias(self.model_name, alias)

    def write_audit(self, entry: Mapping[str, object]) -> None:
        """Keep who did what, as a tag of the model named `audit.<UTC time>`; nothing is ever overwritten."""
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.client.set_registered_model_tag(self.model_name, f"audit.{time}", json.dumps(entry))

    def audit(self) -> dict[str, dict[str, Any]]:
        """All audit entries by their UTC time, oldest first."""
        tags = self.client.get_registered_model(self.model_name).tags
        return {key.removeprefix("audit."): json.loads(tags[key]) for key in sorted(tags) if key.startswith("audit.")}


@contextmanager
def open_registry(tracking: Tracking, root: Path, model_name: str) -> Iterator[Registry]:
    """The registry of the project at `root`.

    Raises:
        ValueError: tracking is disabled.
        ConnectionError: the registry does not answer or refuses; one line says which and why.
    """
    if not tracking.enabled:
        raise ValueError("tracking.enabled is false; the model registry is part of MLflow, so it must be true")
    try:
        with mlflow_client(tracking, root) as client:
            yield Registry(client, model_name)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy"):
            raise
        where = tracking_uri(tracking, root)
        raise ConnectionError(hide_password(f"model registry at {where}: {one_line(error)}")) from None


def _version(found: ModelVersion) -> Version:
    return Version(int(found.version), dict(found.tags))


def _save(folder: Path, target: Path, rows: npt.NDArray[np.float32], *, model_id: str, run_id: str) -> None:
    """Write the variant in `folder` as an MLflow model."""
    import onnx

    deploy = json.loads((folder / "deploy.json").read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints when first imported
        import mlflow.onnx
        from mlflow.models import Model

        mlflow.onnx.save_model(
            onnx.load(folder / "model.onnx"),
            target,
            mlflow_model=Model(model_id=model_id, model_uuid=model_id, run_id=run_id),
            signature=_signature(deploy),
            input_example={deploy["inputs"][0]["name"]: rows},
            onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=pinned(*REQUIREMENTS),
            save_as_external_data=False,
        )
    # what was measured is what is served: ONNX's writer need not give the same bytes again
    shutil.copyfile(folder / "model.onnx", target / "model.onnx")
    shutil.copytree(folder, target / "variant", ignore=shutil.ignore_patterns("model.onnx"))


def _signature(deploy: Mapping[str, Any]) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(side: str) -> Schema:
        return Schema(
            [
                TensorSpec(
                    np.dtype(tensor["dtype"]),
                    tuple(size if isinstance(size, int) else -1 for size in tensor["shape"]),
                    tensor["name"],
                )
                for tensor in deploy[side]
            ]
        )

    return ModelSignature(schema("inputs"), schema("outputs"))
