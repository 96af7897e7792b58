"""A variant as an MLflow model: what `mlflow models serve` needs, around the very file that was measured."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks import served
from tasks.adapters.devices import Devices
from tasks.adapters.versions import pinned
from tasks.served import OWN

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

REQUIREMENTS: Final = ("mlflow", "numpy", "onnx", "onnxruntime", "pandas")
RECORD: Final = "deploy.json"  # how devices are served, in the version's own folder
LOADER: Final = "downsize_served"
PROVIDERS: Final = ["CPUExecutionProvider"]

Rows = npt.NDArray[np.float32] | pd.DataFrame


@dataclass(frozen=True)
class Package:
    """What a version is made of: the variant's folder, raw rows as its input example, and how devices are served."""

    folder: Path
    rows: Rows
    devices: Devices


def save_variant(package: Package, target: Path, *, model_id: str, run_id: str) -> None:
    """Write the variant as an MLflow model: model.onnx byte for byte, its other files below `variant/`.

    As a Python function it takes raw rows, and gives labels and probabilities, served as deploy.json beside model.onnx
    says of a device; `model_config` may name one by `profile`. As an ONNX model it gives logits.
    """
    import onnx

    folder, rows, devices = package.folder, package.rows, package.devices
    deploy = json.loads((folder / "deploy.json").read_text(encoding="utf-8"))
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints when first imported
        import mlflow.pyfunc
        from mlflow.models import Model

        code = Path(scratch) / f"{LOADER}.py"
        shutil.copyfile(served.__file__, code)
        model = Model(model_id=model_id, model_uuid=model_id, run_id=run_id)
        model.add_flavor("onnx", onnx_version=onnx.__version__, data=OWN, providers=PROVIDERS)
        mlflow.pyfunc.save_model(
            target,
            loader_module=LOADER,
            code_paths=[str(code)],
            mlflow_model=model,
            signature=_signature(deploy),
            input_example=rows if isinstance(rows, pd.DataFrame) else {"x": rows},
            pip_requirements=_requirements(devices),
            model_config={"profile": ""},  # MLflow hands on no key that is not here
        )
    shutil.copytree(folder, target / "variant", ignore=shutil.ignore_patterns(OWN))
    for place, file in {OWN: folder / OWN, **devices.beside}.items():
        (target / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target / place)
    own = hashlib.sha256((target / OWN).read_bytes()).hexdigest()
    record = {**deploy, "sha256": own, "profiles": devices.profiles}
    (target / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _requirements(devices: Devices) -> list[str]:
    """The versions that are installed here; a runtime that was measured elsewhere stands without one."""
    further = [runtime for runtime in devices.runtimes() if runtime not in REQUIREMENTS]
    return [*pinned(*REQUIREMENTS), *(line for name in further for line in pinned(name) or [name])]


def _signature(deploy: Mapping[str, Any]) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    kinds = {"numeric": DataType.double, "categorical": DataType.string}
    columns = [ColSpec(kinds[column["kind"]], column["name"]) for column in deploy["columns"]]
    x = TensorSpec(np.dtype(np.float32), (-1, *deploy["inputs"][0]["shape"][1:]), "x")
    shares = [ColSpec(DataType.double, f"probability {name}") for name in deploy["classes"]]
    return ModelSignature(Schema(columns or [x]), Schema([ColSpec(DataType.string, "label"), *shares]))
