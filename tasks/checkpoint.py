"""Models as data: `weights.safetensors` and `model.json`, enough to rebuild any model, a pruned one too. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tasks.data.dataset import Card
from tasks.models.attention import Attention, keep_heads_
from tasks.models.normalised import Normalised
from tasks.models.skipped import Skipped, skip_
from tasks.params import Factory
from tasks.plugins import make

# the sizes that a layer keeps beside its parameters, and that pruning changes
SIZES: Final[Mapping[type[nn.Module], tuple[str, ...]]] = {
    nn.Conv1d: ("in_channels", "out_channels", "groups"),
    nn.Conv2d: ("in_channels", "out_channels", "groups"),
    nn.ConvTranspose1d: ("in_channels", "out_channels", "groups"),
    nn.ConvTranspose2d: ("in_channels", "out_channels", "groups"),
    nn.Linear: ("in_features", "out_features"),
    nn.BatchNorm1d: ("num_features",),
    nn.BatchNorm2d: ("num_features",),
    nn.PReLU: ("num_parameters",),
}


class ModelCard(BaseModel):
    """What `model.json` says: how to build the model, and what pruning did to it.

    channels: sizes of its layers, by name. heads: of each attention that lost some. removed: blocks that are gone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    factory: Factory
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    channels: dict[str, dict[str, int]]
    heads: dict[str, int] = {}
    removed: tuple[str, ...] = ()
    parent: str | None = None


def build(factory: Factory, card: Card, moments: tuple[Tensor, Tensor], seed: int, field: str) -> Normalised:
    """A fresh model for the data, its initial weights drawn from `seed`.

    moments: mean and standard deviation of the training inputs, broadcastable to one sample.
    field: where the factory stands in params.yaml, for messages.

    Raises:
        ValueError: it is no nn.Module, cannot take the data's shape, or has not one output per class.
    """
    offered = {"in_shape": list(card.input_shape), "classes": len(card.classes)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make(factory, field, **offered)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{field}: {factory.factory} returned a {type(model).__name__}; it must return a torch.nn.Module"
        )
    mean, deviation = moments
    # a constant input carries nothing: leave it at zero instead of dividing by zero
    inverse = torch.where(deviation > 0, 1 / deviation.clamp_min(1e-12), torch.zeros_like(deviation))
    network = Normalised(model, mean.float(), inverse.float(), factory)
    _check_output(network, card, field)
    return network


def save(model: Normalised, card: Card, folder: Path, parent: str | None) -> None:
    """Write weights and model.json into `folder`, made where it is missing.

    A tensor that has several names, as of a layer that lies in two places, is written once, by the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # views of one memory, such as two halves of a weight, are tensors of their own in the file
    state = {names[0]: tensor.cpu().clone(memory_format=torch.contiguous_format) for names, tensor in _tied(model)}
    save_file(state, folder / "weights.safetensors")
    modules = dict(model.named_modules())
    model_card = ModelCard(
        factory=model.factory,
        input_shape=card.input_shape,
        classes=card.classes,
        channels={name: sizes for name, module in modules.items() if (sizes := sizes_of(module))},
        heads={name: module.num_heads for name, module in modules.items() if isinstance(module, Attention)},
        removed=tuple(name for name, module in modules.items() if isinstance(module, Skipped)),
        parent=parent,
    )
    (folder / "model.json").write_text(model_card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(folder: Path, card: Card) -> Normalised:
    """Rebuild the model that `save` wrote.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the weights do not fit the model, or the model does not fit the data.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run the stage that makes {folder.name}")
    try:
        model_card = ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: not a readable model card ({where + ': ' if where else ''}{first['msg']})") from None
    state = read_weights(folder / "weights.safetensors")
    offered = {"in_shape": list(model_card.input_shape), "classes": len(model_card.classes)}
    with torch.random.fork_rng():
        model = make(model_card.factory, f"{path}: factory", **offered)
    # where they are absent, fit_weights_ says so
    mean, inverse_std = (state.get(name, torch.empty(0)) for name in ("mean", "inverse_std"))
    network = Normalised(model, mean, inverse_std, model_card.factory)
    _remove(network, model_card)
    _untie_(network, state)
    _resize(network, model_card.channels, state)
    fit_weights_(network, state, str(folder))
    _check_output(network, card, str(path))
    return network.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a safetensors file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: only .safetensors is read (other formats can run code); convert it first")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from None


def fit_weights_(model: nn.Module, state: Mapping[str, Tensor], field: str) -> None:
    """Load `state` into `model`, all of it or nothing. Of a tensor's several names one is enough.

    Raises:
        ValueError: names or shapes differ, or values by two names of one tensor; the message gives the first of each.
    """
    own, state = model.state_dict(), dict(state)
    for names, _ in _tied(model):
        given = [name for name in names if name in state]
        for name in names if given else ():
            if not torch.equal(state.setdefault(name, state[given[0]]), state[given[0]]):
                raise ValueError(
                    f"{field}: the checkpoint does not fit: {given[0]} and {name} differ, but are one here"
                )
    problems = [f"lacks {name}" for name in own if name not in state][:1]
    problems += [f"has {name}, which the model has not" for name in state if name not in own][:1]
    problems += [
        f"{name} is {tuple(state[name].shape)}, the model needs {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ][:1]
    if problems:
        raise ValueError(f"{field}: the checkpoint does not fit: {'; '.join(problems)}")
    model.load_state_dict(state)


def sizes_of(module: nn.Module) -> dict[str, int]:
    """What model.json records of a layer; nothing where pruning must not change it."""
    return {name: getattr(module, name) for name in SIZES.get(type(module), ())}


def _tied(model: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Each tensor of the state, with all its names."""
    found: dict[object, tuple[list[str], Tensor]] = {}
    for name, tensor in model.state_dict().items():
        # an empty tensor has no memory by which to know it
        key = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        found.setdefault(key, ([], tensor))[0].append(name)
    return list(found.values())


def _untie_(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a parameter that the file has by two names another place by the second: pruning parted them."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for names, _ in _tied(model):
        for name in [name for name in names if name in state and name in parameters][1:]:
            module, _, own = name.rpartition(".")
            setattr(model.get_submodule(module), own, nn.Parameter(parameters[name].detach().clone()))


def _remove(model: nn.Module, model_card: ModelCard) -> None:
    """Take the blocks and the heads out that the card says are gone."""
    for name in model_card.removed:
        # all of the model is no block of it
        if name in ("", "model") or name not in dict(model.named_modules()):
            raise ValueError(f"model.json: the table of removed blocks names '{name}', which is no block of the model")
        skip_(model, name)
    modules = dict(model.named_modules())
    for name, heads in model_card.heads.items():
        origin = modules.get(name)
        if not isinstance(origin, nn.MultiheadAttention) or not 1 <= heads <= origin.num_heads:
            raise ValueError(f"model.json: the table of heads does not fit the model at '{name}'")
        keep_heads_(model, name, range(heads))  # which ones is said by the weights


def _resize(model: nn.Module, channels: Mapping[str, Mapping[str, int]], state: Mapping[str, Tensor]) -> None:
    """Give every layer in the table its recorded sizes, its parameters empty in the shapes of `state`."""
    modules: dict[str, Any] = dict(model.named_modules())
    for name, sizes in channels.items():
        if name not in modules or set(sizes) != set(SIZES.get(type(modules[name]), ())):
            raise ValueError(f"model.json: the table of channels does not fit the model at '{name}'")
        if sizes_of(modules[name]) == dict(sizes):
            continue
        for attribute, size in sizes.items():
            setattr(modules[name], attribute, size)
        for key, tensor in [
            *modules[name].named_parameters(recurse=False),
            *modules[name].named_buffers(recurse=False),
        ]:
            shape = state[f"{name}.{key}"].shape if f"{name}.{key}" in state else tensor.shape
            tensor.data = torch.empty(shape, dtype=tensor.dtype)


def _check_output(model: nn.Module, card: Card, field: str) -> None:
    sample = torch.zeros(2, *card.input_shape)
    training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(sample)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{field}: cannot take inputs of shape {card.input_shape}: {reason}") from None
    finally:
        model.train(training)
    if not isinstance(logits, Tensor) or logits.shape != (2, len(card.classes)):
        got = (
            f"{logits.shape[-1]} outputs" if isinstance(logits, Tensor) and logits.ndim == 2 else type(logits).__name__
        )
        raise ValueError(f"{field}: gives {got}, the data has {len(card.classes)} classes; it must give one logit each")
