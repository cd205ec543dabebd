"""`python -m tests.frameworks.table` writes the table of all models that are tried into docs/models.md."""

from pathlib import Path

from runners.artefacts.card import Task
from tests.frameworks import (
    test_boosted_models,
    test_network_models,
    test_onnx_models,
    test_sklearn_classifiers,
    test_sklearn_columns,
    test_sklearn_labels,
    test_sklearn_regressors,
    test_sklearn_steps,
    test_statsmodels_models,
    test_xgboost_models,
)
from tests.frameworks.tried_model import TriedModel

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "models.md"
BEGIN = "<!-- tried: make models-table writes this -->\n"
END = "<!-- /tried -->\n"
FILES = (
    test_sklearn_classifiers,
    test_sklearn_regressors,
    test_sklearn_steps,
    test_sklearn_columns,
    test_sklearn_labels,
    test_xgboost_models,
    test_boosted_models,
    test_onnx_models,
    test_network_models,
    test_statsmodels_models,
)
MODELS: tuple[TriedModel, ...] = tuple(tried for file in FILES for tried in file.MODELS)
SERVED = [tried for tried in MODELS if isinstance(tried.outcome, Task)]


def printed() -> str:
    """The table as the document has it, with how many models it has above."""
    header = ["flavor", "model", "columns", "served as"]
    rows = [[tried.flavor, tried.name, tried.columns, tried.said] for tried in MODELS]
    table = "".join(f"| {' | '.join(row)} |\n" for row in [header, ["---"] * len(header), *rows])
    return f"{len(SERVED)} are served and {len(MODELS) - len(SERVED)} refused:\n\n{table}"


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text(f"{before}{BEGIN}{printed()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
