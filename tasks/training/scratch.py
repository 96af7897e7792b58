"""What a run keeps for itself and can do without: unfinished trainings, teachers' answers, measured choices.

A training's state is on disk after every epoch, so that a killed run goes on and ends with the very same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tasks.models.normalised import Normalised


@dataclass(frozen=True)
class Kept:
    """What was kept: tensors by name, and facts as JSON values."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, object]


@dataclass(frozen=True)
class Scratch:
    """A folder that may be deleted between runs.

    stage: whose trainings these are; they go once it has ended.
    identity: of the data and whatever else decides the outcome but is not handed to fit_; the code is added here.
    """

    folder: Path
    stage: str
    identity: str

    @property
    def answers(self) -> Path:
        """Of teachers, for all stages."""
        return self.folder / "answers"

    def choice(self, name: str, measure: Callable[[], str]) -> str:
        """What was measured once on this machine under this name stands, so that runs repeat."""
        path = self.folder / "choices" / f"{hashed([name.encode()])[:16]}.json"
        if path.is_file():
            return str(json.loads(path.read_text(encoding="utf-8"))["chosen"])
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = measure()
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps({"chosen": chosen, "name": name}), encoding="utf-8")
        partial.replace(path)
        return chosen

    def load(self, series: str, key: str) -> Kept | None:
        """What the training had reached, if it was this very training."""
        path = self._path(series)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                facts = json.loads((file.metadata() or {}).get("facts", "{}"))
                if facts.get("key") != self.key(key):
                    return None
                return Kept({name: file.get_tensor(name) for name in file.keys()}, facts)  # noqa: SIM118
        except (SafetensorError, ValueError):
            return None  # not whole: begin again

    def save(self, series: str, key: str, kept: Kept) -> None:
        """Replace the file by a newer one, whole or not at all."""
        path = self._path(series)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        # copies, as a layer that lies in two places has two names for one memory
        copied = {name: tensor.detach().cpu() for name, tensor in kept.tensors.items()}
        tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in copied.items()}
        try:
            save_file(tensors, partial, {"facts": json.dumps({**kept.facts, "key": self.key(key)})})
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def key(self, key: str) -> str:
        """Of the data and the code, too."""
        return hashed([self.identity.encode(), _code(), key.encode()])

    def _path(self, series: str) -> Path:
        return self.folder / "trainings" / self.stage / f"{series.replace(' ', '_')}.safetensors"


def scratch_of(folder: Path | None, stage: str, identity: str) -> Scratch | None:
    """The stage's scratch, where it has a folder for it."""
    return None if folder is None else Scratch(folder, stage, identity)


def hashed(parts: Iterable[bytes]) -> str:
    """SHA-256 of the parts and their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Of names, types and values."""
    parts = [f"{name} {t.dtype} {tuple(t.shape)}".encode() + _bytes(t) for name, t in sorted(state.items())]
    return hashed(parts)


def network_hash(model: nn.Module) -> str:
    """Of how it is built, by which arguments and which source files, and of its weights."""
    modules = {type(module).__module__ for module in model.modules()}
    sources = {getattr(sys.modules.get(name), "__file__", None) for name in modules}
    code = [Path(source).read_bytes() for source in sorted(filter(None, sources))]
    arguments = model.factory.model_dump_json() if isinstance(model, Normalised) else ""
    return hashed([arguments.encode(), str(model).encode(), state_hash(model.state_dict()).encode(), *code])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its state by parameter position."""
    states = (optimizer.state.get(parameter, {}) for parameter in _parameters(optimizer))
    return {
        f"{position}.{name}": value
        for position, state in enumerate(states)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer_(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, in the memory layout of each parameter."""
    for position, parameter in enumerate(_parameters(optimizer)):
        prefix = f"{position}."
        for name, value in tensors.items():
            if name.startswith(prefix):
                like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
                optimizer.state[parameter][name.removeprefix(prefix)] = like.copy_(value)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


@cache  # what runs is what was there at the start, whatever is edited meanwhile
def _code() -> bytes:
    """Of the package, and PyTorch's version: other code may train otherwise."""
    root = Path(__file__).parents[1]
    sources = (path.read_bytes() for path in sorted(root.rglob("*.py")))
    return hashed([torch.__version__.encode(), *sources]).encode()
