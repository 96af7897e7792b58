"""Features of a network, recorded as it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from types import TracebackType

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tasks.models.normalised import Normalised
from tasks.training.objective import Outputs


class Taps:
    """Records what the named modules of a network return while it is open.

    names: as in the user's own module, which in a `Normalised` is the one inside.
    field: how errors begin, with the network that they are about, as in `distill.losses: the student`.

    A module that runs several times in one forward pass leaves its last output.

    Raises:
        ValueError: the network has no such module; later, in its forward pass, that a module returned no tensor.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], field: str) -> None:
        self._network = model.model if isinstance(model, Normalised) else model
        self._field = field
        modules = {name: module for name, module in self._network.named_modules(remove_duplicate=False) if name}
        for name in names:
            if name not in modules:
                raise ValueError(f"{field} has no module {name!r}; {_advice(name, modules)}")
        self._tapped = {name: modules[name] for name in names}
        self._recorded: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Taps:
        # a module that the next pass leaves out must not answer with what it returned in this one
        self._handles = [self._network.register_forward_pre_hook(lambda network, inputs: self._recorded.clear())]
        self._handles += [
            module.register_forward_hook(partial(self._record, name)) for name, module in self._tapped.items()
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def outputs(self, logits: Tensor) -> Outputs:
        """The logits, as float32, with what was recorded in the latest forward pass.

        Raises:
            ValueError: a tapped module did not run in it.
        """
        for name in self._tapped:
            if name not in self._recorded:
                raise ValueError(f"{self._field} did not run its module {name!r} in the latest forward pass")
        return Outputs(logits.float(), dict(self._recorded))

    def _record(self, name: str, module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"{self._field} returns a {type(output).__name__} from its module {name!r}; only a tensor can be tapped"
            )
        self._recorded[name] = output.clone()  # the next module may work in place


def _advice(name: str, known: Iterable[str]) -> str:
    names = list(known)
    if close := get_close_matches(name, names, n=3):
        *others, last = map(repr, close)
        return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"
    if not names:
        return "it has none"
    return f"it has {', '.join(map(repr, names[:8]))}" + (", ..." if len(names) > 8 else "")
