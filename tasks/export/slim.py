"""A smaller file for the same graph: what no runtime reads is dropped, what stands twice is merged, names are short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import onnx


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, changed in place: it computes the same bits; inputs and outputs keep their names."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    for field in ("value_info", "metadata_props", "doc_string"):
        model.graph.ClearField(field)
    for item in [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    # what a loop or a branch holds may read any name of the graph around it
    if not any(
        attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute
    ):
        _rename_(model.graph, _duplicates(model.graph))
        _rename_(model.graph, _short_names(model.graph))
    return model


def _duplicates(graph: onnx.GraphProto) -> dict[str, str]:
    """The first of all constants with the same content, by the name of each further one, which is removed."""
    first: dict[bytes, str] = {}
    merged: dict[str, str] = {}
    kept = []
    for item in graph.initializer:
        nameless = onnx.TensorProto()
        nameless.CopyFrom(item)
        nameless.ClearField("name")
        content = nameless.SerializeToString(deterministic=True)
        if content in first:
            merged[item.name] = first[content]
        else:
            first[content] = item.name
            kept.append(item)
    if merged:
        del graph.initializer[:]
        graph.initializer.extend(kept)
    return merged


def _short_names(graph: onnx.GraphProto) -> dict[str, str]:
    """One or two letters for every tensor that is neither input nor output; the names of nodes go."""
    fixed = {item.name for item in [*graph.input, *graph.output]}
    names = [item.name for item in graph.initializer]
    names += [name for node in graph.node for name in node.output if name]
    fresh = (name for name in _letters() if name not in fixed)
    for node in graph.node:
        node.ClearField("name")
    return {name: next(fresh) for name in dict.fromkeys(names) if name not in fixed}


def _letters() -> Iterator[str]:
    """a, b, ... z, A, ... Z, aa, ba, ..."""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for number in count():
        name = ""
        while True:
            number, place = divmod(number, len(alphabet))
            name += alphabet[place]
            if not number:
                break
            number -= 1
        yield name


def _rename_(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for item in graph.initializer:
        item.name = names.get(item.name, item.name)
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
