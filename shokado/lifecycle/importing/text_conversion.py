"""Text models as numeric ones: each vectorizer becomes a block of columns, one for each of its terms.

    numbers --------------------------------.
    texts --(TermBlock: counts, weights)-----+--> columns of numbers --> the model without its vectorizers

A fitted model goes in; out come a copy that is given numbers and weights of terms, and the blocks in their order. What
makes numbers of texts otherwise is refused by name.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.fronts import positions
from shokado.lifecycle.importing.leaves import members_of, within
from shokado.lifecycle.importing.probing_rows import parts_of


@dataclass(frozen=True, eq=False)
class TermBlock:
    """The terms of a vectorizer, and their weights."""

    column: int
    """Which feature it is given, by its position."""
    vectorizer: CountVectorizer
    weights: TfidfTransformer | None

    @property
    def width(self) -> int:
        return int(max(self.vectorizer.vocabulary_.values())) + 1


@dataclass(frozen=True, eq=False)
class TextModel:
    """A model that is given numbers alone, of which the last ones are the terms of these blocks."""

    model: Any
    blocks: tuple[TermBlock, ...]
    numbers: tuple[int, ...]
    """Which features are no texts, by their positions: the first columns."""

    @property
    def terms(self) -> int:
        return sum(block.width for block in self.blocks)


def vectorizers_of(model: Any) -> Iterator[CountVectorizer]:
    """Every fitted vectorizer with a vocabulary (`CountVectorizer`, `TfidfVectorizer`) within a model."""
    return (part for part in parts_of(model) if isinstance(part, CountVectorizer))


def text_model(model: Any, features: Sequence[Feature]) -> TextModel:
    """The model as one of numbers and terms. Raises `UnsupportedModel` where it makes something else of texts."""
    rewriting = _Rewriting(features)
    model = copy.deepcopy(model)
    rewriting.change(model)
    text = TextModel(model, tuple(rewriting.blocks), tuple(rewriting.numbers))
    rewriting.choose(text.terms)
    return text


class _Rewriting:
    """Puts blocks of columns in the places of vectorizers."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.blocks: list[TermBlock] = []
        self.numbers = [at for at, feature in enumerate(features) if feature.type != "text"]
        self._features = features
        self._slots = {column: slot for slot, column in enumerate(self.numbers)}
        self._all = list(range(len(features)))
        self._chosen: list[tuple[Pipeline, list[int]]] = []

    def change(self, model: Any) -> None:
        """Change the pipelines of a model, in place."""
        inner = [part for part in (within(model), *members_of(model)) if part is not None]
        for part in inner:
            self.change(part)
        if isinstance(model, Pipeline):
            self._change_first(model)
        elif not inner:
            self._refuse(model, self._all)

    def _change_first(self, pipeline: Pipeline) -> None:
        (name, first), *rest = pipeline.steps
        if len(self._all) == 1 and not _takes_columns(first):
            pipeline.steps, slots = self._of_text(pipeline.steps, 0)
            self._chosen.append((pipeline, slots))
        elif not rest:
            self.change(first)
        else:
            pipeline.steps = [(name, self._of_columns(first)), *rest]
        if not pipeline.steps:
            raise UnsupportedModel("It ends with a vectorizer, and has no model behind it.")

    def choose(self, width: int) -> None:
        """Let pipelines that begin with terms take their own ones of so many."""
        for pipeline, slots in self._chosen:
            if len(slots) < width:
                pipeline.steps = [("terms", _beside([("terms", "passthrough", slots)])), *pipeline.steps]

    def _of_columns(self, step: Any) -> Any:
        """A transformer that is given all features, as one that is given numbers and terms."""
        if isinstance(step, Pipeline):
            step.steps = [(step.steps[0][0], self._of_columns(step.steps[0][1])), *step.steps[1:]]
        elif hasattr(step, "transformer_list"):
            step.transformer_list = [(name, self._of_columns(part)) for name, part in step.transformer_list]
        elif hasattr(step, "transformers_"):
            branches = [
                (name, *self._branch(part, columns, positions(step, columns, len(self._all))))
                for name, part, columns in step.transformers_
            ]
            step.transformers_ = _weighable(branches, step.transformer_weights)
            vars(step).pop("feature_names_in_", None)
        else:
            self._refuse(step, self._all)
        return step

    def _branch(self, part: Any, columns: Any, at: list[int]) -> tuple[Any, list[int]]:
        """A branch of a ColumnTransformer, and the columns that it is given."""
        texts = [column for column in at if self._features[column].type == "text"]
        if not texts or (isinstance(part, str) and part == "drop"):
            return part, [self._slots[column] for column in at if column in self._slots]
        if not isinstance(columns, str | int):
            self._refuse(part, texts)
        steps, slots = self._of_text([("text", part)], texts[0])
        return _chained(steps), slots

    def _of_text(self, steps: list[tuple[str, Any]], column: int) -> tuple[list[tuple[str, Any]], list[int]]:
        """Steps that are given a text, as those that are given its terms, and which columns these are."""
        (_, first), *rest = steps
        if isinstance(first, Pipeline):
            return self._of_text([*first.steps, *rest], column)
        if isinstance(first, CountVectorizer):
            _check(first)
            weights = getattr(first, "_tfidf", None)
            if weights is None and rest and isinstance(rest[0][1], TfidfTransformer):
                weights, rest = rest[0][1], rest[1:]
            start = len(self.numbers) + sum(block.width for block in self.blocks)
            self.blocks.append(TermBlock(column, first, weights))
            return rest, list(range(start, start + self.blocks[-1].width))
        if isinstance(first, FeatureUnion):
            union, slots = self._of_union(first, column)
            return [*union, *rest], slots
        return self._refuse(first, [column])

    def _of_union(self, union: FeatureUnion, column: int) -> tuple[list[tuple[str, Any]], list[int]]:
        """Branches of one text, as those of a ColumnTransformer of all their terms."""
        names = [name for name, _ in union.transformer_list]
        found = [self._of_text([("text", part)], column) for _, part in union.transformer_list]
        slots = [slot for _, own in found for slot in own]
        if not union.transformer_weights and not any(steps for steps, _ in found):
            return [], slots
        branches = [
            (name, _chained(steps), [slot - slots[0] for slot in own])
            for name, (steps, own) in zip(names, found, strict=True)
        ]
        return [("union", _beside(branches, union.transformer_weights))], slots

    def _refuse(self, part: Any, columns: Sequence[int]) -> NoReturn:
        texts = ", ".join(self._features[at].name for at in columns if self._features[at].type == "text")
        names = "None" if part is None else part if isinstance(part, str) else type(part).__name__
        if isinstance(part, HashingVectorizer):
            raise UnsupportedModel(
                f"It gives texts ({texts}) to a {names}, whose hashed columns have no conversion to ONNX: take a "
                "TfidfVectorizer or a CountVectorizer, which know their terms."
            )
        raise UnsupportedModel(
            f"It gives texts ({texts}) to {names}, which has no conversion to ONNX: a TfidfVectorizer or a "
            "CountVectorizer takes one column of texts, which a ColumnTransformer names by a single name, not a list."
        )


def _takes_columns(step: Any) -> bool:
    """Whether a step tells columns apart, and is given no bare texts."""
    if isinstance(step, Pipeline):
        return _takes_columns(step.steps[0][1])
    inner = [part for _, part in getattr(step, "transformer_list", ())]
    return hasattr(step, "transformers_") or any(map(_takes_columns, inner))


def _beside(branches: list[tuple[str, Any, list[int]]], weights: Any = None) -> ColumnTransformer:
    """A fitted ColumnTransformer of fitted branches."""
    beside = ColumnTransformer([], transformer_weights=weights)
    beside.transformers_ = _weighable(branches, weights)
    return beside


def _weighable(branches: list[tuple[str, Any, list[int]]], weights: Any) -> list[tuple[str, Any, list[int]]]:
    """The branches; skl2onnx forgets the weight of one that is passed through."""
    return [
        (
            name,
            FunctionTransformer() if isinstance(part, str) and part != "drop" and name in (weights or {}) else part,
            at,
        )
        for name, part, at in branches
    ]


def _chained(steps: list[tuple[str, Any]]) -> Any:
    if len(steps) < 2:
        return steps[0][1] if steps else "passthrough"
    return Pipeline(steps)


def _check(vectorizer: CountVectorizer) -> None:
    """Raise `UnsupportedModel` for Python code within a vectorizer."""
    given = {name: getattr(vectorizer, name) for name in ("preprocessor", "tokenizer")}
    given |= {name: value for name in ("analyzer", "strip_accents") if callable(value := getattr(vectorizer, name))}
    for name, value in given.items():
        if value is not None:
            raise UnsupportedModel(
                f"Its {type(vectorizer).__name__} has {name}={getattr(value, '__name__', value)!r}, which is Python "
                "code and has no conversion to ONNX: take the settings lowercase, strip_accents, token_pattern, "
                "analyzer, ngram_range and stop_words for it, or make another text of it before the model."
            )
