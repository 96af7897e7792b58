"""A forward that decides by the values that come in: what it does on one sample says nothing of the next."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

BY_VALUES: Final = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})


class DependsOnValues(ValueError):
    """An operation whose outcome is a Python number, or whose output's shape depends on values."""


class RefusingValues(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises DependsOnValues where an operation lets values that come from `inputs` decide what runs next."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # by their memory: a view of such a tensor comes from the inputs too
        self.reached = {_memory(inputs): inputs}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        reached = [tensor for tensor in given if _memory(tensor) in self.reached]
        if reached and BY_VALUES & set(func.tags):
            name = func.name().removeprefix("aten::").partition(".")[0]
            if torch.Tag.data_dependent_output in func.tags:
                raise DependsOnValues("branches on values, or takes one as a number; torch.where would do")
            # what an index picks has as many entries as the index, unless that is a mask
            if name != "index" or any(self._is_mask(tensor) for tensor in _tensors(args[1:])):
                raise DependsOnValues(
                    f"calls {name}, whose answer's shape depends on values; a factor of 0 or 1 would do"
                )
        answer = func(*args, **(kwargs or {}))
        if reached:
            written = given[:1] if func._schema.is_mutable else []
            self.reached.update({_memory(tensor): tensor for tensor in (*_tensors([answer]), *written)})
        return answer

    def _is_mask(self, index: Tensor) -> bool:
        return index.dtype in (torch.bool, torch.uint8) and _memory(index) in self.reached


def where(error: BaseException, model: nn.Module) -> str:
    """Path of the innermost module of `model` in whose forward the error was raised; "" where it was in none."""
    names = {module: name or "the model itself" for name, module in model.named_modules()}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            found = names.get(owner, found)
    return found


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
