"""The table of dialects: every route where predictions are asked for. A new dialect is one file and one line here."""

from configuration.settings import DialectSettings
from protocols.batch import Batch, BatchUnderPredict
from protocols.dialect import Dialect
from protocols.features import ActiveFeatures, SplitFeatures, VersionFeatures
from protocols.kserve_v1 import KServeV1
from protocols.mlflow import MLflow
from protocols.native import Native
from protocols.open_inference import OpenInference, OpenInferenceVersion
from protocols.signature import Signature
from protocols.single import Single

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


def all_dialects(signature: Signature, settings: DialectSettings = DialectSettings()) -> list[Dialect]:  # noqa: B008
    """One of each, for the model of this signature."""
    return [dialect.configured(signature, settings) for dialect in DIALECTS]
