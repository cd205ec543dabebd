"""The table of dialects: every route where predictions are asked for. A new dialect is one file and one line here."""

from configuration.settings import DialectSettings
from runners.inputs.rows import RowReader
from shokado.dialects.addressed_rows import ActiveFeatures, SplitFeatures, VersionFeatures
from shokado.dialects.batch import Batch, BatchUnderPredict
from shokado.dialects.dialect import Dialect
from shokado.dialects.kserve_v1 import KServeV1
from shokado.dialects.mlflow import MLflow
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference, OpenInferenceVersion
from shokado.dialects.single import Single

DIALECTS: tuple[type[Dialect], ...] = (
    Native,
    Single,
    ActiveFeatures,
    SplitFeatures,
    VersionFeatures,
    Batch,
    BatchUnderPredict,
    KServeV1,
    MLflow,
    OpenInference,
    OpenInferenceVersion,
)


def all_dialects(row_format: RowReader, settings: DialectSettings = DialectSettings()) -> list[Dialect]:  # noqa: B008
    """One of each, for a model that takes rows of this format."""
    return [dialect.configured(row_format, settings) for dialect in DIALECTS]
