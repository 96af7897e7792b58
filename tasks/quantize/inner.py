"""What the tensors inside a float graph hold while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

Values = npt.NDArray[np.float32]


def inner_values(
    model: onnx.ModelProto, names: Sequence[str], batches: Iterable[Values]
) -> Iterator[dict[str, Values]]:
    """For each batch what the tensors `names` held, the model's input among them if it is named."""
    source = model.graph.input[0].name
    wanted = [name for name in names if name != source]
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    del inner.graph.output[:]
    inner.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    # fusing would hide the tensors that are to be seen
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(inner.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for inputs in batches:
        found: list[Any] = session.run(wanted, {source: inputs}) if wanted else []
        values = dict(zip(wanted, found, strict=True)) | {source: inputs}
        yield {name: values[name] for name in names}
