"""Requests for predictions, each with how its answer is read; one function for each way to ask.

In: a `TargetModel`, and chance. Out: `Question`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from load_tests.traffic.answer import Answer, read_inferred, read_native, read_packed, read_single
from load_tests.traffic.target_model import TargetModel

JSON = {"Content-Type": "application/json"}
PACKED = "application/octet-stream"
NATIVE = "/v1/models/predict"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Question:
    """A request, and what is needed to read its answer."""

    name: str
    """The name that statistics show."""
    path: str
    body: bytes
    rows: int
    read: Callable[[TargetModel, int, Mapping[str, str], bytes], Answer]
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    unit: str | None = None
    """What the answer's version must stick to."""


def one_row(model: TargetModel, random: Random) -> Question:
    """One row, in one of the JSON dialects."""
    row = model.rows.draw(random)
    kind = random.randrange(3)
    if kind == 0:
        return Question("native", NATIVE, _encode({"instances": [row]}), 1, read_native)
    path = ("/predict", "/api/v1/ab/predictions")[kind - 1]
    return Question(path, path, _encode({"features": row}), 1, read_single)


def many_rows(model: TargetModel, random: Random, rows: int) -> Question:
    """A request of that many rows, as JSON or packed, both ways."""
    # Ten different ones at most: to draw them all would take longer than to send them.
    drawn = random.choices([model.rows.draw(random) for _ in range(min(rows, 10))], k=rows)
    if not model.rows.packed or random.random() < 0.5:
        return Question(f"native, {rows} rows", NATIVE, _encode({"instances": drawn}), rows, read_native)
    headers = {"Content-Type": f"{PACKED}; columns={len(model.features)}", "Accept": PACKED}
    return Question(f"packed, {rows} rows", NATIVE, b"".join(model.rows.binary(drawn)), rows, read_packed, headers)


def sticky_row(model: TargetModel, random: Random, unit: str) -> Question:
    """One row of a unit, which the body or the header names: both must come to the same."""
    body: dict[str, Any] = {"instances": [model.rows.draw(random)]}
    if random.random() < 0.5:
        return Question("sticky", NATIVE, _encode(body | {"unit": unit}), 1, read_native, unit=unit)
    headers = {**JSON, "X-Unit-ID": unit}
    return Question("sticky", NATIVE, _encode(body), 1, read_native, headers, unit)


def inference(model: TargetModel, random: Random) -> Question:
    """One to four rows by the Open Inference Protocol, as tensors in JSON or in binary, both ways."""
    rows = [model.rows.draw(random) for _ in range(random.randint(1, 4))]
    path = f"/v2/models/{model.name}/infer"
    tensors, binaries = model.rows.tensors(rows), model.rows.binary(rows)
    if random.random() < 0.5:
        return Question("v2, JSON", path, _encode({"inputs": tensors}), len(rows), read_inferred)
    for tensor, data in zip(tensors, binaries, strict=True):
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(data)}
    binary = b"".join(binaries)
    text = _encode({"inputs": tensors, "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": PACKED, "Inference-Header-Content-Length": str(len(text))}
    return Question("v2, binary", path, text + binary, len(rows), read_inferred, headers)


def feedback(model: TargetModel, answer: Answer, random: Random) -> bytes:
    """The body that tells what was right: what was predicted, but for one in ten another class, or twice the value.

    So the accuracy of every version is 0.9, whatever it is asked.
    """
    right = random.random() < 0.9
    label: Any
    if model.classes:
        given = answer.classes[0]
        first = given[0] if isinstance(given, list) else given
        other = random.choice([each for each in model.classes if each != first])
        wrong = [other, *given[1:]] if isinstance(given, list) else other
        label = given if right else wrong
    else:
        score = answer.scores[0]
        twice: Any = [2 * value for value in score] if isinstance(score, list) else 2 * score
        label = score if right else twice
    return _encode({"prediction_id": answer.prediction_id, "label": label})
