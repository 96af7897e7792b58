"""The models under comparison: their files, what they answer, what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from tasks import checkpoint
from tasks.data.batches import Samples
from tasks.data.dataset import Card
from tasks.measure.runtime import open_onnxruntime, open_session, run
from tasks.measure.size import macs, parameters
from tasks.measure.timing import Timing, interleaved
from tasks.params import Evaluate

# which model each was made from; the quantized file has its float parent's architecture
PARENTS: Final[Mapping[str, str | None]] = {
    "teacher": None,
    "student_alone": None,
    "student": "teacher",
    "pruned": "student",
    "quantized": "pruned",
}
EAGER: Final = "teacher in eager PyTorch"


@dataclass(frozen=True)
class Cost:
    """What a variant takes; macs and parameters of the quantized file are its parent's."""

    size_bytes: int
    parameters: int
    macs: int
    timing: Timing

    def figures(self) -> dict[str, float]:
        """Flat, units in the names."""
        return {
            "size_bytes": self.size_bytes,
            "parameters": self.parameters,
            "macs": self.macs,
            **asdict(self.timing),
        }


def answers(folders: Mapping[str, Path], test: Samples) -> dict[str, npt.NDArray[np.float64]]:
    """(len(test), classes) probabilities of each file that ships, by ONNX Runtime.

    Raises:
        ValueError: a file answers with numbers that are not finite.
    """
    return {name: _probabilities(folder / "model.onnx", test) for name, folder in folders.items()}


def _probabilities(path: Path, samples: Samples) -> npt.NDArray[np.float64]:
    logits = run(open_session(path), samples).astype(np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(f"evaluate: {path} answers with numbers that are not finite; train it with a smaller lr")
    found: npt.NDArray[np.float64] = softmax(logits, axis=1)
    return found


def trained(folder: Path) -> bool:
    """Whether the model in the folder has learned; a quantized one that has is no mere rounding of its parent."""
    return (folder / "training.csv").is_file()


def costs(folders: Mapping[str, Path], card: Card, test: Samples, params: Evaluate) -> tuple[dict[str, Cost], Timing]:
    """Of each file, and the timing of the teacher in eager PyTorch beside them."""
    calls = {name: open_onnxruntime(folder / "model.onnx") for name, folder in folders.items()}
    eager = checkpoint.load(folders["teacher"], card)
    batch = np.resize(test.inputs(slice(0, params.throughput_batch_size)).numpy(), _batch_shape(card, params))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            timings = interleaved(
                {**calls, EAGER: lambda inputs: eager(torch.from_numpy(inputs)).numpy()},
                batch,
                rounds=params.latency_rounds,
                runs=params.latency_runs,
            )
    finally:
        torch.set_num_threads(threads)
    models = {name: checkpoint.load(folders[name], card) for name in folders if name != "quantized"}
    models["quantized"] = models["pruned"]
    return {
        name: Cost(
            (folder / "model.onnx").stat().st_size,
            parameters(models[name]),
            macs(models[name], card.input_shape),
            timings[name],
        )
        for name, folder in folders.items()
    }, timings[EAGER]


def _batch_shape(card: Card, params: Evaluate) -> tuple[int, ...]:
    return (params.throughput_batch_size, *card.input_shape)
