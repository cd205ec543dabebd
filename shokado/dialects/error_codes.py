"""The codes of all errors: status over HTTP and over gRPC, what it means, and whether the same may be sent again.

The one table of them. HTTP, gRPC and the description of the API answer by it, and `docs/errors.md` shows it.
Those of the NGINX gateway's own answers are here as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Repeat(StrEnum):
    """Whether a client may send the same request again by itself."""

    NEVER = "no"
    """It would be refused again, or is of no use any more."""
    SAFE = "yes"
    """Nothing was done."""
    PERHAPS_MADE = "unless it changes something"
    """A change may have been made all the same."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What a code says."""

    status: int
    """HTTP's status."""
    grpc: str
    """Name of gRPC's status."""
    meaning: str
    repeat: Repeat = Repeat.NEVER
    retry_after_s: float | None = None
    """Seconds that `Retry-After` says where no time was measured; None: there is no such header."""
    status_if_match: int | None = None
    """HTTP's status where the request has `If-Match`; None: `status`."""


_INVALID = "INVALID_ARGUMENT"

ERROR_CODES: Mapping[str, ErrorCode] = {
    "bad_header": ErrorCode(400, _INVALID, "A header cannot be read, is too long, or comes twice with two values."),
    "conflicting_environment": ErrorCode(400, _INVALID, "Header and body, or query, name different environments."),
    "conflicting_version": ErrorCode(400, _INVALID, "Path, header and body name different versions."),
    "malformed_body": ErrorCode(400, _INVALID, "The body is not what its content type says."),
    "malformed_request": ErrorCode(400, _INVALID, "This is no HTTP request, says what stands in front."),
    "malformed_tensor": ErrorCode(400, _INVALID, "A tensor's datatype, shape and data do not fit together."),
    "no_classification": ErrorCode(400, _INVALID, "The output has no classes to choose from."),
    "repeated_output": ErrorCode(400, _INVALID, "An output is named twice."),
    "unknown_output": ErrorCode(400, _INVALID, "The version has no output of that name."),
    "unsupported_parameter": ErrorCode(400, _INVALID, "A parameter of the Open Inference Protocol is not served."),
    "missing_key": ErrorCode(401, "UNAUTHENTICATED", "A key is needed, and none is shown."),
    "unknown_key": ErrorCode(401, "UNAUTHENTICATED", "The key is not known, or was revoked."),
    "cross_site": ErrorCode(403, "PERMISSION_DENIED", "A browser asks for a change on behalf of another site."),
    "forbidden": ErrorCode(403, "PERMISSION_DENIED", "The key has not the role that is needed."),
    "keys_needed": ErrorCode(
        403, "PERMISSION_DENIED", "Without keys, changes and the request log are for the same machine alone."
    ),
    "not_found": ErrorCode(404, "NOT_FOUND", "There is no such route."),
    "unknown_environment": ErrorCode(404, "NOT_FOUND", "There is no such environment."),
    "unknown_batch": ErrorCode(404, "NOT_FOUND", "There is no such batch on this machine, or not any more."),
    "unknown_experiment": ErrorCode(404, "NOT_FOUND", "There is no such experiment, or not any more."),
    "unknown_generation": ErrorCode(404, "NOT_FOUND", "The history has no such generation, or not any more."),
    "unknown_version": ErrorCode(404, "NOT_FOUND", "There is no such version or alias."),
    "method_not_allowed": ErrorCode(405, "UNIMPLEMENTED", "The route has other methods; `Allow` names them."),
    "request_timeout": ErrorCode(408, "DEADLINE_EXCEEDED", "The request did not arrive in time."),
    "batches_off": ErrorCode(409, "ABORTED", "Batches cannot be asked of this server, or not of this version."),
    "cannot_import_here": ErrorCode(409, "ABORTED", "This server cannot import from the registry."),
    "cannot_load_here": ErrorCode(409, "ABORTED", "Loads on this machine cannot take turns, or it loads none."),
    "experiment_changed": ErrorCode(409, "ABORTED", "The split was changed since the experiment was looked at."),
    "experiment_over": ErrorCode(409, "ABORTED", "The experiment has ended."),
    "experiment_running": ErrorCode(409, "ABORTED", "The environment has another experiment under way."),
    "features_lacking": ErrorCode(
        409, "ABORTED", "A version that would get traffic needs features that rows seen lately lack."
    ),
    "generation_conflict": ErrorCode(
        409, "ABORTED", "Somebody else has changed the routing in the meantime.", status_if_match=412
    ),
    "layer_overlap": ErrorCode(409, "ABORTED", "Another experiment under way has units of the same part of a layer."),
    "layer_without_units": ErrorCode(409, "ABORTED", "An experiment in a layer needs the strategy `hash`."),
    "load_given_up": ErrorCode(409, "ABORTED", "The load was given up in the meantime."),
    "load_in_progress": ErrorCode(409, "ABORTED", "Another version is being loaded."),
    "load_timed_out": ErrorCode(409, "ABORTED", "The load has taken longer than it may."),
    "memory_full": ErrorCode(409, "ABORTED", "As many versions as may be are in memory, and all are needed."),
    "not_in_split": ErrorCode(409, "ABORTED", "The versions of an experiment are not those that share the traffic."),
    "not_the_shadow": ErrorCode(
        409, "ABORTED", "The versions of an experiment are not one with traffic and its shadow."
    ),
    "not_explainable": ErrorCode(409, "ABORTED", "Scores of the version cannot be explained; the message says why."),
    "other_verdict": ErrorCode(409, "ABORTED", "The experiment's verdict is none of those that are waited for."),
    "remote_placement": ErrorCode(409, "ABORTED", "The version runs in another server; only a restart changes that."),
    "service_placement": ErrorCode(409, "ABORTED", "The version has its own service; only a restart changes that."),
    "split_moves": ErrorCode(409, "ABORTED", "The environment moves its split by itself, so nothing can be compared."),
    "too_many_batches": ErrorCode(409, "ABORTED", "As many batches as may be run on this machine."),
    "version_in_use": ErrorCode(409, "ABORTED", "The version is active, has traffic, or is a shadow."),
    "version_not_ready": ErrorCode(409, "ABORTED", "A version that would get traffic is not ready."),
    "body_too_large": ErrorCode(413, _INVALID, "The body is too long."),
    "compressed_too_well": ErrorCode(413, _INVALID, "The body would be too many times as long without its coding."),
    "row_too_long": ErrorCode(413, _INVALID, "A line of CSV has many more values than there are columns."),
    "text_too_long": ErrorCode(413, _INVALID, "A text has too many characters."),
    "too_many_entries": ErrorCode(413, _INVALID, "The list of feedback is too long."),
    "too_many_fields": ErrorCode(413, _INVALID, "The message has too many fields."),
    "too_many_rows": ErrorCode(413, _INVALID, "The request has too many rows."),
    "too_many_values": ErrorCode(413, _INVALID, "The body has too many values."),
    "unsupported_encoding": ErrorCode(415, _INVALID, "The content encoding is not understood here."),
    "unsupported_media_type": ErrorCode(415, _INVALID, "The content type is not understood here."),
    "address_not_allowed": ErrorCode(422, _INVALID, "A batch may not read or write there."),
    "alias": ErrorCode(422, _INVALID, "An alias is named where a version belongs."),
    "conflicting_fields": ErrorCode(422, _INVALID, "Fields are given of which only one may be."),
    "feedback_expired": ErrorCode(422, _INVALID, "The prediction is too long ago for feedback."),
    "feedback_forged": ErrorCode(422, _INVALID, "The prediction id was not made by this service."),
    "feedback_invalid": ErrorCode(422, _INVALID, "The label or reward is not one of this model's."),
    "feedback_malformed": ErrorCode(422, _INVALID, "The prediction id cannot be read."),
    "feedback_unknown": ErrorCode(422, _INVALID, "The version or the row of the prediction is not known any more."),
    "import_failed": ErrorCode(422, _INVALID, "The version could not be imported from the registry."),
    "invalid": ErrorCode(422, _INVALID, "A field is missing, of the wrong type, or out of its range."),
    "invalid_name": ErrorCode(422, _INVALID, "A version cannot have such a name."),
    "invalid_weight": ErrorCode(422, _INVALID, "A weight is no number, not finite, or negative."),
    "invalid_weights": ErrorCode(422, _INVALID, "The weights of a query cannot be read."),
    "load_failed": ErrorCode(422, _INVALID, "The version cannot be served: its trial failed, or a worker did."),
    "lone_weight": ErrorCode(422, _INVALID, "The one version with a weight would get all of the traffic."),
    "missing_feature": ErrorCode(422, _INVALID, "A row lacks a feature."),
    "missing_field": ErrorCode(422, _INVALID, "The body lacks a field."),
    "missing_header": ErrorCode(422, _INVALID, "The CSV has no line with the names of its columns."),
    "model_not_version": ErrorCode(422, _INVALID, "The model is named where a version belongs."),
    "models_missing": ErrorCode(422, _INVALID, "An A/B test needs its two versions."),
    "names_needed": ErrorCode(
        422, _INVALID, "Rows without names are not this version's, or may be another one's: its features are others."
    ),
    "no_rows": ErrorCode(422, _INVALID, "There are no rows."),
    "no_score": ErrorCode(422, _INVALID, "The version has no finite score for a row, as it has for others."),
    "no_weight": ErrorCode(422, _INVALID, "No version has a weight above 0."),
    "not_a_number": ErrorCode(422, _INVALID, "A value is no number."),
    "not_a_text": ErrorCode(422, _INVALID, "A value is no text."),
    "not_exact": ErrorCode(422, _INVALID, "A whole number has more digits than the model's rows can carry."),
    "not_finite": ErrorCode(422, _INVALID, "A value is NaN, infinite, or too large for the model's rows."),
    "not_unicode": ErrorCode(422, _INVALID, "A text holds half a character."),
    "nothing_to_change": ErrorCode(422, _INVALID, "The body names nothing to change."),
    "repeated_column": ErrorCode(422, _INVALID, "A column occurs twice."),
    "repeated_field": ErrorCode(422, _INVALID, "A text is given in more than one field."),
    "repeated_key": ErrorCode(422, _INVALID, "A name occurs twice in the same object."),
    "repeated_version": ErrorCode(422, _INVALID, "Two names stand for the same version."),
    "salt_too_long": ErrorCode(422, _INVALID, "The salt has too many characters."),
    "source_not_allowed": ErrorCode(422, _INVALID, "Versions may not be loaded from there."),
    "unfit_artefact": ErrorCode(422, _INVALID, "What lies in the store is no version of this model."),
    "unit_too_long": ErrorCode(422, _INVALID, "The unit has too many characters."),
    "unknown_entity": ErrorCode(422, _INVALID, "A row's entity has a name that is not configured."),
    "unknown_feature": ErrorCode(422, _INVALID, "A row has a feature that the model does not take."),
    "unknown_field": ErrorCode(422, _INVALID, "The body has a field that the route does not know."),
    "unknown_level": ErrorCode(422, _INVALID, "A value is none of the levels of its category."),
    "unknown_predict_method": ErrorCode(422, _INVALID, "The model has no such `predict_method`."),
    "unknown_segment": ErrorCode(422, _INVALID, "Figures are not told apart by such a feature."),
    "version_too_large": ErrorCode(422, _INVALID, "The version's files are larger than may be loaded."),
    "wrong_feature_count": ErrorCode(422, _INVALID, "A row has more or fewer values than the model takes."),
    "wrong_shape": ErrorCode(422, _INVALID, "A tensor has not the shape that the model takes."),
    "wrong_type": ErrorCode(422, _INVALID, "A field or a row is of the wrong type."),
    "feature_missing": ErrorCode(
        424, "FAILED_PRECONDITION", "The feature store has no value of an entity's feature that is recent enough."
    ),
    "feature_unfit": ErrorCode(424, "FAILED_PRECONDITION", "What was looked up is no value that the model takes."),
    "features_unavailable": ErrorCode(
        424, "FAILED_PRECONDITION", "The features of an entity could not be looked up in time.", Repeat.SAFE, 1
    ),
    "rate_limited": ErrorCode(429, "RESOURCE_EXHAUSTED", "Too many requests, of this key or address.", Repeat.SAFE, 1),
    "header_too_large": ErrorCode(431, _INVALID, "A header is too long for the NGINX gateway."),
    "headers_too_large": ErrorCode(431, _INVALID, "The headers are too long."),
    "internal": ErrorCode(500, "INTERNAL", "Something unforeseen happened; the server's log has it."),
    "model_failure": ErrorCode(500, "INTERNAL", "The model could not score a row, nor one that it is known to score."),
    "overran": ErrorCode(500, "INTERNAL", "A batch took longer than `batching.max_run_s`."),
    "unavailable": ErrorCode(502, "UNAVAILABLE", "The NGINX gateway could reach no server.", Repeat.PERHAPS_MADE),
    "log_unreadable": ErrorCode(503, "UNAVAILABLE", "The request log's files cannot be read.", Repeat.SAFE, 1),
    "not_ready": ErrorCode(503, "UNAVAILABLE", "The server or the version cannot answer yet.", Repeat.SAFE, 1),
    # The one 503 that is no outage: the client has to slow down.
    "overloaded": ErrorCode(503, "RESOURCE_EXHAUSTED", "The queue is too long.", Repeat.SAFE, 1),
    "stopping": ErrorCode(503, "UNAVAILABLE", "The server is stopping; another one may answer.", Repeat.PERHAPS_MADE),
    "store_unavailable": ErrorCode(
        503, "UNAVAILABLE", "The store of the routing cannot be used.", Repeat.PERHAPS_MADE, 1
    ),
    "too_many_bodies": ErrorCode(503, "UNAVAILABLE", "Too much is on its way to the server.", Repeat.SAFE, 1),
    "too_many_connections": ErrorCode(503, "UNAVAILABLE", "Too many connections are open.", Repeat.SAFE, 1),
    "deadline_exceeded": ErrorCode(504, "DEADLINE_EXCEEDED", "The deadline passed before there was an answer."),
    "late": ErrorCode(504, "DEADLINE_EXCEEDED", "No server has answered the NGINX gateway in time."),
}

STATUS_DESCRIPTIONS: Mapping[int, str] = {
    400: "The body or a header cannot be read, or they contradict each other.",
    401: "No key, or one that does not count.",
    403: "Not with this key, or not from another site or machine.",
    404: "No such model, version, environment or generation.",
    409: "Not as things stand, such as with a version that is not ready or has traffic.",
    412: "Somebody has changed the routing since `If-Match` was read.",
    413: "The body is too long, or has too many rows or entries.",
    415: "The content type or encoding is not understood.",
    422: "Readable, but it makes no sense: names what is wrong, such as the row and the feature.",
    424: "Features of an entity are missing or could not be looked up: names both.",
    429: "Too often; `Retry-After` says when to come back.",
    500: "The model failed on a row, or something unforeseen happened.",
    503: "Not now: overloaded, not ready, or the store is away; `Retry-After` says when to come back.",
    504: "The deadline passed before there was an answer.",
}
"""What the description of the API says of the statuses that routes declare."""

CODES_DESCRIPTION = "For programs:\n\n" + "\n".join(
    f"- `{code}` ({found.status}): {found.meaning}" for code, found in ERROR_CODES.items()
)
"""What the description of the API says of the field `code`, in Markdown."""
