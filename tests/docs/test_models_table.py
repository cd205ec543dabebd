"""The document's table of models is what `make test-frameworks` tries, and holds what it should."""

from collections import Counter

from tests.docs.pages import PAGES
from tests.frameworks import table


def test_the_document_has_the_models_that_are_tried() -> None:
    page = PAGES["docs/models.md"]
    assert f"{table.BEGIN}{table.printed()}{table.END}" in page, "make models-table writes it anew"


def test_each_model_is_tried_once() -> None:
    assert [name for name, times in Counter(map(str, table.MODELS)).items() if times > 1] == []


def test_sixty_models_are_served_and_each_refusal_has_its_reason() -> None:
    assert len(table.SERVED) >= 60
    refused = [tried for tried in table.MODELS if tried not in table.SERVED]
    assert all(isinstance(tried.outcome, str) and len(tried.outcome.split()) > 2 for tried in refused)


def test_all_lists_of_models_are_in_the_table() -> None:
    folder = table.DOCUMENT.parents[1] / "tests" / "frameworks"
    lists = {path.stem for path in folder.glob("test_*.py") if "\nMODELS = (" in path.read_text(encoding="utf-8")}
    assert lists == {file.__name__.rpartition(".")[2] for file in table.FILES}
