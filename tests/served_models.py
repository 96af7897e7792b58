"""Two served models small enough to work out by hand: one of a table, one of images."""

import hashlib
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tasks.served import Served

COLUMNS = [
    {"name": "size", "kind": "numeric", "categories": []},
    {"name": "colour", "kind": "categorical", "categories": ["blue", "red", "(missing)"]},
]


def make_served(folder, shape, columns=(), classes=("no", "yes"), scale=1):
    """The second class's logit is `scale` times the sum of a sample's values, the first one's is 0."""
    width = int(np.prod(shape))
    weight = numpy_helper.from_array(
        np.stack([np.zeros(width), np.full(width, scale)], axis=1).astype(np.float32), "weight"
    )
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["logits"])],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [weight],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    inputs = [{"name": "x", "shape": ["batch", *shape], "dtype": "float32"}]
    deploy = {"inputs": inputs, "classes": list(classes), "columns": list(columns)}
    (folder / "deploy.json").write_text(json.dumps(deploy))
    return Served(folder, folder / "model.onnx")


def hand_over(folder, **profiles):
    """The file of images below `folder`, and a record of what each device is served, or None.

    profiles: (runtime, threads), and in the third place the threads with which ONNX Runtime would do, where it would.
    """
    deploy = make_served(folder / "model", (1, 2, 2)).deploy
    sha256 = hashlib.sha256((folder / "model/model.onnx").read_bytes()).hexdigest()
    where = {"model": "quantized", "file": "model/model.onnx", "sha256": sha256}
    rows = [
        {
            "name": name,
            "served": way and {**where, "runtime": way[0], "threads": way[1], "onnxruntime_threads": [*way, None][2]},
            "misses": [] if way else ["size"],
        }
        for name, way in profiles.items()
    ]
    (folder / "deploy.json").write_text(json.dumps({**deploy, "profiles": rows}))
    return folder
