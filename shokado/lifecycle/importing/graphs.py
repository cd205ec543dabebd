"""ONNX graphs as a server takes them: what their ends are called, and tools that change them in place."""

from typing import Any

INPUT = "input"
PROBABILITIES = "probabilities"
VALUE = "value"
OPSET = 15
IR = 8
"""The version of ONNX's own format that came with these operators."""
ML_OPSET = 1
"""The tree and scaler operators have not changed since, and every ONNX Runtime has it."""


def rename(body: Any, old: str, new: str) -> None:
    if old == new:
        return
    if any(new in (*node.input, *node.output) for node in body.node):
        rename(body, new, f"{new}_inner")
    for item in body.initializer:
        item.name = new if item.name == old else item.name
    for node in body.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def prune(body: Any, output: str) -> None:
    """Drop the nodes and constants that do not lead to the output."""
    needed, kept = {output}, []
    for node in reversed(body.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [item for item in body.initializer if item.name in needed]
    del body.node[:], body.initializer[:]
    body.node.extend(reversed(kept))
    body.initializer.extend(constants)
