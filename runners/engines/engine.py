"""Engines: what turns a batch of rows into scores, on one thread, with nothing but the artefact's model file.

In: rows of shape (n, features), float32 or, where the card says so, float64; with texts among them, objects. Out: their
scores, see `runners.artefacts.scores`.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from configuration.settings import EngineChoice
from runners.artefacts.card import Card, CardError, FileKind
from runners.artefacts.integrity import DamagedFile, check_file
from runners.artefacts.scores import Scores, column_of, output_of
from runners.engines.prepared_texts import INPUT, GraphInputs
from runners.inputs.datatypes import BYTES
from runners.inputs.rows import Rows
from runners.inputs.schema import Schema

MAX_PADDED_CHARACTERS = 4_000_000
"""Length of texts scored together, each counted as long as the longest (see `TextEngine`): at most some 200 MB."""
CROSSOVER_SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Interrupted(BaseException):
    """A call was ended by `Engine.interrupt`. It is nobody's failure, so that nothing which handles those sees it."""


class Engine(Protocol):
    """Scores batches; may raise anything. Not required to be safe for two threads at once."""

    @property
    def name(self) -> str: ...

    def predict(self, rows: Rows) -> Scores: ...

    def interrupt(self, still: Callable[[], bool]) -> None:
        """End the call that is under way, from another thread, if that can be: it raises `Interrupted` soon.

        `still` says whether it is under way still; a call that has begun since is left alone.
        """
        ...


class OnnxEngine:
    """ONNX Runtime: some microseconds a call, so the better one for small batches."""

    name = EngineChoice.ONNXRUNTIME.value

    def __init__(self, path: Path, card: Card) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One thread a session and one worker a CPU; left alone it would count the host's cores.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._run = self._session.run
        self._new_options = onnxruntime.RunOptions
        self._options = self._new_options()
        self._outputs = [output_of(card.task)]
        self._column = column_of(card.task)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def predict(self, rows: Rows) -> Scores:
        return self.answer({INPUT: rows})

    def answer(self, inputs: dict[str, Rows]) -> Scores:
        """The scores of a batch, of which each input of the graph has a part of the columns."""
        # New ones for each call, which cost less than none: who ends a call cannot end the next one.
        options = self._options = self._new_options()
        try:
            scores: Scores = self._run(self._outputs, inputs, options)[0]
        except Exception:
            if options.terminate:
                raise Interrupted from None
            raise
        return scores if self._column is None else scores[:, self._column]

    def interrupt(self, still: Callable[[], bool]) -> None:
        """End the call between two nodes of the graph, or two rounds of a loop in it."""
        options = self._options
        if still():
            options.terminate = True


class XgboostEngine:
    """XGBoost itself: a fixed cost of some 200 us a call, and the faster one a row once batches are large."""

    name = EngineChoice.XGBOOST.value

    def __init__(self, path: Path) -> None:
        import xgboost

        self._booster = xgboost.Booster(params={"nthread": 1}, model_file=str(path))
        # The rows come without names; the card has the names, and the decoder has checked them.
        self._booster.feature_names = None
        self._booster.feature_types = None

    def predict(self, rows: Rows) -> Scores:
        scores: Scores = self._booster.inplace_predict(rows)
        return scores

    def interrupt(self, still: Callable[[], bool]) -> None:
        """Do nothing: no call can be ended; but trees have no loops."""


class Graph(Protocol):
    """What answers for the inputs of a graph."""

    @property
    def name(self) -> str: ...

    @property
    def metadata(self) -> dict[str, str]: ...

    def answer(self, inputs: dict[str, Rows]) -> Scores: ...

    def interrupt(self, still: Callable[[], bool]) -> None: ...


class TextEngine:
    """ONNX Runtime for texts, which are scored together only with others of about their length.

    Its tokenizer pads all texts of a batch to as many tokens as the longest has, 32 bytes each: a batch of 4,000 short
    texts with a single one of 100,000 characters would take gigabytes.
    """

    def __init__(self, engine: Graph, schema: Schema, max_padded_characters: int = MAX_PADDED_CHARACTERS) -> None:
        self.name = engine.name
        self._engine = engine
        self._inputs = GraphInputs.of(engine.metadata, schema)
        self._max_padded_characters = max_padded_characters

    def predict(self, rows: Rows) -> Scores:
        inputs, lengths = self._inputs.of_rows(rows)
        if len(rows) * max(lengths) <= self._max_padded_characters:
            return self._engine.answer(inputs)
        order = sorted(range(len(rows)), key=lengths.__getitem__)
        parts = self._parts([lengths[row] for row in order])
        scores = np.concatenate(
            [
                self._engine.answer({name: part[order[start:stop]] for name, part in inputs.items()})
                for start, stop in parts
            ]
        )
        unsorted = np.empty_like(scores)
        unsorted[order] = scores
        return unsorted

    def interrupt(self, still: Callable[[], bool]) -> None:
        self._engine.interrupt(still)

    def _parts(self, lengths: list[int]) -> list[tuple[int, int]]:
        """Where to cut texts whose lengths grow: as many at a time as their longest allows, at least one."""
        parts, start = [], 0
        for stop in range(1, len(lengths) + 1):
            if stop == len(lengths) or (stop + 1 - start) * lengths[stop] > self._max_padded_characters:
                parts.append((start, stop))
                start = stop
        return parts


class FasterEngine:
    """Two engines over the same trees; each batch goes to the one that was measured to be faster at its size."""

    def __init__(self, small: Engine, large: Engine, crossover_rows: int) -> None:
        self.small, self.large, self.crossover_rows = small, large, crossover_rows
        self.name = f"{small.name} below {crossover_rows} rows, {large.name} from there"

    def predict(self, rows: Rows) -> Scores:
        return (self.small if len(rows) < self.crossover_rows else self.large).predict(rows)

    def interrupt(self, still: Callable[[], bool]) -> None:
        for engine in (self.small, self.large):
            engine.interrupt(still)


def import_xgboost_alone() -> None:
    """Import xgboost without scikit-learn and pandas, which it loads wherever they are installed.

    Scoring needs neither, and they cost each worker 3 s and 110 MB. Only for processes that serve: xgboost's own
    scikit-learn classes are missing afterwards.
    """
    hidden = {name: None for name in ("sklearn", "pandas") if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None makes an import fail
    try:
        import xgboost  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]


def open_engine(folder: Path, card: Card, choice: EngineChoice) -> Engine:
    """Open the engine that `choice` asks for. Raises `CardError` when the artefact lacks its file or it is damaged."""
    if card.needs_python:
        raise CardError(
            f"{folder}: only a scoring server with Python can score its rows: run that, and give the version "
            "`placement: remote` with its address as `remote.url`"
        )
    openers: dict[FileKind, Callable[[Path], Engine]] = {
        FileKind.ONNX: lambda path: _open_onnx(path, card),
        FileKind.UBJ: XgboostEngine,
    }
    wanted = {EngineChoice.ONNXRUNTIME: [FileKind.ONNX], EngineChoice.XGBOOST: [FileKind.UBJ]}.get(
        choice, [kind for kind in FileKind if kind in card.files]
    )
    engines = [openers[kind](_checked_file(folder, card, kind)) for kind in wanted]
    if len(engines) == 1:
        return engines[0]
    small, large = engines
    return FasterEngine(small, large, find_crossover(small, large, likely_rows(card, CROSSOVER_SIZES[-1])))


def _open_onnx(path: Path, card: Card) -> Engine:
    engine, schema = OnnxEngine(path, card), card.row_format.schema
    return TextEngine(engine, schema) if schema.datatype == BYTES else engine


def example_rows(card: Card) -> Rows:
    """The card's examples, as a batch."""
    return card.row_format.batch(card.examples.rows)


def likely_rows(card: Card, count: int) -> Rows:
    """A batch of `count` rows whose values are each drawn from the examples; the same ones every time.

    How long trees take depends on the rows: the same few again and again teach the processor's branch predictor, which
    made ONNX Runtime look faster than XGBoost up to 4,096 rows where 128 is the truth.
    """
    examples = example_rows(card)
    drawn = np.random.default_rng(0).integers(0, len(examples), (count, examples.shape[1]))
    return np.take_along_axis(examples, drawn, axis=0)


def find_crossover(
    small: Engine,
    large: Engine,
    rows: Rows,
    sizes: tuple[int, ...] = CROSSOVER_SIZES,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The first of `sizes` at which `large` is faster (best of `repeats`, in turns); beyond the last if it never is.

    `rows` are at least as many as the last of `sizes`.
    """
    for size in sizes:
        batch = rows[:size]
        best = [float("inf"), float("inf")]
        for _ in range(repeats):
            for index, engine in enumerate((small, large)):
                started = clock()
                engine.predict(batch)
                best[index] = min(best[index], clock() - started)
        if best[1] < best[0]:
            return size
    return sizes[-1] + 1


def _checked_file(folder: Path, card: Card, kind: FileKind) -> Path:
    if kind not in card.files:
        raise CardError(f"{folder}: the artefact has no {kind.file_name}; choose another engine or import it again")
    try:
        return check_file(folder, kind, card)
    except DamagedFile as error:
        raise CardError(f"{error}; import the version again") from error
