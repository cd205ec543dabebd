"""Columns of an MLflow signature: the types that rows can have here, and what those are."""

from typing import Any, Literal

FeatureType = Literal["float", "integer", "boolean", "text"]
FEATURE_TYPES: dict[str, FeatureType] = {
    "float": "float",
    "double": "float",
    "integer": "integer",
    "long": "integer",
    "boolean": "boolean",
    "string": "text",
}
"""The type of a feature by that of its column; a column of texts may be a category as well."""


def type_of(column: Any) -> str:
    """MLflow's word for what a column has, such as `double`; also one that is none of `FEATURE_TYPES`."""
    return str(getattr(column.type, "name", column.type))


def name_of(column: Any) -> str:
    """What a column is called: a frame that was made of an array has numbers for names, 0 among them, and of a series
    there may be none.
    """
    return "text" if column.name is None else str(column.name)
