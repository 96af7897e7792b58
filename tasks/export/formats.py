"""Files of one model for other runtimes, each held against the model before it ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from tasks.data.splits import Splits
from tasks.export import ir, opset, pt2, pte
from tasks.export.packed import packed
from tasks.export.parity import parity, refuse_difference
from tasks.extras import EXTRAS, require_extra
from tasks.measure.accuracy import logits
from tasks.measure.runtime import Call, answers, open_onnxruntime, open_openvino
from tasks.measure.size import COMPANIONS, deployed_bytes
from tasks.params import Exports

FIELD: Final = "evaluate.exports"


@dataclass(frozen=True)
class Source:
    """A model to export: its ONNX file, and the PyTorch model that answers as it does.

    Of an integer file it is the float model that the file was made from, and the file itself is what is held against.
    """

    name: str
    file: Path
    network: nn.Module
    integer: bool


@dataclass(frozen=True)
class Format:
    """write: makes the file from a source, for samples of a shape; open: reads it back.

    integers: whether it can be made of an integer file. one_by_one: it takes one sample at a time, whatever is asked.
    """

    suffix: str
    write: Callable[[Source, Path, tuple[int, ...], Exports], None]
    open: Callable[[Path], Call]
    integers: bool
    one_by_one: bool = False


def _write_onnx(source: Source, path: Path, shape: tuple[int, ...], params: Exports) -> None:
    opset.convert(source.file, path, params.opset, dynamic_batch=params.dynamic_batch, field=FIELD)


def _write_program(source: Source, path: Path, shape: tuple[int, ...], params: Exports) -> None:
    pt2.write(source.network, path, shape, dynamic_batch=params.dynamic_batch, field=FIELD)


def _write_ir(source: Source, path: Path, shape: tuple[int, ...], params: Exports) -> None:
    ir.write(source.file, source.network, path, shape, dynamic_batch=params.dynamic_batch, field=FIELD)


def _write_pte(source: Source, path: Path, shape: tuple[int, ...], params: Exports) -> None:
    pte.write(source.network, path, shape, field=FIELD)


FORMATS: Final[Mapping[str, Format]] = {
    "onnx": Format(".onnx", _write_onnx, open_onnxruntime, integers=True),
    "exported_program": Format(".pt2", _write_program, pt2.read, integers=False),
    "openvino": Format(".xml", _write_ir, open_openvino, integers=True),
    "executorch": Format(".pte", _write_pte, pte.read, integers=False, one_by_one=True),
}


def export_all(sources: list[Source], params: Exports, data: Splits, folder: Path) -> list[dict[str, Any]]:
    """Write every format of every source that can have it into `folder`, which exists; what deploy.json says of each.

    Raises:
        ValueError: an extra is missing, a model cannot be exported, or a file answers otherwise on validation samples.
    """
    for name in params.formats:
        if name in EXTRAS:
            require_extra(name, f"{FIELD}.formats")
    made = []
    for source in sources:
        expected = answers(open_onnxruntime(source.file), data.validation)
        if not source.integer:
            expected = logits(source.network, data.validation).numpy()
        made += [
            _export(name, source, expected, params, data, folder)
            for name in dict.fromkeys(params.formats)
            if FORMATS[name].integers or not source.integer
        ]
    return made


def _export(
    name: str, source: Source, expected: np.ndarray[Any, Any], params: Exports, data: Splits, folder: Path
) -> dict[str, Any]:
    kind = FORMATS[name]
    path = folder / f"{source.name}{kind.suffix}"
    kind.write(source, path, data.card.input_shape, params)
    alone = kind.one_by_one or not params.dynamic_batch
    found = parity(expected, answers(kind.open(path), data.validation, *([1] if alone else [])))
    refuse_difference(found, f"{FIELD}: {path.name}", integer=source.integer)
    return {
        "format": name,
        "model": source.name,
        "file": path.name,
        "batch": 1 if alone else "any",
        "size_bytes": deployed_bytes(path),
        "packed_bytes": _packed_bytes(path),
        "parity": asdict(found),
    }


def _packed_bytes(path: Path) -> int:
    """Of the file and what must lie beside it, each packed."""
    companions = [path.with_suffix(suffix) for suffix in COMPANIONS.get(path.suffix, ())]
    return sum(len(packed(file.read_bytes())) for file in (path, *companions))
