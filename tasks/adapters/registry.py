"""MLflow's model registry: the only place that reads or writes versions and aliases."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.adapters import lock
from tasks.adapters.client import PATIENT, hide_password, mlflow_client, one_line, tracking_uri
from tasks.adapters.packaging import RECORD, Package, save_variant
from tasks.adapters.tracking import Recipe
from tasks.params import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

FIGURES: Final = (
    "accuracy",
    "accuracy_drop",
    "accuracy_drop_upper95",
    "size_bytes",
    "latency_ms_p50",
    "macs",
)
MODEL_ID: Final = "model_id"  # tag; the registry itself forgets it when read back
SHA256: Final = "artifact_sha256"  # tag; of model.onnx
DEVICES: Final = "devices"  # tag; how each is served, to be read
DEVICES_SHA256: Final = "devices_sha256"  # tag; of the record
CARD: Final = "model_card.md"
DESCRIPTION_CHARS: Final = 5000  # that MLflow's tables hold


@dataclass(frozen=True)
class Version:
    """One version of the registered model; source: where its files are; run_id: its recipe's run."""

    number: int
    tags: Mapping[str, str]
    source: str
    run_id: str
    created_ms: int
    description: str


class Registry:
    """The versions, aliases and audit trail of one registered model."""

    def __init__(self, client: MlflowClient, model_name: str, uri: str) -> None:
        """Open the model in the store at `uri`; it need not exist yet."""
        self.client, self.model_name, self.uri = client, model_name, uri

    def exclusive(self) -> AbstractContextManager[lock.Still]:
        """Hold the model's lock: what is read inside stays so until it is changed inside."""
        return lock.exclusive(self.client, self.uri, self.model_name)

    def find(self, **tags: str) -> Version | None:
        """The oldest version that carries all these tags."""
        wanted = [f"name = '{self.model_name}'", *(f"tags.{key} = '{value}'" for key, value in tags.items())]
        found = self.client.search_model_versions(" and ".join(wanted))
        return min(map(_version, found), key=lambda version: version.number, default=None)

    def add(self, variant: str, package: Package, recipe: Recipe, *, tags: Mapping[str, str]) -> Version:
        """Log the package below the recipe's run and register it, unless another process just has.

        The version holds model.onnx byte for byte, the variant's other files below `variant/`, and what devices need.
        """
        client = self.client
        tags = {**tags, **_devices(package)}
        model = client.create_logged_model(recipe.experiment_id, variant, recipe.run_id, dict(tags), model_type="onnx")
        self._upload(model.model_id, package, recipe.run_id)
        client.finalize_logged_model(model.model_id, "READY")
        with self.exclusive():  # not over the upload, which may take long
            if found := self.find(variant=variant, **{SHA256: tags[SHA256]}):
                client.delete_logged_model(model.model_id)
                return found
            return self._create(model, recipe, tags)

    def refresh(self, version: Version, package: Package) -> Version:
        """Have the version serve devices as the package of the same file says; the same again changes nothing."""
        told = _devices(package)
        if MODEL_ID not in version.tags or told.items() <= version.tags.items():
            return version
        self._upload(version.tags[MODEL_ID], package, version.run_id)
        self.tag(version, told)  # last, as they tell whether all is done
        return self.numbered(version.number)

    def _upload(self, model_id: str, package: Package, run_id: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            saved, record = Path(scratch) / "model", Path(scratch) / RECORD
            save_variant(package, saved, model_id=model_id, run_id=run_id)
            (saved / RECORD).rename(record)
            self.client.log_model_artifacts(model_id, str(saved))
            self.client.log_model_artifact(model_id, str(record))  # after the files that it names

    def _create(self, model: LoggedModel, recipe: Recipe, tags: Mapping[str, str]) -> Version:
        from mlflow.entities import LoggedModelOutput

        client = self.client
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
        return self.numbered(int(created.version))

    def versions(self) -> list[Version]:
        """All of them, by their number."""
        found = self.client.search_model_versions(f"name = '{self.model_name}'")
        return sorted(map(_version, found), key=lambda version: version.number)

    def aliases(self) -> dict[str, int]:
        """Which version each alias points to; none where the model does not exist."""
        found = self.client.search_registered_models(f"name = '{self.model_name}'")
        return {alias: int(number) for alias, number in found[0].aliases.items()} if found else {}

    def numbered(self, number: int) -> Version:
        """The version of that number.

        Raises:
            mlflow.exceptions.MlflowException: there is none.
        """
        return _version(self.client.get_model_version(self.model_name, str(number)))

    def resolve(self, name: str) -> Version:
        """The version that a person names, by number or alias.

        Raises:
            ValueError: there is none; the message says what there is.
        """
        versions, aliases = {version.number: version for version in self.versions()}, self.aliases()
        number = int(name) if name.isdecimal() else aliases.get(name)
        if number in versions:
            return versions[number]
        if not versions:
            raise ValueError(
                f"{self.model_name} has no version '{name}', nor any other; `downsize register` makes them"
            )
        there = ", ".join(f"{alias} ({at})" for alias, at in sorted(aliases.items())) or "none"
        kind = "version" if name.isdecimal() else "alias"
        raise ValueError(
            f"{self.model_name} has no {kind} '{name}'; versions: {_ranges(list(versions))}, aliases: {there}"
        )

    def fetch(self, version: Version, folder: Path) -> Path:
        """Download the version to `folder/version N`, as its stage left it: model.onnx, deploy.json and the rest.

        Raises:
            ValueError: model.onnx is not the file that was registered.
        """
        target = folder / f"version {version.number}"
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            saved = self.download(version, Path(scratch))
            shutil.copytree(saved / "variant", target)
            shutil.copyfile(saved / "model.onnx", target / "model.onnx")
        return target

    def download(self, version: Version, folder: Path) -> Path:
        """Download the version into `folder` as MLflow keeps it, with what devices are served; returns where it lies.

        Raises:
            ValueError: model.onnx is not the file that was registered.
        """
        import mlflow.artifacts

        saved = Path(mlflow.artifacts.download_artifacts(version.source, dst_path=str(folder), tracking_uri=self.uri))
        with (saved / "model.onnx").open("rb") as file:
            found, registered = hashlib.file_digest(file, "sha256").hexdigest(), version.tags.get(SHA256, "nothing")
        if found != registered:
            raise ValueError(
                f"{self.model_name}: version {version.number} has another file than was registered: "
                f"its sha256 is {found[:12]}, the tag {SHA256} says {registered[:12]}"
            )
        return saved

    def run_of(self, version: Version) -> tuple[str, dict[str, str]]:
        """The name of the data and the params of the version's run; empty where the run is gone."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(version.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return "", {}
        return next((one.dataset.name for one in run.inputs.dataset_inputs), ""), dict(run.data.params)

    def run_files(self, version: Version, folder: Path) -> set[str]:
        """Download the files at the top of the version's run to `folder`; returns their names, none if it is gone."""
        from mlflow.exceptions import MlflowException

        try:
            names = {one.path for one in self.client.list_artifacts(version.run_id) if not one.is_dir}
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return set()
        for name in names:
            self.client.download_artifacts(version.run_id, name, str(folder))
        return names

    def describe(self, version: Version, card: str) -> None:
        """Make the card the version's description and a file beside its model; the same again changes nothing."""
        if version.description == card[:DESCRIPTION_CHARS]:
            return
        if model_id := version.tags.get(MODEL_ID):
            with tempfile.TemporaryDirectory() as scratch:
                (Path(scratch) / CARD).write_text(card, encoding="utf-8")
                self.client.log_model_artifact(model_id, str(Path(scratch) / CARD))
        # last, as it tells whether all is done
        self.client.update_model_version(self.model_name, str(version.number), card[:DESCRIPTION_CHARS])

    def card(self, version: Version) -> str:
        """The whole of the version's card; its description where no file of it is left."""
        import mlflow.artifacts

        model_id = version.tags.get(MODEL_ID)
        if not model_id or CARD not in {one.path for one in self.client.list_logged_model_artifacts(model_id)}:
            return version.description
        with tempfile.TemporaryDirectory() as scratch:
            address = f"{version.source}/{CARD}"
            path = mlflow.artifacts.download_artifacts(address, dst_path=scratch, tracking_uri=self.uri)
            return Path(path).read_text(encoding="utf-8")

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags on a version; those that have the value already are left alone."""
        for key, value in tags.items():
            if version.tags.get(key) != value:
                self.client.set_model_version_tag(self.model_name, str(version.number), key, value)

    def alias(self, name: str) -> Version | None:
        """The version an alias points to."""
        number = self.aliases().get(name)
        return None if number is None else self.numbered(number)

    def point(self, alias: str, number: int | None) -> None:
        """Move an alias to the version of that number; None takes the alias away."""
        if number is not None:
            self.client.set_registered_model_alias(self.model_name, alias, str(number))
        elif alias in self.aliases():
            self.client.delete_registered_model_alias(self.model_name, alias)

    def write_audit(self, key: str, entry: Mapping[str, object]) -> None:
        """Keep who did what, as the tag `audit.<key>` of the model; the keys' order is the order of the moves."""
        self.client.set_registered_model_tag(self.model_name, f"audit.{key}", json.dumps(entry))

    def audit(self) -> dict[str, dict[str, Any]]:
        """All audit entries by their key, oldest first; none where the model does not exist."""
        found = self.client.search_registered_models(f"name = '{self.model_name}'")
        tags = found[0].tags if found else {}
        return {key.removeprefix("audit."): json.loads(tags[key]) for key in sorted(tags) if key.startswith("audit.")}


@contextmanager
def open_registry(tracking: Tracking, root: Path, model_name: str) -> Iterator[Registry]:
    """The registry of the project at `root`.

    Raises:
        ValueError: tracking is disabled.
        ConnectionError: the registry does not answer, though it was asked again and again, or refuses; one line says
            which and why.
    """
    if not tracking.enabled:
        raise ValueError("tracking.enabled is false; the model registry is part of MLflow, so it must be true")
    try:
        with mlflow_client(tracking, root, PATIENT) as client:
            yield Registry(client, model_name, tracking_uri(tracking, root))
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy"):
            raise
        where = tracking_uri(tracking, root)
        raise ConnectionError(hide_password(f"model registry at {where}: {one_line(error)}")) from None


def _devices(package: Package) -> dict[str, str]:
    """The tags by which a version's devices are known."""
    return {DEVICES: package.devices.text(), DEVICES_SHA256: package.devices.sha256()}


def _version(found: ModelVersion) -> Version:
    return Version(
        number=int(found.version),
        tags=dict(found.tags),
        source=found.source,
        run_id=found.run_id or "",
        created_ms=found.creation_timestamp,
        description=found.description or "",
    )


def _ranges(numbers: list[int]) -> str:
    """`1 to 4, 6`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
