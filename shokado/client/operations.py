"""What can be asked of a server: a function for each, which sends nothing.

In: what the caller wants. Out: an `Operation`, which says what is sent and how the answer is read. The clients have a
method for each; `send` of a client takes any other.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import EllipsisType
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx

from shokado.client.answers import (
    Effects,
    ExperimentAnswer,
    ExperimentList,
    ExplanationAnswer,
    FeedbackAnswer,
    History,
    LoadedVersion,
    Prediction,
    Preview,
    RecentPreview,
    Split,
    Version,
    VersionDrift,
    VersionExamples,
    VersionMetrics,
    Versions,
)
from shokado.client.decoding import NotOfThisKind, decode
from shokado.client.errors import NotFound, UnexpectedAnswer, described
from shokado.client.prediction_body import JSON, prediction_body, to_json

Answer = TypeVar("Answer")
Kind = TypeVar("Kind")
Entities = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Label = bool | int | float | str | Sequence[float] | Mapping[str, float]

LOAD_TIMEOUT_S = 600.0
"""A load is answered when every worker has the version ready; the server gives up by itself after minutes."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[Answer]):
    """A request, and how its answer is read."""

    method: str
    path: str
    """The path under the server's address, with a slash at its beginning."""
    read: Callable[[httpx.Response], Answer]
    """Makes a value of a successful answer."""
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = False
    """Whether it changes nothing, or comes to the same however often it arrives."""
    timeout_s: float | None = None
    """How long it may take; None: as the client says."""
    deadline_s: float | None = None
    """Seconds, from the first attempt, within which the answer is of use: what cannot be done by then is refused."""


@dataclass(frozen=True, slots=True)
class FeedbackEntry:
    """What became of one row of a prediction: its label, a reward, or both."""

    prediction_id: str
    index: int = 0
    """The row's position in its request."""
    label: Label | None = None
    """What would have been right: a class, the value of a regression, or several values, by name or in order."""
    reward: float | None = None
    """How well it went, between 0 and 1; a conversion is 1."""
    segments: Mapping[str, str | float | bool | None] | None = None
    """Levels of the row by features that no version takes, where figures are told apart by them."""


def predict(
    rows: Any = None, *, entities: Entities | None = None, version: str | None = None, unit: str | int | None = None,
    deadline_s: float | None = None, request_id: str | None = None,
) -> Operation[Prediction]:  # fmt: skip
    """Score rows.

    Args:
        rows: a list of rows, each a list of values in the features' order, a mapping by feature name, or a text; a
            pandas frame, whose columns are features; or a numpy array of shape (rows, features), which is sent as
            it is.
        entities: whose features the server looks up, where a row does not have them: a mapping such as
            `{"customer_id": 17}` for each row, or one for all rows; without rows, there is one for each.
        version: a version or alias that is to answer, whatever the split says.
        unit: the user, or what else the `hash` strategy keeps with one version.
        deadline_s: within how many seconds the answer is of use; what cannot be done by then is refused.
        request_id: names the request in the answer and in logs.

    Raises `InvalidRequest`, with row and feature, for a row that the model cannot score.
    """
    asked, sent = _of_rows("/v1/models/predict", rows, version, unit, deadline_s, request_id, entities)

    def read(response: httpx.Response) -> Prediction:
        found = _read(Prediction)(response)
        if len(found.predictions) != sent:
            # Packed rows of another width are other rows to the server.
            message = f"{sent} rows were sent and {len(found.predictions)} scored: have they one value a feature?"
            raise UnexpectedAnswer(message, response.status_code, request_id=found.request_id)
        return found

    return asked(read)


def explain(
    rows: Any = None, *, entities: Entities | None = None, version: str | None = None, unit: str | int | None = None,
    deadline_s: float | None = None, request_id: str | None = None,
) -> Operation[ExplanationAnswer]:  # fmt: skip
    """Say what each feature contributes to the scores of some rows; arguments as of `predict`.

    Raises `Conflict` where scores of the version cannot be explained, with the reason, and `Unavailable` where too much
    is being explained.
    """
    asked, _ = _of_rows("/v1/models/explain", rows, version, unit, deadline_s, request_id, entities)
    return asked(_read(ExplanationAnswer))


def _of_rows(
    path: str,
    rows: Any,
    version: str | None,
    unit: str | int | None,
    deadline_s: float | None,
    request_id: str | None,
    entities: Entities | None,
) -> tuple[Callable[[Callable[[httpx.Response], Answer]], Operation[Answer]], int]:
    """What makes the operation that sends rows, and how many they are."""
    if deadline_s is not None and not deadline_s > 0:
        raise ValueError(f"deadline_s is {deadline_s}; it takes seconds above 0")
    body = prediction_body(rows, unit, entities)
    named = {"X-Model-Version": version, "X-Request-ID": request_id}
    if body.is_packed and unit is not None:
        named["X-Unit-ID"] = str(unit)
    headers = {name: value for name, value in named.items() if value is not None}

    headers |= {"Content-Type": body.content_type}

    def asked(read: Callable[[httpx.Response], Answer]) -> Operation[Answer]:
        return Operation(
            "POST", path, read, headers=headers, content=body.content, repeatable=True, deadline_s=deadline_s
        )

    return asked, body.rows


def split() -> Operation[Split]:
    """The split of the client's environment, as it is now."""
    return Operation("GET", "/v1/traffic-split", _read(Split), repeatable=True)


def change_split(
    weights: Mapping[str, float] | None = None, *, strategy: str | None = None, enabled: bool | None = None,
    salt: str | None = None, shadow: str | EllipsisType | None = ..., active: str | None = None, force: bool = False,
    why: str = "", if_generation: int | None = None,
) -> Operation[Split]:  # fmt: skip
    """Change the split of the client's environment; what is not given stays as it is. The answer is the new split.

    Args:
        weights: by version or alias, relative to their sum; all versions that are to have traffic.
        strategy: `random`, `hash` or `weighted`.
        enabled: False: the active version answers.
        salt: another one deals all units out anew, under `hash`.
        shadow: gets a copy of the traffic; None switches it off.
        active: the version that answers where nothing is split.
        force: give traffic also to a version that needs features which rows seen lately lacked: it refuses them.
        why: for the history.
        if_generation: the generation that the change was made for, as `Split.generation` told it.

    Raises `Conflict`, and nothing is changed then: 412 when it is another generation by now; 409 when a version is not
    ready, or its features are lacking.
    """
    change = _named(weights=weights, strategy=strategy, enabled=enabled, salt=salt, active=active)
    if shadow is not ...:
        change["shadow"] = shadow
    if force:
        change["force"] = True
    return _change("/v1/traffic-split", {**change, "why": why}, _read(Split), if_generation)


def preview_split(
    weights: Mapping[str, float] | None = None, *, strategy: str | None = None, enabled: bool | None = None,
    salt: str | None = None, active: str | None = None, units: Sequence[str] | None = None, max_examples: int = 5,
) -> Operation[Preview]:  # fmt: skip
    """Which units a change of the split would give another version; nothing is changed.

    Args:
        weights: this and what follows as in `change_split`.
        strategy: as there.
        enabled: as there.
        salt: as there.
        active: as there.
        units: as `predict` names them; a server takes some 900 in one question. None: a thousand made-up ones.
        max_examples: so many units are named of each way of moving.
    """
    change = _named(weights=weights, strategy=strategy, enabled=enabled, salt=salt, active=active)
    asked = _named(units=list(units) if units is not None else None, max_examples=max_examples)
    return _question("/v1/traffic-split/preview", change | asked, _read(Preview))


def preview_recent(
    weights: Mapping[str, float] | None = None, *, strategy: str | None = None, enabled: bool | None = None,
    salt: str | None = None, active: str | None = None,
) -> Operation[RecentPreview]:  # fmt: skip
    """Which of the requests of the last minutes a change would have given another version; arguments as there.

    It needs a key of the role `admin`.
    """
    change = _named(weights=weights, strategy=strategy, enabled=enabled, salt=salt, active=active)
    return _question("/v1/traffic-split/preview/recent", change, _read(RecentPreview))


def rollback(generation: int, *, why: str = "", if_generation: int | None = None) -> Operation[Split]:
    """Make a new generation with what an earlier one says of all environments. The answer is the new split.

    `if_generation` as in `change_split`.
    """
    content = {"generation": generation, "why": why}
    return _change("/v1/traffic-split/rollback", content, _read(Split), if_generation)


def history(*, limit: int = 100, before: int | None = None) -> Operation[History]:
    """A page of the history: up to `limit` (500 at most) generations older than `before`, newest first."""
    query = {"limit": limit} if before is None else {"limit": limit, "before": before}

    def read(response: httpx.Response) -> History:
        content, date = _json(response), response.headers.get("date")
        if isinstance(content, dict):
            told_at = parsedate_to_datetime(date) if date else datetime.now(UTC)
            content["told_at"] = told_at.isoformat()
        return _decoded(History, content, response)

    return Operation("GET", "/v1/traffic-split/history", read, query, repeatable=True)


def feedback(
    prediction_id: str, *, label: Label | None = None, reward: float | None = None, index: int = 0,
    segments: Mapping[str, str | float | bool | None] | None = None,
) -> Operation[FeedbackAnswer]:  # fmt: skip
    """Say what became of one row of a prediction; fields as in `FeedbackEntry`. The same one counts once.

    Raises `InvalidRequest` when it cannot be used; `code` says why: `feedback_expired`, for one.
    """
    return _feedback(_entry(FeedbackEntry(prediction_id, index, label, reward, segments)))


def feedback_batch(entries: Iterable[FeedbackEntry]) -> Operation[FeedbackAnswer]:
    """Give feedback to many predictions. An entry that cannot be used raises nothing: its result says why."""
    return _feedback([_entry(entry) for entry in entries])


def versions() -> Operation[Versions]:
    """All versions, and how far each worker of each machine is."""
    return Operation("GET", "/v1/models", _read(Versions), repeatable=True)


def version(name: str) -> Operation[Version]:
    """One version, by its name or an alias. Raises `NotFound`."""

    def read(response: httpx.Response) -> Version:
        content = _json(response)
        if isinstance(content, dict) and "state" not in content and content.get("name") == name:
            raise NotFound(f"{name} is the name of the model, not of one of its versions", response.status_code)
        return _decoded(Version, content, response)

    return Operation("GET", f"/v1/models/{_quoted(name)}", read, repeatable=True)


def examples(name: str) -> Operation[VersionExamples]:
    """Rows of a version, by its name or an alias, and what it must answer for them. Raises `NotFound`."""
    return Operation("GET", f"/v1/models/{_quoted(name)}/examples", _read(VersionExamples), repeatable=True)


def load(
    version: str, uri: str | None = None, *, why: str = "", timeout_s: float = LOAD_TIMEOUT_S
) -> Operation[LoadedVersion]:
    """Load a version into every worker while the server serves, which may take minutes.

    Args:
        version: the name that it gets.
        uri: such as `models:/customers/3`; None brings back a version that was unloaded.

    Raises `Conflict` or `InvalidRequest` with the reason why it cannot be loaded: then no traffic was touched.
    """
    content = {"why": why} if uri is None else {"uri": uri, "why": why}
    return replace(_change(f"/v1/models/{_quoted(version)}/load", content, _read(LoadedVersion)), timeout_s=timeout_s)


def unload(version: str, *, why: str = "", timeout_s: float = LOAD_TIMEOUT_S) -> Operation[LoadedVersion]:
    """Take a version without traffic out of the memory of every worker. Raises `Conflict` when it has some."""
    operation = _change(f"/v1/models/{_quoted(version)}/unload", {"why": why}, _read(LoadedVersion))
    return replace(operation, timeout_s=timeout_s)


def activate(version: str, *, force: bool = False, why: str = "", if_generation: int | None = None) -> Operation[Split]:
    """Make a version the one that answers where nothing is split. `force` and `if_generation` as in `change_split`."""
    content: dict[str, Any] = {"why": why}
    if force:
        content["force"] = True
    return _change(f"/models/{_quoted(version)}/activate", content, _read(Split), if_generation)


def metrics(
    version: str, *, window_s: float = 60, by: str | None = None, limit: float | None = None
) -> Operation[VersionMetrics]:
    """How a version is served, since the server started and within the last `window_s` (300 at most) seconds.

    `by` names a feature of `segments.features`: then `segments` has the figures of each of its levels, and says whether
    their differences are surely within `limit`, or beyond.
    """
    asked = {"window_s": window_s, "by": by, "limit": limit}
    query = {name: value for name, value in asked.items() if value is not None}
    return Operation("GET", f"/v1/metrics/{_quoted(version)}", _read(VersionMetrics), query, repeatable=True)


def drift(version: str, *, window: Literal["hour", "day"] = "hour") -> Operation[VersionDrift]:
    """How far the rows and scores of a version have drifted from its reference, within the last hour or day."""
    return Operation("GET", f"/v1/drift/{_quoted(version)}", _read(VersionDrift), {"window": window}, repeatable=True)


def experiments() -> Operation[ExperimentList]:
    """The experiments under way, and the last that ended."""
    return Operation("GET", "/v1/experiments", _read(ExperimentList), repeatable=True)


def experiment(name: str) -> Operation[ExperimentAnswer]:
    """One experiment, by its id. Raises `NotFound`."""
    return Operation("GET", f"/v1/experiments/{_quoted(name)}", _read(ExperimentAnswer), repeatable=True)


def experiment_effects(name: str) -> Operation[Effects]:
    """How the effects of an experiment became what they are, by its id. Raises `NotFound`."""
    return Operation("GET", f"/v1/experiments/{_quoted(name)}/effects", _read(Effects), repeatable=True)


def start_experiment(
    plan: Mapping[str, Any], *, control: str | None = None, candidates: Sequence[str] | None = None, why: str = "",
    if_generation: int | None = None,
) -> Operation[ExperimentAnswer]:  # fmt: skip
    """Begin an experiment between the versions that share the traffic of the client's environment, or with its shadow.

    Args:
        plan: what it is judged by, as in configuration/experiment.yaml: at least `metric` and `smallest_effect`.
        control: a version or alias; None: the active one.
        candidates: versions or aliases; None: all others that share the traffic, or the shadow.
        why: for the history.
        if_generation: as in `change_split`.

    Raises `Conflict` where another one is under way, or the traffic is not shared by these versions.
    """
    versions = _named(control=control, candidates=list(candidates) if candidates is not None else None)
    content = {**plan, **versions, "why": why}
    return _change("/v1/experiments", content, _read(ExperimentAnswer), if_generation)


def stop_experiment(name: str, *, why: str = "", if_generation: int | None = None) -> Operation[ExperimentAnswer]:
    """End an experiment, by its id; the split stays as it is. Raises `NotFound`, and `Conflict` where it is over."""
    path = f"/v1/experiments/{_quoted(name)}/stop"
    return _change(path, {"why": why}, _read(ExperimentAnswer), if_generation)


def _change(
    path: str, content: Any, read: Callable[[httpx.Response], Answer], if_generation: int | None = None
) -> Operation[Answer]:
    headers = {"Content-Type": JSON} | ({} if if_generation is None else {"If-Match": f'"{if_generation}"'})
    return Operation("POST", path, read, headers=headers, content=to_json(content))


def _question(path: str, content: Any, read: Callable[[httpx.Response], Answer]) -> Operation[Answer]:
    """What changes nothing, or counts once, although it is posted."""
    return replace(_change(path, content, read), repeatable=True)


def _named(**values: Any) -> dict[str, Any]:
    """Those that are given."""
    return {name: value for name, value in values.items() if value is not None}


def _feedback(content: Any) -> Operation[FeedbackAnswer]:
    return _question("/v1/feedback", content, _read(FeedbackAnswer))


def _entry(entry: FeedbackEntry) -> dict[str, Any]:
    told = _named(label=entry.label, reward=entry.reward, segments=entry.segments)
    return {"prediction_id": entry.prediction_id, "index": entry.index} | told


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _read(kind: type[Kind]) -> Callable[[httpx.Response], Kind]:
    return lambda response: _decoded(kind, _json(response), response)


def _json(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError as error:
        raise _unexpected(response, str(error)) from None


def _decoded(kind: type[Kind], content: Any, response: httpx.Response) -> Kind:
    try:
        return decode(kind, content)
    except NotOfThisKind as error:
        raise _unexpected(response, str(error)) from None


def _unexpected(response: httpx.Response, why: str) -> UnexpectedAnswer:
    message = f"{described(response.request)} is answered, but not as Shokado does ({why}): is that another server?"
    return UnexpectedAnswer(message, response.status_code, request_id=response.headers.get("x-request-id", ""))
