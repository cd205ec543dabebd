"""Each noun of the glossary stands where it says: a file or folder, a setting or a route of this product."""

import re
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from configuration.settings import Settings
from tests.docs.pages import PAGES
from tests.support.server import ROOT

ENTRIES = re.findall(r"(?m)^\| ([^|`]+) \| ([^|]+) \| `([^|`]+)` \|$", PAGES["docs/glossary.md"])
ROWS = re.findall(r"(?m)^\| (?!noun |---)", PAGES["docs/glossary.md"])
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "shokado").rglob("*.py")))


def settings_below(annotation: Any) -> type[BaseModel] | None:
    """The group of settings that a value of this type has, be it optional or one of several by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = get_args(annotation)[1:] if get_origin(annotation) is dict else get_args(annotation)
    return next((found for each in inner if (found := settings_below(each)) is not None), None)


def is_setting(dotted: str) -> bool:
    group: type[BaseModel] | None = Settings
    for name in dotted.split("."):
        if group is None or name not in group.model_fields:
            return False
        group = settings_below(group.model_fields[name].annotation)
    return True


def stands_at(where: str) -> bool:
    if "/" not in where:
        return is_setting(where)
    method, _, route = where.rpartition(" ")
    return f'"{route}"' in SOURCES if method else (ROOT / where).exists()


def test_every_line_of_the_glossary_is_an_entry_and_no_noun_has_two() -> None:
    nouns = [noun for noun, _, _ in ENTRIES]
    assert len(nouns) == len(ROWS) == len(set(nouns)) > 60


@pytest.mark.parametrize(("noun", "where"), [(noun, where) for noun, _, where in ENTRIES])
def test_a_noun_stands_where_the_glossary_says(noun: str, where: str) -> None:
    assert stands_at(where), f"{noun} is not at {where}"


@pytest.mark.parametrize("where", ["versions.place", "model.name", "shokado/nothing.py", "GET /v1/nothing"])
def test_what_is_not_there_is_found(where: str) -> None:
    assert not stands_at(where)
