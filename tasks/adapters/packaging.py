"""A variant as an MLflow model: what `mlflow models serve` needs, around the very file that was measured."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from tasks.adapters.versions import pinned

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

REQUIREMENTS: Final = ("mlflow", "numpy", "onnx", "onnxruntime")


def save_variant(folder: Path, target: Path, rows: npt.NDArray[np.float32], *, model_id: str, run_id: str) -> None:
    """Write the variant in `folder` as an MLflow model: model.onnx byte for byte, its other files below `variant/`.

    rows: raw samples, shown as the input example.
    """
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
