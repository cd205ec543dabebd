"""Comparison: a version and its parent go in, the receipt comes out: size, speed and agreement side by side.

Both are scored by the engine that serves them. What is not worth having, or differs too much, is said in sentences.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import CallTime, Card, QuantizationReceipt, Task
from runners.artefacts.scores import Scores, differences_of, disagreements, units_of
from runners.engines.engine import Engine, example_rows, likely_rows, open_engine
from shokado.lifecycle.errors import QuantizationRefused
from shokado.lifecycle.quantizing.calibration_rows import ReferenceRows
from shokado.lifecycle.quantizing.quantize_order import Limits

BATCHES = ((1, 300), (64, 200), (1000, 30))
"""Rows of a call, and how many calls are timed."""
GAIN = 1.01
"""How many times smaller or faster is something; less is the noise of a measurement."""
COMPANY_ROWS = 64
"""Rows that are scored beside one that is far out."""
FAR_OUT = 1000.0
"""How many times further than any example that one is: what a single client may send."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The receipt, and what the card needs beside it.

    Attributes:
        tolerance: the tolerance of `Limits` in the unit of the differences.
        tolerances: the same of each of several values, in its own unit; empty for other tasks.
        examples: the quantized version's own scores of the card's examples.
    """

    receipt: QuantizationReceipt
    tolerance: float
    tolerances: tuple[float, ...]
    examples: Scores


def compare(parent: Artefact, quantized: Artefact, rows: ReferenceRows, limits: Limits) -> Comparison:
    """Score and time both, in turns, on one thread. Raises `QuantizationRefused` where scores are not numbers."""
    old, new = (open_engine(one.folder, one.card, EngineChoice.ONNXRUNTIME) for one in (parent, quantized))
    card, compared = parent.card, rows.compared
    before, after = old.predict(compared), new.predict(compared)
    if not np.isfinite(after).all():
        raise QuantizationRefused(f"{quantized.tag} gives scores that are no numbers. Nothing was stored.")
    others, differences = disagreements(card, after, card, before)
    has_unit = card.task.has_probabilities or card.task is Task.MULTIOUTPUT
    unit = 1.0 if has_unit else float(before.std()) or 1.0
    examples = new.predict(example_rows(card))
    receipt = QuantizationReceipt(
        parent=parent.tag,
        parent_digest=parent.digest,
        size_bytes=quantized.card.size_bytes,
        parent_size_bytes=card.size_bytes,
        times=_times(old, new, likely_rows(card, BATCHES[-1][0])),
        rows=len(compared),
        rows_from=rows.origin,
        max_abs_difference=float(differences.max()),
        mean_abs_difference=float(differences.mean()),
        same_labels=None if card.task.is_of_values else 1 - others / len(compared),
        max_abs_difference_of_examples=float(
            differences_of(card, examples, np.array(card.examples.scores, np.float32)).max()
        ),
        max_abs_difference_in_company=_company(new, card, compared[:COMPANY_ROWS]),
    )
    units = units_of(card) if card.task is Task.MULTIOUTPUT else np.empty(0)
    return Comparison(receipt, limits.tolerance * unit, tuple((limits.tolerance * units).tolist()), examples)


def _times(
    old: Engine, new: Engine, rows: NDArray[np.float32], clock: Callable[[], float] = time.perf_counter
) -> tuple[CallTime, ...]:
    """The median time of a call, of both in turns, so that what else the machine does meets both."""
    times = []
    for size, calls in BATCHES:
        batch = rows[:size]
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(calls):
            for engine, seconds in zip((old, new), taken, strict=True):
                started = clock()
                engine.predict(batch)
                seconds.append(clock() - started)
        before, after = (float(np.median(seconds)) * 1e6 for seconds in taken)
        times.append(CallTime(rows=size, us=after, parent_us=before))
    return tuple(times)


def _company(engine: Engine, card: Card, rows: NDArray[np.float32]) -> float:
    """How far scores move when a row that is far out, in each column of numbers, joins the batch."""
    of_numbers = [feature.type in ("float", "integer") for feature in card.features]
    far_out = np.where(of_numbers, np.nan_to_num(np.abs(rows)).max(axis=0) * np.float32(FAR_OUT) + 1, rows[:1])
    together = engine.predict(np.vstack([rows, far_out]).astype(rows.dtype))[: len(rows)]
    return float(differences_of(card, together, engine.predict(rows)).max())


def objections(comparison: Comparison, limits: Limits, task: Task) -> list[str]:
    """Why the version should not be stored, a sentence each; empty: it may be."""
    receipt = comparison.receipt
    found = []
    if receipt.times_smaller < GAIN and receipt.times_faster < GAIN:
        found.append(
            f"It is neither smaller ({receipt.size_bytes:,} bytes, {receipt.parent_size_bytes:,} before) nor faster "
            f"({_shown(receipt.times)}): most of so small a network is not its weights."
        )
    said = f"{limits.tolerance:g}{'' if task.has_probabilities else ' standard deviations'}"
    # Asked this way round because what is not a number is never within any bound.
    if not receipt.max_abs_difference_in_company <= comparison.tolerance:
        found.append(
            "A row's scores depend on the rows that it is batched with, which are other clients': beside one that is "
            f"far out they move by up to {receipt.max_abs_difference_in_company:.3g}, {said} is allowed (--tolerance)."
        )
    if not receipt.mean_abs_difference <= comparison.tolerance:
        found.append(
            f"Its scores differ from the parent's by {receipt.mean_abs_difference:.3g} on average, {said} is allowed "
            "(--tolerance)."
        )
    if receipt.same_labels is not None and receipt.same_labels < limits.same_labels:
        found.append(
            f"{receipt.same_labels:.2%} of {receipt.rows:,} rows keep their label, {limits.same_labels:.2%} must "
            "(--same-labels)."
        )
    return found


def _shown(times: tuple[CallTime, ...]) -> str:
    return "; ".join(f"{time.us:,.1f} us for {time.rows:,} at once, {time.parent_us:,.1f} before" for time in times)
