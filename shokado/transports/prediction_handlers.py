"""What answers the prediction routes of a process: a handler for each dialect, behind the gate where it has to ask."""

from collections.abc import Sequence

from configuration.settings import Settings
from runners.inputs.rows import RowReader
from shokado.access.gate import Gate
from shokado.dialects.dialect import Dialect
from shokado.dialects.dialects import all_dialects
from shokado.dialects.explaining import ExplanationDialect
from shokado.dispatch.explainer import Explainer
from shokado.transports.admission import AdmissionHandler
from shokado.transports.call import Entrance, PredictionHandler
from shokado.transports.exchange import Handler
from shokado.transports.explain_call import ExplanationHandler


def dialects_of(row_format: RowReader, settings: Settings) -> list[Dialect]:
    """The dialects of what the versions take; the last one is that of explanations."""
    explaining = ExplanationDialect(row_format, settings.explanations)
    return [*all_dialects(row_format, settings.dialects), explaining]


def prediction_handlers(
    entrance: Entrance, explainer: Explainer, row_format: RowReader, settings: Settings
) -> list[PredictionHandler]:
    """A handler for each of `dialects_of`, in their order."""
    *predicting, explaining = dialects_of(row_format, settings)
    handlers = [PredictionHandler(entrance, dialect) for dialect in predicting]
    return [*handlers, ExplanationHandler(entrance, explaining, explainer)]


def behind(gate: Gate, handlers: Sequence[Handler]) -> list[Handler]:
    """The handlers behind the gate, where it has to be asked before predictions."""
    return [AdmissionHandler(handler, gate) for handler in handlers] if gate.guards_predictions else [*handlers]
