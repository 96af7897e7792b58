"""Branches and loops of an ONNX graph: nodes that hold graphs, which may read any name of the graph around them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that an If, Loop or Scan holds."""
    return [graph for item in node.attribute for graph in ([item.g] if item.HasField("g") else []) + list(item.graphs)]


def reads(node: onnx.NodeProto) -> list[str]:
    """Every tensor that the node needs: its inputs, and what its bodies take from around it."""
    return [name for name in (*node.input, *captured(node)) if name]


def captured(node: onnx.NodeProto) -> list[str]:
    """What the node's bodies take from around it, once each."""
    found: list[str] = []
    for body in bodies(node):
        own = {item.name for item in (*body.input, *body.initializer)}
        own |= {name for inner in body.node for name in inner.output}
        needed = [name for inner in body.node for name in reads(inner)] + [item.name for item in body.output]
        found += [name for name in needed if name not in own]
    return list(dict.fromkeys(found))


def everywhere(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, list[onnx.GraphProto]]]:
    """Each node, a node before those in its bodies, with the graphs that it lies in, innermost last."""
    for node in graph.node:
        yield node, [graph]
        for body in bodies(node):
            for inner, around in everywhere(body):
                yield inner, [graph, *around]
