"""BentoML's own descriptors of the routes that its clients call, made of what the dialects take and answer.

In: a dialect, for the format of a model's rows. Out: the models by which BentoML and its clients know what to send and
what comes back. They hand the request over as it came: decoding it is the dialect's work, as on the express lane.
"""

from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Protocol, Self, get_args, get_origin

import msgspec
from bentoml import IODescriptor
from bentoml.validators import TensorSchema
from pydantic import Field, create_model
from starlette.requests import Request

from runners.inputs.rows import RowReader

NumberRow = Annotated[Any, TensorSchema("numpy-array")]
"""A list, object or array. BentoML's clients make numbers of JSON of numpy's only where the schema says that an array
belongs there; an object passes as it is."""
_DESCRIPTIONS = {
    "version": "A version or alias to pin; left out: the split decides.",
    "model_version": "A version or alias to pin.",
    "use_ab_testing": "False: the active version answers.",
    "unit": "What sticky assignment sticks to: the first of the three that is given.",
    "user_id": "What sticky assignment sticks to: the first of the three that is given.",
    "request_id": "What sticky assignment sticks to: the first of the three that is given.",
}
_ANSWER_DESCRIPTIONS = {
    "predictions": "One for each row: the positive class's probability (binary), all classes' (multiclass), all "
    "labels' (multilabel), the value, a list of several values, or what a decision function gives.",
    "classes": "The label of each row, for classifiers, or a list of several.",
    "reason": "SPLIT, STICKY, OUTSIDE_LAYER, PINNED, ACTIVE or FALLBACK.",
    "generation": "Of the routing state that the version was assigned under.",
    "confidence": "Probability of the chosen class.",
    "class_counts": "Of the predicted classes.",
}


class DescribedDialect(Protocol):
    """What a dialect says of its JSON."""

    row_format: RowReader

    @property
    def answer_type(self) -> type[msgspec.Struct]: ...

    def body_of(self, row: Any) -> Any:
        """The struct of the body, whose rows are of the type `row`."""
        ...


class Untouched(IODescriptor):
    """Puts the request itself into every field, unread."""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Self:  # noqa: ARG003
        untouched: Self = cls.model_construct(**dict.fromkeys(cls.model_fields, request))
        return untouched


class RowsOutput(IODescriptor):
    """What `POST /rows` answers: packed float32 scores, which no schema describes."""


class RowsInput(Untouched):
    """What `POST /rows` of a version's own service takes: packed rows."""

    rows: bytes = b""


def descriptors_of(dialect: DescribedDialect) -> dict[str, type[IODescriptor]]:
    """What `bentoml.api` is given for the dialect's route."""
    row_format, name = dialect.row_format, type(dialect).__name__
    # Of texts no arrays are made: numpy takes NUL from the end of one.
    row = NumberRow if row_format.takes_bytes else row_format.row_type
    descriptions = dict.fromkeys(("features", "instances"), row_format.row_description) | _DESCRIPTIONS
    return {
        "input_spec": _model_of(f"{name}Input", dialect.body_of(row), descriptions, Untouched),
        "output_spec": _model_of(f"{name}Output", dialect.answer_type, _ANSWER_DESCRIPTIONS, IODescriptor),
    }


def _model_of(name: str, struct: Any, descriptions: dict[str, str], base: type[IODescriptor]) -> type[IODescriptor]:
    """The same fields, options behind the rows: BentoML's clients take arguments by position as well."""
    described = [
        (field.encode_name, _annotation(field.type), _default_of(field)) for field in msgspec.structs.fields(struct)
    ]
    described.sort(key=lambda one: one[2] is not ... and one[0] in _DESCRIPTIONS)
    fields: dict[str, Any] = {
        field: (annotation, Field(default=default, description=descriptions.get(field)))
        for field, annotation, default in described
    }
    model: type[IODescriptor] = create_model(name, __base__=base, __module__=__name__, **fields)
    return model


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    if msgspec.UnsetType in get_args(field.type):
        return None
    return ... if field.required else field.default


def _annotation(of: Any) -> Any:
    """The type as pydantic knows it: what may be unset may be none, and a struct is a model."""
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return _model_of(of.__name__, of, {}, IODescriptor)
    if get_origin(of) is list:
        return list[_annotation(get_args(of)[0])]  # type: ignore[misc]  # computed
    if isinstance(of, UnionType) and msgspec.UnsetType in get_args(of):
        return reduce(or_, (None if one is msgspec.UnsetType else one for one in get_args(of)))
    return of
