"""A variant as an MLflow model: what `mlflow models serve` needs, around the very file that was measured."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks import served
from tasks.adapters.versions import pinned

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

REQUIREMENTS: Final = ("mlflow", "numpy", "onnx", "onnxruntime", "pandas")
LOADER: Final = "downsize_served"
PROVIDERS: Final = ["CPUExecutionProvider"]

Rows = npt.NDArray[np.float32] | pd.DataFrame


def save_variant(folder: Path, target: Path, rows: Rows, *, model_id: str, run_id: str) -> None:
    """Write the variant in `folder` as an MLflow model: model.onnx byte for byte, its other files below `variant/`.

    As a Python function it takes raw rows, and gives labels and probabilities; as an ONNX model it gives logits.
    rows: raw samples, shown as the input example.
    """
    import onnx

    deploy = json.loads((folder / "deploy.json").read_text(encoding="utf-8"))
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints when first imported
        import mlflow.pyfunc
        from mlflow.models import Model

        code = Path(scratch) / f"{LOADER}.py"
        shutil.copyfile(served.__file__, code)
        model = Model(model_id=model_id, model_uuid=model_id, run_id=run_id)
        model.add_flavor("onnx", onnx_version=onnx.__version__, data="model.onnx", providers=PROVIDERS)
        mlflow.pyfunc.save_model(
            target,
            loader_module=LOADER,
            code_paths=[str(code)],
            mlflow_model=model,
            signature=_signature(deploy),
            input_example=rows if isinstance(rows, pd.DataFrame) else {"x": rows},
            pip_requirements=pinned(*REQUIREMENTS),
        )
    shutil.copyfile(folder / "model.onnx", target / "model.onnx")
    shutil.copytree(folder, target / "variant", ignore=shutil.ignore_patterns("model.onnx"))


def _signature(deploy: Mapping[str, Any]) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    kinds = {"numeric": DataType.double, "categorical": DataType.string}
    columns = [ColSpec(kinds[column["kind"]], column["name"]) for column in deploy["columns"]]
    x = TensorSpec(np.dtype(np.float32), (-1, *deploy["inputs"][0]["shape"][1:]), "x")
    shares = [ColSpec(DataType.double, f"probability {name}") for name in deploy["classes"]]
    return ModelSignature(Schema(columns or [x]), Schema([ColSpec(DataType.string, "label"), *shares]))
