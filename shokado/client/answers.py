"""What the server answers, as frozen values.

Numbers are float unless they count something. None stands for what is not known, or not there. The API's
own description, `/docs` of the server, says more of each field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Prediction:
    """The scores of all rows of a request, which one version made."""

    predictions: Sequence[Any]
    """One for each row: the probability of the positive class (binary), of each class (multiclass) or of the second
    class of each label (multilabel), a value, a list of several values, or what a decision function gives.
    """
    version: str
    reason: str
    """Why this version: SPLIT, STICKY, OUTSIDE_LAYER, PINNED, ACTIVE or FALLBACK."""
    generation: int
    """The generation of the routing that decided."""
    request_id: str
    prediction_id: str
    """What names the prediction in feedback."""
    latency_ms: float
    """How long the server took."""
    classes: Sequence[Any] | None = None
    """Classifiers' label of each row, or a list of its several ones; None for values."""


@dataclass(frozen=True, slots=True)
class RowExplanation:
    """What each feature contributed to the score of one row.

    Every number is a list, in the order of `ExplanationAnswer.outputs`, where a row has several scores.
    """

    prediction: Any
    """The score, as `predict` gives it."""
    explained: Any
    """What the base and all contributions add up to: the score, or on the scale `margin` what the link makes it of."""
    contributions: Mapping[str, Any]
    """By feature."""
    standard_errors: Mapping[str, Any] | None = None
    """How far sampled contributions lie from exact ones; None for exact ones."""


@dataclass(frozen=True, slots=True)
class ExplanationAnswer:
    """Why the rows of a request have their scores, by one version."""

    explanations: tuple[RowExplanation, ...]
    base: Any
    """What is explained where no feature is known."""
    method: str
    """`trees` and `enumerated`, which are exact, or `sampled`."""
    scale: str
    """What contributions add up to: `probability`, `value`, `decision` or `margin`."""
    version: str
    reason: str
    generation: int
    request_id: str
    latency_ms: float
    classes: Sequence[Any] | None = None
    """Classifiers' label of each row, as it is predicted; None for values."""
    link: str | None = None
    """What makes the score of a margin: `logistic`, `softmax` or `exponential`."""
    background_rows: int | None = None
    """How many rows of the version's data stood for features that are not known; None where its trees know."""
    outputs: Sequence[Any] | None = None
    """The classes or outputs that lists of numbers are of."""


@dataclass(frozen=True, slots=True)
class EnvironmentContent:
    """The routing of one environment."""

    active: str
    weights: Mapping[str, float]
    shares: Mapping[str, float]
    """Part of the traffic, between 0 and 1, of each version that gets any."""
    strategy: str
    enabled: bool
    salt: str
    shadow: str | None
    layer: Mapping[str, Any] | None = field(default=None, kw_only=True)
    """The units that the split is for: `name`, `from` and `to` of a part of a layer, and who answers all others
    (`outside`); None: all.
    """


@dataclass(frozen=True, slots=True)
class Split(EnvironmentContent):
    """The routing of one environment, and the generation that it is of."""

    environment: str
    generation: int
    percent: Mapping[str, float]
    updated_at: datetime
    by: str
    action: str
    why: str


@dataclass(frozen=True, slots=True)
class Change:
    """A field as it was, and as it became."""

    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One generation of the routing."""

    generation: int
    at: datetime
    by: str
    action: str
    why: str
    environments: Mapping[str, EnvironmentContent]
    changed: Mapping[str, Mapping[str, Change]] | None
    """What changed against the generation before, by environment and field."""
    versions: Sequence[str] | None
    """Loaded, unloaded, or on their way since the generation before."""


@dataclass(frozen=True, slots=True)
class History:
    """A page of the history, newest first."""

    entries: tuple[HistoryEntry, ...]
    told_at: datetime
    """When it was told, by the server's clock, to the second."""


@dataclass(frozen=True, slots=True)
class Move:
    """Units that a change of the split would give another version."""

    before: str
    after: str
    units: int
    share: float
    """Part of the units that were looked at."""
    examples: Sequence[str]
    """Some of them."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Which units a change of the split would move."""

    environment: str
    generation: int
    """The generation that the change was compared with."""
    shares_before: Mapping[str, float]
    shares_after: Mapping[str, float]
    units: int
    """How many were looked at."""
    made_up: bool
    """Whether the units are a sample of made-up ones."""
    moved: int | None
    """How many would get another version; None where each request is drawn, before or after."""
    moves: tuple[Move, ...]
    """Most frequent first."""
    stay: Mapping[str, int] | None
    """How many would stay with each version; None like `moved`."""


@dataclass(frozen=True, slots=True)
class RecentMove:
    """Requests that a change of the split would have given another version."""

    before: str
    after: str
    share: float
    """Part of the requests."""
    units: int
    """Different units of these requests, in the sample."""


@dataclass(frozen=True, slots=True)
class MovedShare:
    """Which part of the requests would have got another version, and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RecentPreview:
    """Which of the requests of the last minutes a change of the split would have moved."""

    environment: str
    generation: int
    """The generation that the change was compared with."""
    seconds: float
    """How far back the requests reach."""
    requests: int
    sampled: int
    """How many of them were looked at."""
    units: int
    """Different units in the sample."""
    workers: int
    pinned: float
    """Part of the requests that named a version, which no change moves."""
    dealt_anew: bool
    """Whether the change deals all units out anew, so that who moves is an example of it."""
    traffic_before: Mapping[str, float]
    """Part of the requests, by version."""
    traffic_after: Mapping[str, float]
    moved: MovedShare | None
    """None where nothing was answered, or each request is drawn, before or after."""
    moves: tuple[RecentMove, ...]
    """Most frequent first."""


@dataclass(frozen=True, slots=True)
class GuardrailAnswer:
    """What is said of a guardrail; `by` and `level` say of rows of which level, where it is not of all."""

    metric: str
    state: str
    """`kept` or `broken`, for sure; `beyond` (seen beyond it, which may be chance), or `unknown` (not seen beyond it,
    which may be chance as well, or nothing was seen yet).
    """
    reason: str
    by: str | None = None
    level: str | None = None


@dataclass(frozen=True, slots=True)
class ExperimentVersion:
    """What was seen of a version in an experiment."""

    assigned: int
    """Units or requests that it got; of a sample, where there are many units."""
    observations: int
    """How many values of the metric there are."""
    mean: float | None
    effect: float | None
    """Its mean less the control's; None of the control itself."""
    low: float | None
    high: float | None
    """Ends of the confidence sequence of the effect; None where nothing can be said."""
    reason: str | None = None
    """What is said of it while the experiment is under way."""
    guardrails: tuple[GuardrailAnswer, ...] | None = None
    """What is said of a candidate's guardrails, meanwhile."""


@dataclass(frozen=True, slots=True)
class EffectCurve:
    """The effect of a candidate at each time; None where nothing can be said."""

    estimate: Sequence[float | None]
    low: Sequence[float | None]
    high: Sequence[float | None]
    observations: Sequence[int]
    """How many of the candidate there are, up to each time."""


@dataclass(frozen=True, slots=True)
class Effects:
    """The confidence sequences of an experiment's effects."""

    id: str
    at: Sequence[float]
    """Unix seconds, ascending: what was predicted before counts, and has its labels."""
    candidates: Mapping[str, EffectCurve]


@dataclass(frozen=True, slots=True)
class ExperimentAnswer:
    """An experiment, under way or ended."""

    id: str
    environment: str
    control: str
    candidates: Sequence[str]
    started_at: datetime
    ends_at: datetime
    """When it ends at the latest."""
    ended_at: datetime | None
    running: bool
    verdict: str
    """RUNNING, PROMOTE, HOLD, ROLLBACK, INVALID or STOPPED."""
    reason: str
    winner: str | None
    versions: Mapping[str, ExperimentVersion]
    plan: Mapping[str, Any] = field(default_factory=dict)
    """What it is judged by, as it was begun."""
    pairs: Mapping[str, int] = field(default_factory=dict)
    """What became of the requests that a shadow is compared on: `sampled`, `scored`, `failed` and `no_room`, and of
    their labels: `labels`, `joined` and `let_go`; empty for other experiments, and after the end.
    """


@dataclass(frozen=True, slots=True)
class ExperimentList:
    """Experiments under way first, then those that ended, the last one first."""

    experiments: tuple[ExperimentAnswer, ...]


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """What became of one piece of feedback."""

    status: str
    """`accepted`, `duplicate` (it counted before), or why it was rejected."""
    reason: str | None = None
    version: str | None = None
    """The version that made the prediction."""


@dataclass(frozen=True, slots=True)
class FeedbackAnswer:
    """How many pieces of feedback were taken, and what became of each, in order."""

    accepted: int
    duplicate: int
    rejected: int
    results: tuple[FeedbackResult, ...]


@dataclass(frozen=True, slots=True)
class Feature:
    """A column that a version takes."""

    name: str
    type: str = "float"
    description: str = ""
    nullable: bool = False
    """Whether a value may be missing."""
    levels: tuple[str, ...] = ()
    """Those of a category that comes as text."""
    other: bool = False
    """Whether any other level is taken as well."""
    precision: str = "float32"
    """What its numbers need, `float32` or `float64`; rows are packed as float64 where one feature needs that."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version takes and gives."""

    task: str
    """`binary`, `multiclass`, `regression`, `multioutput`, `multilabel`, `binary_margin`, `multiclass_margin`,
    `multilabel_margin` or `anomaly`.
    """
    features: tuple[Feature, ...]
    classes: Sequence[int | str]
    outputs: Sequence[str] = ()
    """What each of several values, or labels, a row is called, in their order."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a version came from."""

    uri: str
    run_id: str
    flavor: str
    framework: str


@dataclass(frozen=True, slots=True)
class Quantization:
    """What the weights became, and how near the version is to the one that it was made of, its parent."""

    method: str
    parent: str
    """Its tag in the BentoML model store."""
    parent_digest: str
    size_bytes: int
    parent_size_bytes: int
    times_faster: float
    """The median over sizes of batches, on the machine where it was made."""
    rows: int
    """How many were compared."""
    rows_from: str
    same_labels: float | None
    """Share of the rows with the parent's label; None for values."""
    mean_abs_difference: float
    max_abs_difference: float


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a version's artefact."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Loading:
    """An artefact that is being made ready, aside, to become the version."""

    state: str
    failure: str | None
    tag: str
    source: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version, as the worker has it that was asked."""

    version: str
    ready: bool
    state: str
    active_in: Sequence[str]
    """Environments whose active version it is."""
    weights: Mapping[str, float]
    """Share of each environment's traffic, between 0 and 1."""
    shadow_in: Sequence[str]
    aliases: Sequence[str]
    failure: str | None = None
    loading: Loading | None = None
    digest: str | None = None
    last_used_at: float | None = None
    """When the worker used it last, in Unix seconds."""
    engine: str | None = None
    placement: str | None = None
    address: str | None = None
    model: str | None = None
    source: Source | None = None
    size_bytes: int | None = None
    signature: Signature | None = None
    metrics: Mapping[str, float] | None = None
    """What was measured on held-out rows when it was trained."""
    max_abs_difference: Mapping[str, float] | None = None
    quantized: Quantization | None = None
    reference: ModelFile | None = None
    """What rows and scores were like when it was made, if that is kept."""


@dataclass(frozen=True, slots=True)
class VersionExamples:
    """Rows of a version, and what it must answer for them."""

    version: str
    digest: str
    rows: Sequence[Mapping[str, Any]]
    """By feature name."""
    predictions: Sequence[Any] | None
    """As its framework gave them; None where only another server has the version's artefact."""
    tolerance: Sequence[float]
    """By how much a prediction may differ: one number, or one for each of several values a row."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker of any machine, by its last report."""

    worker: str
    machine: str
    pid: int
    generation: int
    age_s: float
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OptionalFeature:
    """A feature that not every version takes, and those that do."""

    name: str
    versions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Versions:
    """All versions, the generation that they were read at, and the workers that live."""

    generation: int
    versions: tuple[Version, ...]
    workers: tuple[WorkerState, ...] | None
    optional_features: tuple[OptionalFeature, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version after it was loaded or unloaded, and the generation since when."""

    generation: int
    version: Version


@dataclass(frozen=True, slots=True)
class Spread:
    """A measured quantity."""

    count: int
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many rows had a score above the bucket before, and up to `up_to`."""

    up_to: float | None
    rows: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What was predicted: scores by bucket, or rows by their likeliest class."""

    rows: int
    mean: float | None = None
    buckets: tuple[Bucket, ...] = ()
    classes: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, tuple[Bucket, ...]] = field(default_factory=dict)
    """The first of several values a row, by name and bucket."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened to a version in all workers of the server."""

    seconds: float
    """Real length of the window."""
    requests: int
    request_rate_per_s: float
    rows: int
    errors: int
    errors_by_kind: Mapping[str, int]
    error_rate: float | None
    cancelled: int
    latency_ms: Spread
    queue_wait_ms: Spread
    batch_rows: Spread
    batches_by_release: Mapping[str, int]
    engine_seconds: float
    engine_utilization: float
    predictions: Scores


@dataclass(frozen=True, slots=True)
class Process:
    """A worker process of the server."""

    pid: int
    memory_bytes: int
    cpu_seconds: float
    cpu_utilization: float


@dataclass(frozen=True, slots=True)
class Proportion:
    """A mean of numbers between 0 and 1, with the interval that has the true one in 95 of 100 cases."""

    value: float
    low: float
    high: float
    observations: int


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """How well a version does, of all environments and machines."""

    requests: int
    rows: int
    on_time: int
    failed: int
    feedback: int
    labels: int
    accuracy: Proportion | None
    conversion: Proportion | None
    mean_squared_error: float | None
    label_coverage: float | None
    mean_delay_s: float | None


@dataclass(frozen=True, slots=True)
class LevelRate:
    """A rate of one level of a feature; without observations, all that it could be."""

    observations: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """The true rate lies between, with all others of the answer, in 95 of 100 cases; None: anywhere."""


@dataclass(frozen=True, slots=True)
class LevelReport:
    """How a version did on the rows of one level."""

    level: str
    feedback: int
    labels: int
    rates: Mapping[str, LevelRate]


@dataclass(frozen=True, slots=True)
class RateSpread:
    """How far apart a rate is between levels."""

    verdict: str
    """`WITHIN` the limit, `BEYOND` it, or `UNKNOWN`."""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    lowest: str | None = None
    """The level with the smallest rate."""
    highest: str | None = None


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """How a version did on each level of a feature, of the predictions that feedback came for."""

    by: str
    levels: tuple[LevelReport, ...]
    unseen: tuple[str, ...]
    spreads: Mapping[str, RateSpread]
    limit: float
    error_rate: float
    intervals: int


@dataclass(frozen=True, slots=True)
class VersionMetrics:
    """How a version is served, since the server started and recently, and how well it predicts."""

    version: str
    generation: int
    shared: bool
    since_start: Figures
    recent: Figures
    processes: tuple[Process, ...]
    quality: VersionFigures | None
    quality_hours: float
    segments: SegmentReport | None = None
    """None where `by` was not asked for."""


@dataclass(frozen=True, slots=True)
class DriftCell:
    """Values of a kind, and how large a part of the rows has one."""

    kind: str
    """`level`, `other`, `below`, `bin`, `above`, `infinite` or `missing`."""
    reference: float
    served: float | None = None
    level: str | None = None
    up_to: float | None = None
    """Upper bound of a bin."""


@dataclass(frozen=True, slots=True)
class Distance:
    """A divergence of served rows from the reference, and the interval that has the true one."""

    value: float
    low: float
    high: float
    by_chance: float
    """What the value is on average without drift."""


@dataclass(frozen=True, slots=True)
class UnknownLevels:
    """Texts that are no level of a feature: rows that had one, and requests that were refused for one."""

    rows: int
    refused_requests: int


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """A feature or a score."""

    verdict: str
    """`none`, `drift` or `too few rows`."""
    missing: DriftCell
    cells: tuple[DriftCell, ...]
    psi: Distance | None = None
    """Population stability index; None while there are too few rows."""
    jensen_shannon: Distance | None = None
    """In bits; likewise."""
    groups: int | None = None
    unknown_levels: UnknownLevels | None = None


@dataclass(frozen=True, slots=True)
class ReferenceTold:
    """What a version was made of."""

    rows: int
    scored_rows: int
    origin: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class VersionDrift:
    """Whether what is served is still like what a version was made of."""

    version: str
    window: str
    verdict: str
    """`none`, `drift`, `too few rows`, or `not watched`, of which `note` says why."""
    note: str
    seconds: float
    rows_seen: int
    rows: int
    """Counted rows: all that were seen, or a sample."""
    threshold: float
    error_rate: float
    drifted: tuple[str, ...]
    """Features and scores that have drifted."""
    features: Mapping[str, ColumnDrift]
    scores: Mapping[str, ColumnDrift]
    not_watched: tuple[str, ...]
    reference: ReferenceTold | None = None
