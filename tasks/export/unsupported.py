"""Why a module cannot be exported: the operation that a format lacks, and where in the user's model it is called."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

MISSING: Final = (  # how exporters say which operation they lack
    r"No ONNX function found for <OpOverload\(op='\w+\.(\w+)'",
    r"OpenVINO does not support the following ONNX operations: ([\w.]+)",
    r"Operator torch\._ops\.\w+\.(\w+)",
    r"Missing out variants: \{'\w+::(\w+)",
)


def trace(
    model: nn.Module, example: Tensor, *, dynamic_batch: bool, target: str, field: str
) -> torch.export.ExportedProgram:
    """The model as a graph of ATen operations, in which no path of this machine is left; `target` is what it is for.

    Raises:
        ValueError: its forward cannot be traced; the message names the module and what would do.
    """
    shapes = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _located(model) as active:
                program = torch.export.export(model.eval(), (example,), dynamic_shapes=shapes)
        except Exception as error:
            raise ValueError(f"{field}: cannot be exported to {target}: {_untraceable(error, active)}") from None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def lacking(error: BaseException, model: nn.Module, example: Tensor, target: str) -> str:
    """What an exporter's error means: `target` has no such operation, which modules call it, what would do.

    Where the failure is of another kind, the first line of what it says.
    """
    cause: BaseException | None = error
    found = None
    while cause and not found:
        found = next(filter(None, (re.search(pattern, str(cause)) for pattern in MISSING)), None)
        cause = cause.__cause__
    if not found:
        return " ".join(str(error.__cause__ or error).split())[:300]
    paths = _callers(found[1], model, example)
    where = f", which {', '.join(paths)} calls" if paths else ""
    return f"it has no {found[1]}{where}; put operations in its place that {target} has, such as those of torch.nn"


def _callers(operation: str, model: nn.Module, example: Tensor) -> list[str]:
    """Paths of the modules whose code calls the ATen operation, or one whose name has it in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = torch.export.export(model, (example,)).graph.nodes
    # exporters take calls apart before they look: aten.special_bessel_j0 has become prims.bessel_j0
    calls = [node for node in nodes if node.op == "call_function" and operation.lower() in str(node.target)]
    stacks: list[list[Any]] = [list(node.meta.get("nn_module_stack", {}).values()) for node in calls]
    return list(dict.fromkeys(stack[-1][0] or "the model itself" for stack in stacks if stack))


def _untraceable(error: Exception, active: list[str]) -> str:
    where = (active[-1] if active else "") or "the model itself"
    if "data-dependent" in str(error):
        return f"{where} branches on values in its forward; torch.where or torch.cond would do"
    return f"{where} cannot be traced: {(' '.join(str(error).split()) or type(error).__name__)[:250]}"


@contextmanager
def _located(model: nn.Module) -> Iterator[list[str]]:
    """The list holds the paths of the modules that are being called, innermost last, and keeps them at an error."""
    names = {id(module): name for name, module in model.named_modules()}
    active: list[str] = []

    def enter(module: nn.Module, _: object) -> None:
        active.append(names.get(id(module), active[-1] if active else ""))

    def leave(module: nn.Module, _: object, __: object) -> None:
        active.pop()

    handles = [hooks.register_module_forward_pre_hook(enter), hooks.register_module_forward_hook(leave)]
    try:
        yield active
    finally:
        for handle in handles:
            handle.remove()
