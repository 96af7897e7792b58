"""Files timed in turns by OpenVINO on one thread: SAMPLES.npy FILE...; prints {file: {b1_ms, b256_ms, accuracy}}."""

import json
import sys
import time

import numpy as np
import openvino
import openvino.properties as properties

samples, labels, *files = sys.argv[1:]
x, y = np.load(samples), np.load(labels)
core = openvino.Core()
options = {
    properties.inference_num_threads(): 1,
    properties.hint.performance_mode(): "LATENCY",
    properties.hint.inference_precision(): "f32",  # as it is served; else what is left in float may run in halves
}
models = {file: core.compile_model(file, "CPU", options) for file in files}
times = {file: {1: [], 256: []} for file in files}
for batch, runs in ((1, 50), (256, 3)):
    for turn in range(12):
        cycle, first = divmod(turn, len(files))
        order = files[first:] + files[:first]
        for file in order[:: -1 if cycle % 2 else 1]:  # each comes after each other one: what ran before tells
            models[file](x[:batch])
            for _ in range(runs):
                begun = time.perf_counter()
                models[file](x[:batch])
                times[file][batch].append(1000 * (time.perf_counter() - begun))


def answers(model):
    """The likeliest class of every sample."""
    parts = [next(iter(model(x[at : at + 500]).values())).argmax(1) for at in range(0, len(x), 500)]
    return np.concatenate(parts)


print(
    json.dumps(
        {
            file: {
                "b1_ms": float(np.median(times[file][1])),
                "b256_ms": float(np.median(times[file][256])),
                "accuracy": float((answers(model) == y).mean()),
            }
            for file, model in models.items()
        }
    )
)
