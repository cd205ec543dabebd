"""Conversion: a trained model goes in, what describes it and the files that a server loads come out.

Every `model.onnx` keeps one contract, whatever it was converted from: one input `input`, float32 [N, features], float64
where a feature needs it, and for texts inputs of strings, see `term_graphs`; one output of float32, `probabilities`
[N, classes], `value` [N, 1] for regression, [N, outputs] for several values, or `margins` [N, classes], of two classes
[N, 1]; of several labels `probabilities` or `margins` [N, labels]; N is dynamic.
An XGBoost model of trees gives a `model.ubj` as well, without feature names, so that a Booster takes bare arrays; but
for one with a number that means a missing value (`missing=-999`), which only the graph can tell.
"""

import copy
import dataclasses
import re
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pandas as pd
from onnx import ModelProto, TensorProto, helper
from pydantic import BaseModel, ConfigDict, ValidationError
from skl2onnx import to_onnx
from skl2onnx.common import data_types as sklearn_types
from sklearn.base import is_classifier, is_regressor
from sklearn.pipeline import Pipeline

from runners.artefacts.card import ABOVE_HALF, FileKind, OwnOutput, Task
from runners.artefacts.scores import output_of
from runners.inputs.formats import row_format_of
from runners.inputs.precision import FLOAT64
from runners.inputs.rows import RowFormat, Rows
from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import booster_graphs, boosters, composites, decisions, multilabel
from shokado.lifecycle.importing.boosted_steps import boosted_steps
from shokado.lifecycle.importing.dense_models import dense
from shokado.lifecycle.importing.double_graphs import (
    double_nodes,
    feed_with_doubles,
    round_columns,
    settle,
    takes_doubles,
)
from shokado.lifecycle.importing.float32_bounds import Digits, are_decimals, decimals_of
from shokado.lifecycle.importing.forests import average
from shokado.lifecycle.importing.graphs import (
    INPUT,
    ML_OPSET,
    OPSET,
    WIDE_ML_OPSET,
    prune,
    rename,
    widen,
)
from shokado.lifecycle.importing.histogram_trees import exact_nodes
from shokado.lifecycle.importing.label_rules import (
    class_labels,
    classes_of_labels,
    positive_from,
    predicts,
    without_threshold,
)
from shokado.lifecycle.importing.leaves import VOTES, leaves_of, within
from shokado.lifecycle.importing.level_texts import ANY_TEXT
from shokado.lifecycle.importing.onnx_models import OnnxModel, without_signature
from shokado.lifecycle.importing.outputs import output_names, outputs_of, own_labels_of
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.precisions import large_integers, makes_float32
from shokado.lifecycle.importing.probing_rows import parts_of
from shokado.lifecycle.importing.recoding import by_position, knows_objects, levels_of, unused
from shokado.lifecycle.importing.registry import FLAVORS, LoadedModel
from shokado.lifecycle.importing.scaled_trees import scaler_of, unscale
from shokado.lifecycle.importing.signature_columns import FEATURE_TYPES, name_of, type_of
from shokado.lifecycle.importing.statsmodels_results import FittedLine
from shokado.lifecycle.importing.term_graphs import behind_texts
from shokado.lifecycle.importing.text_conversion import TextModel, text_model, vectorizers_of
from shokado.lifecycle.importing.tree_ensembles import graph_of
from shokado.lifecycle.importing.typed_features import optional_columns, typed_features


class ModelDescription(BaseModel):
    """What the card says about a model before it is converted; training logs the same fields as metadata."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    features: tuple[Feature, ...]
    classes: tuple[int | str, ...] = ()
    outputs: tuple[str, ...] = ()
    dataset: str | None = None
    positive_from: float = ABOVE_HALF
    predicts: Literal["labels", "label_lists", "scores", "probabilities", "records", "columns", "array"] = "labels"
    own_classes: tuple[bool | int | float | str, ...] = ()
    own_outputs: dict[str, OwnOutput] = {}
    narrow: tuple[bool, ...] = ()
    """Which columns the signature calls float32; empty where it does not say."""
    decimal: tuple[bool, ...] = ()
    """Which columns have numbers of few digits in the input example; empty where that makes no difference."""
    terms: int = 0
    """How many features, the last ones, are made of texts."""

    @property
    def digits(self) -> Digits:
        decimal = np.array(self.decimal or [False] * len(self.features))
        return Digits(np.array(self.exact), decimal, self.given)

    def as_given(self, rows: Any) -> Any:
        """Rows of float64 as clients may have them: where numbers have few digits, with those."""
        return np.where(self.digits.decimal, decimals_of(rows), rows) if any(self.decimal) else rows

    def as_served(self, rows: Rows) -> Rows:
        """Rows as a server packs them: float32 or float64, or texts."""
        return rows.astype(self.row_format.dtype)

    @property
    def exact(self) -> tuple[bool, ...]:
        """Which columns have numbers that rows hold as they come: of float32 its own, and whole ones up to 2^24."""
        narrow = self.narrow or (False,) * len(self.features)
        return tuple(
            self.is_wide or is_narrow or feature.type != "float"
            for is_narrow, feature in zip(narrow, self.features, strict=True)
        )

    @property
    def is_wide(self) -> bool:
        """Whether rows are float64."""
        return any(feature.precision == FLOAT64.name for feature in self.features)

    def widened(self, *, wholly: bool = False) -> "ModelDescription":
        """The same with rows of float64. Columns that the signature calls float32 need no more; `wholly`: those too."""
        narrow = (False,) * len(self.features) if wholly or not self.narrow else self.narrow
        features = tuple(
            feature.model_copy(update={"precision": FLOAT64.name})
            if feature.type in ("float", "integer") and not is_narrow
            else feature
            for is_narrow, feature in zip(narrow, self.features, strict=True)
        )
        return self.model_copy(update={"features": features, "decimal": ()})

    @property
    def given(self) -> type[np.float32 | np.float64]:
        """What the framework is given rows as: of columns of float32 alone scikit-learn makes no float64."""
        return np.float32 if self.narrow and all(self.narrow) else np.float64

    @property
    def row_format(self) -> RowFormat:
        return row_format_of(self.features)

    @property
    def has_texts(self) -> bool:
        return any(feature.type == "text" for feature in self.features)

    def without_texts(self) -> "ModelDescription":
        """The same with a number in the place of each text."""
        features = [Feature(name=feature.name) if feature.type == "text" else feature for feature in self.features]
        return self.model_copy(update={"features": tuple(features)})

    def over_terms(self, text: TextModel) -> "ModelDescription":
        """The same of a model that is given numbers and terms."""
        terms = tuple(Feature(name=f"term {at}") for at in range(text.terms))
        changes: dict[str, Any] = {"features": tuple(self.features[at] for at in text.numbers) + terms}
        changes["terms"] = text.terms
        # What the graph makes of texts are numbers of float32.
        for name, of_terms in (("narrow", True), ("decimal", False)):
            given = getattr(self, name) or (False,) * len(self.features)
            changes[name] = tuple(given[at] for at in text.numbers) + (of_terms,) * text.terms
        return self.model_copy(update=changes)


@dataclass(frozen=True)
class Input:
    """The input of numbers of an ONNX file: how many columns it has."""

    columns: int
    exact: tuple[bool, ...] = ()
    given: type[np.float32 | np.float64] = np.float64
    is_wide: bool = False
    narrow: tuple[bool, ...] = ()
    """`exact`, `given`, `is_wide` and `narrow` are those of `ModelDescription`."""

    @classmethod
    def of(cls, description: ModelDescription) -> "Input":
        return cls(
            len(description.features),
            description.exact,
            description.given,
            description.is_wide,
            description.narrow,
        )

    @property
    def kind(self) -> TensorProto.DataType:
        """The type of its elements."""
        return TensorProto.DOUBLE if self.is_wide else TensorProto.FLOAT


@dataclass(frozen=True)
class Output:
    """The one output of an ONNX file: its name, and how many columns it has."""

    name: str
    columns: int

    @classmethod
    def of(cls, description: ModelDescription) -> "Output":
        has_one = description.task.has_threshold and not description.task.has_probabilities
        columns = description.outputs or (() if has_one else description.classes)
        return cls(output_of(description.task), len(columns) or 1)


def describe(source: LoadedModel) -> ModelDescription:
    """Task, features and classes: from the metadata that training logged, else from the signature and the model.

    Raises `UnsupportedModel` where they contradict the model, or the model takes or gives what rows of floats cannot.
    """
    width = _width(source.model)
    if reason := why_not(source):
        raise UnsupportedModel(f"{source.uri} cannot be served: {reason}.")
    outputs = outputs_of(source, width)
    task, classes = _task_and_classes(source.model, outputs)
    rules = _rules(source, task, width)
    if task.has_outputs:
        rules["outputs"] = output_names(source, outputs)
    if not source.metadata:
        features = _features(source, width)
        if makes_float32(source.model):
            large = large_integers(source, features)
            features = tuple(_of_float32(feature, large) for feature in features)
        return ModelDescription(
            task=task,
            features=features,
            classes=classes,
            narrow=_narrow(source, features),
            decimal=_decimal(source, features),
            **rules,
        )
    try:
        description = ModelDescription.model_validate(source.metadata)
    except ValidationError as error:
        raise UnsupportedModel(f"The metadata `shokado` of {source.uri} cannot be read: {error}") from error
    declared = (description.task, len(description.classes), len(description.features))
    if declared != (task, len(classes), width):
        raise UnsupportedModel(
            f"The metadata `shokado` of {source.uri} says {declared} (task, classes, features), the model is "
            f"{(task, len(classes), width)}."
        )
    _check_names(source, [feature.name for feature in description.features])
    return description.model_copy(update=rules | {"narrow": _narrow(source, description.features)})


def _of_float32(feature: Feature, large: Container[str]) -> Feature:
    """Whole numbers that the framework itself rounds are numbers like any other."""
    return feature.model_copy(update={"type": "float"}) if feature.name in large else feature


def candidates(source: LoadedModel, description: ModelDescription, *, wide: bool = False) -> list[ModelDescription]:
    """The description with rows of float32, and of float64 where those may help, in the order in which to try them.

    `wide`: float64 in any case. Raises `UnsupportedModel` where there are no numbers.
    """
    own = own_model(source.model)
    if isinstance(source.model, OnnxModel) and source.model.takes_doubles and not wide:
        # The file itself says that it needs them.
        return [description.widened()]
    if own is not None and own.compares_doubles:
        if wide:
            raise UnsupportedModel(f"{source.uri} is of LightGBM, whose trees are converted for rows of float32 alone.")
        return [description]
    if wide:
        widened = description.widened(wholly=True)
        if not widened.is_wide:
            raise UnsupportedModel(f"{source.uri} takes no numbers that float64 could hold.")
        return [widened]
    widened = description.widened()
    if not widened.is_wide or description.dataset is not None or makes_float32(source.model):
        return [description]
    return [widened, description] if large_integers(source, description.features) else [description, widened]


def described_as(source: LoadedModel, features: tuple[Feature, ...]) -> ModelDescription | None:
    """The description by which the model was imported with these features; None where it has none of the kind."""
    described = describe(source)
    found = candidates(source, described)
    with suppress(UnsupportedModel):
        found += candidates(source, described, wide=True)
    return next((one for one in found if one.features == features), None)


def _rules(source: LoadedModel, task: Task, width: int) -> dict[str, Any]:
    """What a classifier makes of its scores, and how an ONNX file answers."""
    model = source.model
    rules: dict[str, Any] = _answers_of_onnx(source) if isinstance(model, OnnxModel) else {}
    inputs = source.signature.inputs if source.signature is not None else None
    if isinstance(model, FittedLine) and inputs is not None and not inputs.is_tensor_spec():
        # Of a frame statsmodels answers with a column without a name, of which MLflow's server makes records.
        rules = {"predicts": "records", "own_outputs": {"0": "values"}}
    if task.is_of_values:
        return rules
    own = own_labels_of(source, width, classes_of_labels(model)) if task.has_labels else _own_classes(model)
    if not task.has_probabilities:
        return rules | {"own_classes": own, "positive_from": decisions.positive_from(model)}
    given = "probabilities" if source.predict_method == "predict_proba" else predicts(model)
    if given == "probabilities" and task.has_labels and multilabel.gives_lists(model):
        raise UnsupportedModel(
            f"It is logged with pyfunc_predict_fn='predict_proba', where a {type(model).__name__} of several labels "
            "gives a list of tables: log it without."
        )
    rules = {"predicts": given, "own_classes": own} | rules
    return rules | ({"positive_from": positive_from(model)} if task.has_threshold else {})


def _answers_of_onnx(source: LoadedModel) -> dict[str, Any]:
    """How MLflow's own server answers for an ONNX file, which it gives a DataFrame or an array by the signature.

    Of a DataFrame it cannot make records where labels and rows of probabilities have different lengths, and fails, as
    it does where a file has several inputs of a column, [N, 1], for which it gives columns of a DataFrame as [N]. Of
    what a network of PyTorch or Keras gives it makes a DataFrame or an array again, whose columns are
    numbered.
    """
    if source.flavor not in FLAVORS:  # MLflow has no server for it
        return {}
    if source.signature is None:
        raise UnsupportedModel(without_signature(source.uri))
    outputs = source.model.outputs
    if source.model.answers is not None:
        kinds = outputs if source.signature.inputs.is_tensor_spec() else dict.fromkeys(outputs, "numbered")
        return {"predicts": "array", "own_outputs": kinds}
    if source.signature.inputs.is_tensor_spec():
        return {"predicts": "columns", "own_outputs": outputs}
    if len(source.model.inputs) > 1 and not all(each.is_flat and not each.levels for each in source.model.inputs):
        return {}
    if {"labels", "probabilities"} <= set(outputs.values()):
        return {}
    return {"predicts": "records", "own_outputs": outputs}


def _task_and_classes(model: Any, outputs: int) -> tuple[Task, tuple[int | str, ...]]:
    if boosters.is_xgboost(model):
        return boosters.task_of(model), class_labels(boosters.classes_of(model))
    if isinstance(model, OnnxModel):
        return model.task, class_labels(getattr(model, "classes_", ()))
    if (own := own_model(model)) is not None and own.task.is_of_values:
        return own.task, ()
    if own is not None and (own.task.has_labels or not hasattr(model, "classes_")):
        return own.task, class_labels(own.classes)
    if is_classifier(model) and (outputs > 1 or multilabel.has_labels(model)):
        return _task_of_labels(model, outputs)
    decided = decisions.task_of(model)
    if decided is not None or (is_classifier(model) and hasattr(model, "predict_proba")):
        classes = class_labels(decisions.classes_of(model) if decided is not None else model.classes_)
        if len(set(classes)) < 2:
            raise UnsupportedModel(
                f"{type(model).__name__} knows {len(classes)} class, so there is nothing to predict."
            )
        return decided or (Task.BINARY if len(classes) == 2 else Task.MULTICLASS), classes
    if is_regressor(model):
        return (Task.MULTIOUTPUT if outputs > 1 else Task.REGRESSION), ()
    raise UnsupportedModel(
        f"{type(model).__name__} is neither a regressor nor a classifier with probabilities or a decision function, so "
        "it cannot be served."
    )


def _task_of_labels(model: Any, outputs: int) -> tuple[Task, tuple[int | str, ...]]:
    if not multilabel.has_labels(model):
        raise UnsupportedModel(f"It gives {outputs} labels a row: take OneVsRestClassifier or MultiOutputClassifier.")
    if outputs == 1:
        raise UnsupportedModel("It gives a list of one label a row: train it on a flat array of labels.")
    return multilabel.task_of(model), class_labels(multilabel.classes_of(model))


def _own_classes(model: Any) -> tuple[bool | int | float | str, ...]:
    """Labels as MLflow puts them into JSON; empty for a Booster that gives none."""
    if boosters.is_xgboost(model):
        labels = boosters.classes_of(model) if boosters.gives_labels(model) else ()
    else:
        labels = getattr(model, "classes_", ())
    plain = np.asarray(labels).tolist()
    return tuple(label if isinstance(label, (bool, int, float, str)) else str(label) for label in plain)


def why_not(source: LoadedModel) -> str | None:
    """What of a model would be lost on the way, or None.

    What it was constructed with and `predict` uses must be in its files: conversions take trees and weights, and leave
    out the rest without a word.
    """
    model = source.model
    if (own := own_model(model)) is not None:
        return own.why_not()
    if boosters.is_xgboost(model):
        return boosters.why_not(model, source.parameters)
    within_it = (leaf.model for leaf in leaves_of(model) if boosters.is_xgboost(leaf.model))
    return next((reason for part in within_it if (reason := boosters.why_not(part, {}))), None)


def _width(model: Any) -> int:
    if (own := own_model(model)) is not None:
        return own.width
    if not boosters.is_xgboost(model) and not hasattr(model, "n_features_in_"):
        return 1  # a text, which scikit-learn does not count
    # A vote that begins with CatBoost says 0.
    return int(model.num_features() if hasattr(model, "num_features") else model.n_features_in_) or len(
        trained_names(model)
    )


_UNKNOWN_TYPE = re.compile(r"for type '<class '[\w.]*?(\w+)'>'")
"""How skl2onnx names what it does not convert."""
_INSTEAD_OF_DATES = " Make numbers of dates and times before the model takes them, such as days since a date."


def _features(source: LoadedModel, width: int) -> tuple[Feature, ...]:
    """Names and types out of the signature; `f0`, `f1`, .. for a model that was logged without names."""
    own = own_model(source.model)
    inputs = source.signature.inputs if source.signature is not None else None
    if inputs is None or inputs.is_tensor_spec():
        return _unsigned_features(source, width)
    columns = _signed(source, inputs)
    if "" in columns:
        raise UnsupportedModel(
            f"A column in the signature of {source.uri} has an empty name, by which no row could say it: "
            "name it before the training."
        )
    odd = [f"{name} ({kind})" for name, kind in columns.items() if kind not in FEATURE_TYPES]
    if odd or len(columns) != width:
        raise UnsupportedModel(
            f"The signature of {source.uri} has {len(columns)} columns for {width} features"
            + (f"; these are neither numbers nor text: {', '.join(odd)}." if odd else _lacking(source, columns))
            + _INSTEAD_OF_DATES * ("datetime" in columns.values())
        )
    _check_names(source, sorted(columns), in_order=False)
    order = _in_trained_order(source.model, tuple(columns))
    if own is not None:
        may_lack = optional_columns(source)
        features = [_feature(name, columns[name], {}) for name in order]
        features = [feature.model_copy(update={"nullable": feature.name in may_lack}) for feature in features]
        return own.features(features, source.example)
    levels = levels_of(source.model, order) | dict.fromkeys(unused(source.model, order), ANY_TEXT)
    features = [_feature(name, columns[name], levels) for name in order]
    if isinstance(source.model, OnnxModel):
        source.model.check(features)
    texts = [f"{name} (string)" for name, kind in columns.items() if kind == "string" and name not in levels]
    if texts and len(columns) > 1 and not any(vectorizers_of(source.model)):
        raise UnsupportedModel(
            f"The signature of {source.uri} has {', '.join(texts)} beside other columns, which no encoder of the model "
            "takes, and no vectorizer: a TfidfVectorizer in its ColumnTransformer takes a column of texts."
        )
    return typed_features(source, features)


def _unsigned_features(source: LoadedModel, width: int) -> tuple[Feature, ...]:
    """The same of a model whose signature has no columns."""
    model, own = source.model, own_model(source.model)
    if width > 1 and any(vectorizers_of(model)):
        raise UnsupportedModel(
            f"{source.uri} has no signature that says which of its {width} columns are texts: log it with "
            "signature=mlflow.models.infer_signature(frame)."
        )
    if any(vectorizers_of(model)):
        return (Feature(name=next(iter(trained_names(model)), "text"), type="text"),)
    names = trained_names(model) or [f"f{index}" for index in range(width)]
    if isinstance(model, OnnxModel):
        return typed_features(source, model.features(names))
    if own is None and not boosters.is_xgboost(model) and knows_objects(model, width):
        raise UnsupportedModel(
            f"{source.uri} has no signature that says which of its {width} columns are texts or truth values: log it "
            "with signature=mlflow.models.infer_signature(frame)."
        )
    plain = tuple(Feature(name=name) for name in names)
    return plain if own is None else own.features(plain, source.example)


def _signed(source: LoadedModel, inputs: Any) -> dict[str, str]:
    """MLflow's word for what each column has, by name."""
    columns = {name_of(column): type_of(column) for column in inputs.inputs}
    if own_model(source.model) is not None or "datetime" not in columns.values():
        return columns
    # What the model drops is nothing to it, so that it may as well be a text.
    dropped = unused(source.model, trained_names(source.model) or tuple(columns))
    return columns | {name: "string" for name in dropped if columns.get(name) == "datetime"}


def _lacking(source: LoadedModel, said: Container[str]) -> str:
    """The end of a sentence: what columns of its training a model's signature leaves out, if they have names."""
    lacking = [name for name in trained_names(source.model) if name not in said]
    if not lacking:
        return "."
    return (
        f"; it lacks {', '.join(lacking)}. Log it with all columns of its training, or train it without those that it "
        "drops."
    )


def _feature(name: str, kind: str, levels: Mapping[str, tuple[str, ...]]) -> Feature:
    if kind == "string" and name in levels:
        return Feature(name=name, type="category", levels=levels[name])
    return Feature(name=name, type=FEATURE_TYPES[kind])


def _narrow(source: LoadedModel, features: tuple[Feature, ...]) -> tuple[bool, ...]:
    """Which columns the signature calls float32."""
    inputs = source.signature.inputs if source.signature is not None else None
    if inputs is None:
        return ()
    if inputs.is_tensor_spec():
        return (inputs.inputs[0].type == np.float32,) * len(features)
    kinds = {name_of(column): type_of(column) for column in inputs.inputs}
    return tuple(kinds.get(feature.name) == "float" for feature in features)


def _decimal(source: LoadedModel, features: tuple[Feature, ...]) -> tuple[bool, ...]:
    """Which columns have numbers of few digits in the input example."""
    example, names = source.example, [feature.name for feature in features]
    is_frame = isinstance(example, pd.DataFrame) and set(names) <= set(example.columns)
    if not is_frame or not composites.compares_digits(source.model, features):
        return ()
    return tuple(
        feature.type == "float" and are_decimals(example[feature.name].to_numpy(dtype=np.float64))
        for feature in features
    )


def trained_names(model: Any) -> tuple[str, ...]:
    """The columns' names that the model was trained with, in the order that it takes them in; empty: bare arrays."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    if (own := own_model(model)) is not None:
        return own.names
    names = booster.feature_names if boosters.is_xgboost(model) else getattr(model, "feature_names_in_", None)
    found = tuple(map(str, names if names is not None else ()))
    # What LightGBM, where a pipeline begins with it, calls columns without names.
    return () if found and found == tuple(f"Column_{index}" for index in range(len(found))) else found


def _in_trained_order(model: Any, said: tuple[str, ...]) -> tuple[str, ...]:
    """The columns' names as the signature has them, in the order that the model takes them in."""
    by_trained = {_trained_name(model, name): name for name in said}
    return tuple(by_trained[name] for name in trained_names(model)) or said


def _trained_name(model: Any, name: str) -> str:
    """What a model calls a column of this name: LightGBM has no spaces in them."""
    trained = trained_names(model)
    return name if name in trained else next((known for known in trained if known == name.replace(" ", "_")), name)


def _check_names(source: LoadedModel, said: list[str], *, in_order: bool = True) -> None:
    """Raise `UnsupportedModel` where the names that the address says are not those the model was trained with."""
    trained = trained_names(source.model)
    spelt = [_trained_name(source.model, name) for name in said]
    if trained and (spelt if in_order else sorted(spelt)) != (list(trained) if in_order else sorted(trained)):
        raise UnsupportedModel(
            f"{source.uri} says that its columns are {', '.join(said)}, and the model was trained on "
            f"{', '.join(trained)}. Log it again with the signature of its training data."
        )


def convert(model: Any, description: ModelDescription, folder: Path) -> tuple[FileKind, ...]:
    """Write the model's files into the folder and say which. Raises `UnsupportedModel` if there is no conversion."""
    text = _text_model(model, description)
    if text is None:
        graph, booster = _graph(model, description)
    else:
        description = description.over_terms(text)
        graph, booster = _graph(text.model, description)
        graph = behind_texts(graph, text, Input.of(description).kind)
    (folder / FileKind.ONNX.file_name).write_bytes(graph.SerializeToString(deterministic=True))
    if booster is None:
        return (FileKind.ONNX,)
    booster.save_model(folder / FileKind.UBJ.file_name)
    return FileKind.ONNX, FileKind.UBJ


def _text_model(model: Any, description: ModelDescription) -> TextModel | None:
    if not description.has_texts:
        return None
    if boosters.is_xgboost(model) or isinstance(model, OnnxModel) or own_model(model) is not None:
        raise UnsupportedModel(f"{type(model).__name__} takes numbers only, its model's signature says text.")
    return text_model(model, description.features)


def _graph(model: Any, description: ModelDescription) -> tuple[ModelProto, Any]:
    """The graph of a model that is given numbers, and XGBoost's own Booster where it is stored as well."""
    taken = Input.of(description)
    booster, model = None, _without_search(model)
    try:
        if (own := own_model(model)) is not None:
            ensemble, is_pair = own.ensemble(description.features), description.task is Task.BINARY
            graph = graph_of(ensemble, taken.columns, taken.exact, is_pair=is_pair)
        elif not (boosters.is_xgboost(model) or isinstance(model, OnnxModel)):
            graph = _onnx_of_sklearn(model, description, taken)
            decisions.finish(graph, model)
        elif isinstance(model, OnnxModel):
            graph = model.contracted(is_wide=taken.is_wide)
        else:
            graph, booster = booster_graphs.convert(model, taken.columns)
    except UnsupportedModel:
        raise
    except Exception as error:  # the converters raise whatever they stumble over
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if unknown := _UNKNOWN_TYPE.search(str(error)):
            raise UnsupportedModel(f"Its {unknown[1]} has no conversion to ONNX: take another step.") from error
        raise UnsupportedModel(f"{type(model).__name__} has no conversion to ONNX: {reason}") from error
    _normalise(graph, taken, Output.of(description), is_settled=isinstance(model, OnnxModel))
    return graph, booster


def _without_search(model: Any) -> Any:
    """The model, or XGBoost's own that a search or a threshold holds and that can be served as one."""
    inner = model
    while (next_one := within(inner)) is not None:
        inner = next_one
    return inner if boosters.is_xgboost(inner) else model


def is_composed(model: Any, description: ModelDescription) -> bool:
    """Whether a model of scikit-learn is converted leaf by leaf, and not by skl2onnx as it is."""
    is_other = boosters.is_xgboost(model) or isinstance(model, OnnxModel) or own_model(model) is not None
    if is_other or description.has_texts:
        return False
    is_plain = composites.is_plain(model, description.features, is_wide=description.is_wide)
    return any(description.decimal) or not is_plain


def _onnx_of_sklearn(model: Any, description: ModelDescription, taken: Input) -> ModelProto:
    model = decisions.as_values(multilabel.as_values(model))
    if is_composed(model, description):

        def plain(part: Any, columns: int, is_decision: bool) -> ModelProto:
            given = Input(columns, taken.exact if columns == taken.columns else (), taken.given)
            return _plain_onnx_of_sklearn(part, given, is_decision=is_decision)

        def whole(part: Any) -> ModelProto:
            return _plain_onnx_of_sklearn(part, taken)

        return composites.compose(model, description.features, description.digits, plain, whole, description.terms)
    model = _as_voters(without_threshold(model))
    if any(hasattr(part, "transformers_") for part in parts_of(model)):
        model = by_position(model)
    if taken.is_wide and makes_float32(model):
        return _plain_onnx_of_sklearn(model, dataclasses.replace(taken, is_wide=False))
    if (scaler := scaler_of(model)) is not None:
        graph = _plain_onnx_of_sklearn(model[-1], taken)
        rows = np.float64 if taken.is_wide else np.float32
        if unscale(graph, scaler, model[-1], taken.exact, taken.given, rows):
            return graph
    return _plain_onnx_of_sklearn(model, taken)


def _as_voters(model: Any) -> Any:
    """The model with a vote as skl2onnx takes it: its weights in an array, of those that vote, and flat no more."""
    if isinstance(model, Pipeline):
        return Pipeline([*model.steps[:-1], (model.steps[-1][0], _as_voters(model[-1]))])
    if not isinstance(model, VOTES):
        return model
    changed = copy.copy(model)
    changed.flatten_transform = False
    if model.weights is not None:
        changed.weights = np.asarray(model._weights_not_none)
    return changed


def _plain_onnx_of_sklearn(model: Any, taken: Input, *, is_decision: bool = False) -> ModelProto:
    model = dense(model)
    options: dict[int, Any] = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else {}
    if is_decision:
        last = model[-1] if isinstance(model, Pipeline) else model
        for part in (model, last):
            options[id(part)] = {"raw_scores": True} | ({"zipmap": False} if hasattr(part, "predict_proba") else {})
    kind = sklearn_types.DoubleTensorType if taken.is_wide else sklearn_types.FloatTensorType
    # Behind another step a column is another, or is none of those that come.
    is_first = not any(hasattr(part, "steps") or hasattr(part, "transformers_") for part in parts_of(model))
    exact_steps = taken.exact if is_first else all(taken.exact)
    exact_histograms = double_nodes() if taken.is_wide else exact_nodes(taken.exact if is_first else ())
    with exact_histograms, boosted_steps(exact_steps):
        graph: ModelProto = to_onnx(
            model,
            initial_types=[(INPUT, kind([None, taken.columns]))],
            target_opset={"": OPSET, "ai.onnx.ml": WIDE_ML_OPSET if taken.is_wide else ML_OPSET},
            options=options,
        )
    for item in graph.graph.input:
        rename(graph.graph, item.name, INPUT)
        item.name = INPUT
    average(graph, model)
    return graph


_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)


def _normalise(graph: ModelProto, taken: Input, output: Output, *, is_settled: bool) -> None:
    """Bring the graph under the contract, in place: one output of the agreed name, and nothing that it does not need.

    `is_settled`: whether types of numbers fit each other within it.

    Without the label's branch a net loses a quarter of its nodes, each of which costs every request a few us.
    """
    body = graph.graph
    floats = [item.name for item in body.output if item.type.tensor_type.elem_type in _FLOATS]
    if [item.name for item in body.input] != [INPUT] or len(floats) != 1:
        raise UnsupportedModel(f"Its ONNX graph has {len(floats)} outputs of floats where one is expected.")
    if output.columns > 1:
        widen(body, floats[0], output.columns)
    rename(body, floats[0], output.name)
    prune(body, output.name)
    if takes_doubles(graph):
        if not is_settled:
            settle(graph, output.name)
        if any(taken.narrow):
            round_columns(graph, taken.narrow)
    elif taken.is_wide:
        feed_with_doubles(graph)
    del body.input[:], body.output[:], body.value_info[:]
    body.input.append(helper.make_tensor_value_info(INPUT, taken.kind, ["N", taken.columns]))
    body.output.append(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["N", output.columns]))
    # The converters put random or dated names here; constant ones make the file's digest repeatable.
    body.name, body.doc_string, graph.doc_string = "shokado", "", ""
    # skl2onnx lists them as it finds them in a set: now one first, now the other.
    opsets = sorted(graph.opset_import, key=lambda entry: entry.domain)
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    if "" not in {entry.domain for entry in graph.opset_import}:
        graph.opset_import.append(helper.make_opsetid("", OPSET))
    onnx.checker.check_model(graph)
