"""Everything that can be set, as one frozen value: `serving.yaml`, overridden by `SHOKADO_*` variables.

In: the file beside this module (or the one `SHOKADO_CONFIG` names) and the environment. Out: `Settings`, or a
`SettingsError` whose message names each wrong key, what is wrong with it, and the nearest key that exists.
A nested key is spelled with two underscores: `SHOKADO_VERSIONS__V1__PLACEMENT=service`.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, get_args, get_origin
from urllib.parse import quote, urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from configuration.batch_settings import BatchSettings
from configuration.cpus import available_cpus
from configuration.credentials import check_credentials, without_credentials
from configuration.drift_settings import DriftSettings
from configuration.experiment_policy import ExperimentMetric, Guardrail
from configuration.explanation_settings import ExplanationSettings
from configuration.feature_settings import FeatureSettings
from configuration.frozen import FrozenSettings
from configuration.log_settings import LogSettings, SinkSettings
from configuration.logging_settings import LoggingSettings
from configuration.overridden_settings import OverriddenSettings
from configuration.port import Port, check_port
from configuration.retraining_settings import RetrainingSettings
from configuration.segment_settings import FeatureSegments, SegmentSettings
from configuration.sentinel_address import SentinelAddress
from configuration.tracing_settings import TracingSettings

DEFAULT_FILE = Path(__file__).with_name("serving.yaml")
PREFIX = "SHOKADO_"
MAX_WORKERS = 256
"""A mistyped number must not start thousands of processes."""
MAX_SALT_CHARACTERS = 128
"""A salt is a name for people to read, and is in every state that the store keeps."""
FILE_VARIABLE = PREFIX + "CONFIG"
SITES_VARIABLE = PREFIX + "SITES"
SITES_FILE_VARIABLE = PREFIX + "SITES_FILE"
"""These two are of `configuration.sites`, which a server does not read."""
_FIRST_OF_ROUTES = frozenset(("ab-test", "api", "model", "models", "predict", "static_content", "v1", "v2"))
"""What paths of routes with several parts begin with: behind such a prefix, nobody could tell which is meant."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""Versions, aliases, environments and models: what a BentoML tag and a metric label both accept."""


def _network(value: Any) -> Any:
    """Read by `ipaddress` itself, whose errors are one line; pydantic's name both kinds of network."""
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}; a network is written as 10.0.0.0/8, one machine as 10.1.2.3") from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


def _check_address(url: str) -> str:
    """The address. Raises `ValueError`, also where a Redis database is no number, which its client would take for 0."""
    if SentinelAddress.read(url) is not None:
        return url
    parts = urlsplit(check_port(check_credentials(url)))
    if parts.scheme.startswith("redis") and not re.fullmatch(r"/?|/[0-9]+", parts.path):
        raise ValueError(f"{parts.path[1:]!r} is no number of a Redis database, as the 0 in redis://host:6379/0")
    return url


def _check_form(value: Any) -> Any:
    """What becomes of an address on its way out of a Secret or a file of variables, in words that repeat none of it."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError(f"is blank; {_ADDRESS_FORM}")
    if re.search(r"[\r\n]", value):
        commands = "kubectl create secret generic NAME --from-literal=KEY=VALUE, or printf %s VALUE"
        raise ValueError(f"holds a line's end, as echo makes one; write it with {commands}")
    if value != value.strip():
        raise ValueError(f"begins or ends with a space; {_ADDRESS_FORM}")
    if value[0] in "'\"":
        raise ValueError(f"begins with a quotation mark, which is a part of it here; {_ADDRESS_FORM}, without quotes")
    if "://" not in value:
        raise ValueError(f"has no scheme; {_ADDRESS_FORM}")
    return value


_ADDRESS_FORM = "an address is written as redis://host:6379/0"
RedisUrl = Annotated[
    str, BeforeValidator(_check_form), Field(pattern=r"^rediss?://.+$"), AfterValidator(_check_address)
]
StoreUrl = Annotated[
    str,
    BeforeValidator(_check_form),
    Field(pattern=r"^(sqlite:///.+|rediss?(\+sentinel)?://.+)$"),
    AfterValidator(_check_address),
]


class SettingsError(Exception):
    """The configuration cannot be used; the message has one line for each wrong key, and no credentials."""

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(message))


class EngineChoice(StrEnum):
    AUTO = "auto"
    XGBOOST = "xgboost"
    ONNXRUNTIME = "onnxruntime"


class Placement(StrEnum):
    EMBEDDED = "embedded"
    SERVICE = "service"
    REMOTE = "remote"


class Strategy(StrEnum):
    """How a request gets its version; see `shokado.dispatch.assignment`."""

    RANDOM = "random"
    HASH = "hash"
    WEIGHTED = "weighted"


class PredictMethod(StrEnum):
    """What an MLflow client gets of a classifier: what its `predict` gives, or each class's probability."""

    PREDICT = "predict"
    PREDICT_PROBA = "predict_proba"


class CacheBackend(StrEnum):
    OFF = "off"
    MEMORY = "memory"
    REDIS = "redis"


class FarSideSettings(FrozenSettings):
    """How a version is asked that does not run in this process; see `runners.placements.remote`."""

    timeout_s: float = Field(default=10, gt=0, le=600)
    """Seconds that one batch may take, if its requests' deadlines leave as much."""
    connect_ms: float = Field(default=100, ge=1, le=60_000)
    """Time to make a connection: where packets are dropped, nothing else tells that nobody is there."""
    eject_after_failures: int = Field(default=5, ge=1, le=1000)
    """Failures in a row after which the version gets nothing for a while, and the active version answers."""
    eject_at_failure_share: float = Field(default=0.5, gt=0, le=1)
    """Share of failed batches that ejects as well, over ten seconds with at least 20 batches."""
    eject_for_s: float = Field(default=5, gt=0, le=300)
    """How long the first ejection lasts; each that follows soon lasts twice as long as the last, up to five minutes."""


class ServiceSettings(FarSideSettings):
    """A version in processes of its own, beside the workers of this server."""


class RemoteSettings(FarSideSettings):
    """A version behind another server of the Open Inference Protocol, version 2; see `runners.placements.remote`.

    One that `shokado models connect` has put into the store is behind MLflow's scoring server, or MLServer.
    """

    url: str
    """The server's address up to `/v2`, or up to MLflow's `/invocations`, without credentials, as everybody who may
    predict can read it."""
    model: str = Field(default="{model}", min_length=1)
    """The model's name at that server; `{model}` is our model's. MLflow's has one model, and no name for it."""
    version: str | None = Field(default="{version}", min_length=1)
    """The version's name at that server; `{version}` is our version's. None: the server chooses."""
    key_file: str | None = None
    """A file with the key that is shown as `X-API-Key`, relative to the project; read again every few seconds."""
    output: str | None = Field(default=None, min_length=1)
    """Name of the output with the scores; unset: `predictions`, or the only one that has numbers."""
    connections: int = Field(default=4, ge=1, le=256)
    """Batches that each worker may have under way at once."""

    @property
    def address(self) -> str:
        """The address of the model, or of its version, that is asked."""
        name = f"{self.url.rstrip('/')}/v2/models/{quote(self.model, safe='')}"
        return name if self.version is None else f"{name}/versions/{quote(self.version, safe='')}"

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if "@" in url:
            # Not repeated: whoever reads the log needs no password.
            raise ValueError("an address with credentials or @ in it; a key belongs into key_file")
        if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", url):
            raise ValueError(f"{url!r} is no address of a server, such as http://shokado-v1:3000")
        return check_port(url)


class VersionSettings(FrozenSettings):
    """How one version is served."""

    tag: str | None = Field(default=None, pattern=r"^[a-z0-9._-]+:[a-z0-9._-]+$")
    """BentoML model tag of the artefact; unset: `<model>:<version>`."""
    engine: EngineChoice = EngineChoice.AUTO
    placement: Placement = Placement.EMBEDDED
    workers: int = Field(default=1, ge=1, le=64)
    """Processes of the version's own service; only with `placement: service`."""
    service: ServiceSettings | None = None
    """How the version's processes are asked; only with `placement: service`."""
    remote: RemoteSettings | None = None
    """Where the version is; with `placement: remote`, and only then."""
    aliases: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _each_goes_with_its_placement(self) -> Self:
        if self.placement is Placement.REMOTE and self.remote is None:
            raise ValueError("placement is remote, so remote.url must be the server's address")
        if self.placement is not Placement.REMOTE and self.remote is not None:
            raise ValueError(f"remote is for versions with placement: remote; placement is {self.placement}")
        if self.placement is not Placement.SERVICE and self.service is not None:
            raise ValueError(f"service is for versions with placement: service; placement is {self.placement}")
        return self


def lone_weight(weights: Mapping[str, float], other: str = "") -> str | None:
    """What is wrong with the weight of one version alone, unless that is 100 or 1; None where nothing is.

    Weights count relative to their sum, so that `{"v2": 20}` would give v2 everything, which is hardly what is meant.
    `other` is a version that could get the rest.
    """
    if len(weights) != 1:
        return None
    ((version, weight),) = weights.items()
    if weight in (1, 100):
        return None
    whole = 1 if weight < 1 else 100
    rest = f'{{"{other}": {whole - weight:g}, "{version}": {weight:g}}}' if other and weight < whole else ""
    part = f"{rest} for {100 * weight / whole:g} %, " if rest else ""
    alone = f"{version} is the only version with a weight, so it would get 100 % of the traffic, not {weight:g}"
    return f'{alone}: write {part}{{"{version}": 100}} for all of it'


class EnvironmentSettings(FrozenSettings):
    """What answers in one environment until somebody changes the split."""

    active: Name
    weights: dict[Name, float]
    strategy: Strategy = Strategy.RANDOM
    enabled: bool = True
    salt: str = Field(default="", max_length=MAX_SALT_CHARACTERS)
    """What the `hash` strategy mixes units with; empty: `<model>/<environment>`."""
    shadow: Name | None = None

    @field_validator("weights")
    @classmethod
    def _can_be_drawn_from(cls, weights: dict[str, float], beside: ValidationInfo) -> dict[str, float]:
        for version, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weight of {version} is {weight}; weights are finite and not negative")
        if not sum(weights.values()) > 0:
            raise ValueError("at least one weight must be above 0")
        active = beside.data.get("active", "")
        if fault := lone_weight(weights, active if active not in weights else ""):
            raise ValueError(fault)
        return weights


class BatchingSettings(FrozenSettings):
    """The adaptive batcher of each version."""

    latency_target_ms: float = Field(default=10, gt=0, le=10_000)
    max_batch_rows: int = Field(default=4096, ge=1, le=1_000_000)
    max_queue_ms: float = Field(default=1000, gt=0, le=60_000)
    """The longest wait that is accepted, which a burst may cause."""
    standing_queue_ms: float = Field(default=100, gt=0, le=60_000)
    """The longest wait that is accepted while the queue does not become shorter."""
    max_queue_requests: int = Field(default=50_000, ge=1, le=10_000_000)
    """Jobs that one version may have waiting in one worker: a bound of memory, whatever the engine's pace."""
    inline_ms: float = Field(default=2, ge=0, le=1000)
    max_run_s: float = Field(default=10, ge=0.1, le=3600)
    """Seconds after which a batch in the engine is interrupted and fails; until it is back, the version is away."""


class LimitSettings(FrozenSettings):
    """What one request may ask for, and how many clients may be connected."""

    max_rows: int = Field(default=10_000, ge=1, le=1_000_000)
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024, le=2**30)
    """Size of one request, and of what a compressed one becomes."""
    max_receiving_bytes: int | None = Field(default=None, ge=1024, le=2**40)
    """Size of all bodies together that have not wholly arrived at one worker; unset: four times `max_body_bytes`."""
    max_header_bytes: int = Field(default=64 * 2**10, ge=1024, le=2**20)
    max_text_characters: int = Field(default=100_000, ge=1, le=10_000_000)
    """Length of one text, for models that take one."""
    request_timeout_s: float = Field(default=30, gt=0, le=86_400)
    """Time from a request's first byte to its last; a client must take its answer as readily."""
    max_connections: int = Field(default=10_000, ge=1, le=1_000_000)
    """Connections of one worker."""
    max_connection_age_s: float = Field(default=300, ge=1, le=2_000_000)
    """Age after which a connection's next answer is its last, give or take a fifth; not of clients on this machine.

    Over gRPC, which tells its clients to connect anew by itself, also of those.
    """

    @property
    def receiving_bytes(self) -> int:
        return self.max_receiving_bytes or 4 * self.max_body_bytes

    @model_validator(mode="after")
    def _the_largest_body_can_arrive(self) -> Self:
        if self.receiving_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_receiving_bytes is {self.max_receiving_bytes}, less than one body may have: "
                f"max_body_bytes is {self.max_body_bytes}"
            )
        return self


class ShutdownSettings(FrozenSettings):
    """What happens after SIGTERM; see `shokado.worker.stopping`."""

    pause_s: float = Field(default=0, ge=0, le=600)
    """How long requests are answered as before, while readiness says 503 already."""
    drain_s: float = Field(default=20, gt=0, le=3600)
    """How long connections may then take to end."""


class LoadingSettings(FrozenSettings):
    """What may be loaded into a running server, and how much of it."""

    registry: bool = True
    """Whether an address of the MLflow registry may be loaded, and not only a tag of the BentoML model store."""
    max_versions_in_memory: int = Field(default=8, ge=1, le=64)
    max_version_bytes: int = Field(default=2**30, ge=1)
    """Size of one version's model files."""
    timeout_s: float = Field(default=180, gt=0, le=3600)
    """Time for the whole of a load: fetching, converting, verifying, and getting ready in every worker.

    As long a version may take to get ready when a server starts; one that takes longer has failed, and others serve.
    """
    max_trial_bytes: int = Field(default=2**32, ge=2**20)
    """Memory that a version may take in the process in which it is imported, and in the one in which it is tried before
    any worker opens it."""


class FeedbackSettings(FrozenSettings):
    """Labels and rewards for predictions."""

    max_age_hours: float = Field(default=168, gt=0, le=8760)
    """How long after a prediction its feedback is taken; for so long ids are remembered, so that none counts twice."""
    window_hours: float = Field(default=24, gt=0, le=8760)
    """What the figures per version look back on."""
    max_entries: int = Field(default=10_000, ge=1, le=1_000_000)
    """Entries of one list."""
    secret_file: str | None = None
    """What seals prediction ids, in place of a secret that the store keeps; read at the start."""


COUNTED_LIMITS = (ExperimentMetric.ERROR_RATE, ExperimentMetric.SLOW_SHARE)
"""What a version of a `weighted` split can be held to, by what workers count of all requests."""


class WeightedSettings(FrozenSettings):
    """How the `weighted` strategy moves the split towards the better version; see `shokado.experiments.thompson`."""

    update_every_s: float = Field(default=60, ge=0.1, le=86_400)
    min_share: float = Field(default=0.05, ge=0, le=0.5)
    """Part of the traffic that every version of the split keeps."""
    max_step: float = Field(default=0.1, gt=0, le=1)
    """The most by which one update may change a version's part of the traffic."""
    min_change: float = Field(default=0.01, ge=0, le=1)
    """Updates that would change no version's part by as much are left out."""
    half_life_s: float = Field(default=3600, ge=60)
    """Age at which an observation counts half."""
    latency_target_ms: float = Field(default=50, gt=0)
    """Latency up to which an answer is a success where there is no feedback."""
    guardrails: tuple[Guardrail, ...] = Field(default=(), max_length=2)
    """Limits of `error_rate` and `slow_share`: a version that is surely past one is given `min_share`, at once."""
    guardrail_hold_s: float = Field(default=3600, ge=60, le=86_400)
    """How long it keeps that at least, and until the requests of as many seconds are within the limit."""

    @field_validator("guardrails")
    @classmethod
    def _are_counted(cls, guardrails: tuple[Guardrail, ...]) -> tuple[Guardrail, ...]:
        for guardrail in guardrails:
            if guardrail.metric not in COUNTED_LIMITS:
                known = " and ".join(COUNTED_LIMITS)
                raise ValueError(f"{guardrail.metric} is not counted for the split as it moves; {known} are")
            if guardrail.margin is not None:
                raise ValueError(f"a split that moves has no control to be worse than: give {guardrail.metric} a limit")
        if len({guardrail.metric for guardrail in guardrails}) < len(guardrails):
            raise ValueError("two guardrails have the same metric")
        return guardrails

    @model_validator(mode="after")
    def _what_is_past_a_limit_can_come_back(self) -> Self:
        if self.guardrails and self.min_share == 0:
            raise ValueError("with guardrails, min_share must be above 0: a version without traffic never comes back")
        return self


class ShadowSettings(FrozenSettings):
    """Copies of the traffic whose answers nobody sees."""

    cpu_share: float = Field(default=0.05, gt=0, le=1)
    """Part of each worker's time that shadow copies may take."""
    max_waiting_rows: int = Field(default=1024, ge=1, le=100_000)
    """Rows that copies may have waiting; copies beyond them are dropped."""
    max_kept_requests: int = Field(default=100_000, ge=1_000, le=10_000_000)
    """Requests of an experiment whose shadow scores wait in the store for labels, of all workers together."""


class CacheSettings(FrozenSettings):
    """Answers to rows that were scored before."""

    backend: CacheBackend = CacheBackend.OFF
    url: RedisUrl | None = None
    """The Redis to keep answers in; better not the store's, which must not forget what a cache may."""
    ttl_s: float = Field(default=60, gt=0, le=86_400)
    max_bytes: int = Field(default=64 * 2**20, ge=1024)
    """Memory that one worker's answers may take; in Redis, the server's own `maxmemory` is the bound."""
    max_rows: int = Field(default=16, ge=1)
    """Requests with more rows are not kept."""

    @field_validator("backend", mode="before")
    @classmethod
    def _yaml_reads_off_as_false(cls, value: Any) -> Any:
        return CacheBackend.OFF if value is False else value

    @model_validator(mode="after")
    def _a_redis_is_named(self) -> Self:
        if self.backend is CacheBackend.REDIS and self.url is None:
            raise ValueError("backend is redis, so url must be one's address: redis://host:port/db")
        return self


class RateSettings(FrozenSettings):
    """How many requests are taken, such as `200/second; 5000/minute`. Each prediction request counts as one."""

    per_key: str | None = None
    per_address: str | None = None
    """Rate of a client's address, with or without a key; an IPv6 network of 64 bits counts as one."""
    url: RedisUrl | None = None
    """A Redis in which all workers of all machines count together; without one, each worker counts for itself."""

    @property
    def on(self) -> bool:
        return self.per_key is not None or self.per_address is not None

    @field_validator("per_key", "per_address")
    @classmethod
    def _limits_can_be_read(cls, value: str | None) -> str | None:
        if value is not None:
            from limits import parse_many

            try:
                parse_many(value)
            except ValueError:
                message = f"{value!r} is no list of limits, such as 200/second; 5000/minute"
                raise ValueError(message) from None
        return value


class CorsSettings(FrozenSettings):
    """The other sites whose pages may ask from browsers."""

    origins: tuple[str, ...] = ()
    """Sites such as `https://app.example.com`, or `*` for all; empty: browsers refuse."""
    headers: tuple[str, ...] = (
        "Content-Type", "X-API-Key", "Authorization", "X-Request-ID", "X-Model-Version", "X-Environment", "X-Unit-ID",
        "X-Request-Deadline-Ms", "Inference-Header-Content-Length", "X-Actor", "If-Match", "If-None-Match",
        "traceparent", "tracestate",
    )  # fmt: skip
    """Headers that such pages may send."""

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/?#\s]+", origin):
                raise ValueError(f"{origin!r} is no origin: scheme and host alone, such as https://app.example.com")
        return origins


class AccessSettings(FrozenSettings):
    """Who may ask for what; see `access`."""

    keys_file: str | None = None
    """YAML as `shokado keys create` writes it, relative to the project; without one, predictions are open to
    everybody, and changes to clients on the same machine."""
    required: bool = False
    """Refuse to start without keys; for wherever a proxy stands in front."""
    open_metrics: bool = False
    """Whether `/metrics` is answered without a key where there are keys."""
    rates: RateSettings = RateSettings()
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of proxies whose `X-Forwarded-For` and `Forwarded` are believed."""
    cors: CorsSettings = CorsSettings()

    @model_validator(mode="after")
    def _keys_are_there(self) -> Self:
        if self.required and not self.keys_file:
            raise ValueError("required is true, so keys_file must name a file; shokado keys create makes one")
        return self


class GrpcSettings(FrozenSettings):
    """The gRPC entrance of the Open Inference Protocol."""

    port: Port | None = None
    """The port to listen at; None: there is no gRPC."""
    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0: all of IPv4, [::]: all."""
    max_message_bytes: int | None = Field(default=None, ge=1024, le=2**30)
    """Size of one request; None: `limits.max_body_bytes`."""
    max_concurrent_requests: int = Field(default=1024, ge=1, le=100_000)
    """Requests under way in each worker, beyond which one is refused."""
    max_connections: int = Field(default=1000, ge=1, le=1_000_000)
    """Connections of one worker, beside `limits.max_connections`, beyond which a new one is closed."""
    max_connection_idle_s: float = Field(default=300, ge=1, le=2_000_000)
    """How long a connection may be without a call."""
    keepalive_time_s: float = Field(default=60, ge=1, le=2_000_000)
    """Seconds without anything from a client until it is pinged."""
    keepalive_timeout_s: float = Field(default=20, ge=1, le=3600)
    """Seconds within which a client answers a ping, or its connection is closed."""
    min_ping_interval_s: float = Field(default=0.5, ge=0, le=2_000_000)
    """Seconds between a client's own pings, with and without calls; one that pings more often is disconnected."""
    drain_s: float = Field(default=5, ge=0, le=60)
    """How long a stopping server waits for the answers that are under way."""


class DialectSettings(FrozenSettings):
    """How the dialects answer where their home servers can be had in more ways than one."""

    invocations: PredictMethod = PredictMethod.PREDICT
    """What requests get that do not say it themselves by `{"params": {"predict_method": ".."}}`."""


class Settings(OverriddenSettings):
    """The whole configuration; see `serving.yaml` for what each key does."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    model: Name
    workers: int | Literal["auto"] = "auto"
    express_lane: bool = True
    prefix: str = ""
    """Path that a proxy serves this server under, such as `/shokado`; `X-Forwarded-Prefix` goes before it."""
    versions: dict[Name, VersionSettings] = Field(min_length=1)
    default_environment: Name = "production"
    environments: dict[Name, EnvironmentSettings] = Field(min_length=1)
    batching: BatchingSettings = BatchingSettings()
    limits: LimitSettings = LimitSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    store: StoreUrl = "sqlite:///var/{model}.db"
    """Where the routing state lives: `sqlite:///relative/path`, `sqlite:////absolute/path`, `redis://host:port/db`, or
    `redis+sentinel://host:port,host:port/service/db`, where Sentinels tell which server is the master.
    """
    loading: LoadingSettings = LoadingSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    weighted: WeightedSettings = WeightedSettings()
    shadow: ShadowSettings = ShadowSettings()
    cache: CacheSettings = CacheSettings()
    access: AccessSettings = AccessSettings()
    grpc: GrpcSettings = GrpcSettings()
    log: LogSettings = LogSettings()
    drift: DriftSettings = DriftSettings()
    segments: SegmentSettings = SegmentSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    batches: BatchSettings = BatchSettings()
    explanations: ExplanationSettings = ExplanationSettings()
    features: FeatureSettings = FeatureSettings()
    tracing: TracingSettings = TracingSettings()
    logging: LoggingSettings = LoggingSettings()
    dialects: DialectSettings = DialectSettings()

    @property
    def aliases(self) -> dict[str, str]:
        """What each alias stands for."""
        return {alias: version for version, spec in self.versions.items() for alias in spec.aliases}

    @property
    def worker_count(self) -> int:
        return available_cpus() if self.workers == "auto" else self.workers

    def remote_of(self, version: str) -> RemoteSettings | None:
        """Where a configured version is that has `placement: remote`, the names filled in."""
        remote = self.versions[version].remote if version in self.versions else None
        if remote is None:
            return None
        return remote.model_copy(
            update={
                "model": remote.model.replace("{model}", self.model),
                "version": remote.version and remote.version.replace("{version}", version),
            }
        )

    def log_folder(self, root: Path) -> Path:
        """Where the request log is; `root` is the bundle's folder."""
        return root / self.log.folder.replace("{model}", self.model)

    def batches_folder(self, root: Path) -> Path:
        """Where batches are remembered; `root` is the bundle's folder."""
        return root / self.batches.folder.replace("{model}", self.model)

    def tag_of(self, version: str) -> str:
        """BentoML model tag of a configured version."""
        return self.versions[version].tag or f"{self.model}:{version}"

    @model_validator(mode="before")
    @classmethod
    def _yaml_null_means_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        versions = values.get("versions")
        if isinstance(versions, dict):
            values = values | {"versions": {name: value or {} for name, value in versions.items()}}
        return values

    @field_validator("workers", mode="before")
    @classmethod
    def _a_number_or_auto(cls, value: Any) -> Any:
        if value == "auto" or (str(value).isdecimal() and 1 <= int(value) <= MAX_WORKERS):
            return value
        raise ValueError(f"{value!r} is not allowed; 1 to {MAX_WORKERS} are, or auto")

    @field_validator("prefix")
    @classmethod
    def _is_the_beginning_of_a_path(cls, prefix: str) -> str:
        prefix = prefix.rstrip("/")
        if prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix):
            raise ValueError(f"{prefix!r} is no beginning of a path, such as /shokado")
        if prefix and prefix.split("/")[1] in _FIRST_OF_ROUTES:
            raise ValueError(f"{prefix!r} is how routes of the server itself begin")
        return prefix

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        seen = set(self.versions)
        for version, spec in self.versions.items():
            for alias in spec.aliases:
                if alias in seen:
                    raise ValueError(f"alias {alias} of version {version} is taken")
                seen.add(alias)
        for name, environment in self.environments.items():
            shadow = [environment.shadow] if environment.shadow else []
            for version in (environment.active, *environment.weights, *shadow):
                if version not in self.versions:
                    raise ValueError(f"environment {name} names version {version}, which is not configured")
        masked = sorted({*self.segments.features} & {*self.log.drop, *self.log.hash})
        if masked and self.log.share:
            words = "the prediction ids in the log would tell its level; leave it out of one of both"
            raise ValueError(f"segments.features has {masked[0]}, whose values log.drop or log.hash masks, and {words}")
        if self.retraining.enabled and "drift" in self.retraining.causes and not self.drift.enabled:
            raise ValueError("retraining.causes has drift, of which nothing is known while drift.enabled is false")
        if self.default_environment not in self.environments:
            raise ValueError(f"default_environment is {self.default_environment}, which is not configured")
        return self


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration, of another file where one is named. Raises `SettingsError`."""
    path = path or Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)
    if not path.is_file():
        raise SettingsError(f"{path}: no such file (named by {FILE_VARIABLE})")
    _refuse_unknown_variables()
    content = _read(path)
    _drop_replaced_weights(content)
    try:
        return Settings(**content)
    except UnreadableVariable as error:
        raise SettingsError(_unreadable_variable() or f"{PREFIX}*: {error}: {error.__cause__}") from error
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem, path) for problem in error.errors())) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = yaml.safe_load(file)
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(content, dict | None):
        raise SettingsError(f"{path}: holds a {type(content).__name__}, where keys with values belong")
    return {str(key): value for key, value in (content or {}).items()}


def _drop_replaced_weights(content: dict[str, Any]) -> None:
    """Weights that a variable holds as a whole replace the file's: beside those, `{"v2": 100}` would be half of all."""
    environments = content.get("environments")
    variables = {variable.upper() for variable in os.environ}
    for name, environment in environments.items() if isinstance(environments, dict) else ():
        if isinstance(environment, dict) and f"{PREFIX}ENVIRONMENTS__{name}__WEIGHTS".upper() in variables:
            environment.pop("weights", None)


def _refuse_unknown_variables() -> None:
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    known += [FILE_VARIABLE, SITES_VARIABLE, SITES_FILE_VARIABLE]
    # Kubernetes tells pods of each Service in such variables: SHOKADO_V1_SERVICE_HOST, SHOKADO_V1_PORT_3000_TCP, ..
    links = [variable.removesuffix("SERVICE_HOST") for variable in os.environ if variable.endswith("_SERVICE_HOST")]
    of_links = tuple(link + part for link in links for part in ("SERVICE_", "PORT"))
    for variable in os.environ:
        name = variable.upper().split("__")[0]
        if name.startswith(PREFIX) and name not in known and not variable.startswith(of_links):
            raise SettingsError(f"{variable}: unknown variable{_nearest(name, known)}")


def _unreadable_variable() -> str | None:
    """The variable that should hold JSON and does not, with the form that it should have."""
    for variable, value in sorted(os.environ.items()):
        if not variable.upper().startswith(PREFIX) or variable.upper() == FILE_VARIABLE:
            continue
        path = variable.upper().removeprefix(PREFIX).split("__")
        form = _json_form(Settings, [part.lower() for part in path])
        try:
            json.loads(value)
        except ValueError:
            if form is not None:
                return f"{variable}: {value!r} cannot be read; {form}"
    return None


def _json_form(kind: Any, path: list[str]) -> str | None:
    """How a value is written that lies at `path` below `kind`; None for one that is no list and has no keys."""
    inner = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Annotated or (get_origin(kind) is UnionType and len(inner) == 1):
        return _json_form(inner[0], path)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if path:
            field = kind.model_fields.get(path[0])
            return _json_form(field.annotation, path[1:]) if field is not None else None
    elif get_origin(kind) is dict:
        if path:
            return _json_form(inner[1], path[1:])
    elif get_origin(kind) is tuple:
        return """write a list as JSON: ["first", "second"]"""
    else:
        return None
    return (
        """write keys with their values as JSON: {"key": "value"}, or name one key in a variable of its own, after __"""
    )


def _explain(problem: Any, path: Path) -> str:
    location = [str(part) for part in problem["loc"]]
    where = f"{_origin(location, path)}: {'.'.join(location) or 'settings'}"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(location[-1], _keys_beside(location))}"
    return f"{where}: {re.sub('^Value error, ', '', problem['msg'])}"


def _origin(location: list[str], path: Path) -> str:
    """The variable that sets the value, else the file."""
    variables = {variable.upper(): variable for variable in os.environ}
    spelled = (PREFIX + "__".join(location[:depth]).upper() for depth in range(len(location), 0, -1))
    return next((variables[variable] for variable in spelled if variable in variables), str(path))


def _keys_beside(location: list[str]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "versions": VersionSettings,
        "environments": EnvironmentSettings,
        "batching": BatchingSettings,
        "limits": LimitSettings,
        "shutdown": ShutdownSettings,
        "loading": LoadingSettings,
        "feedback": FeedbackSettings,
        "weighted": WeightedSettings,
        "weighted.guardrails": Guardrail,
        "shadow": ShadowSettings,
        "cache": CacheSettings,
        "access": AccessSettings,
        "access.rates": RateSettings,
        "access.cors": CorsSettings,
        "grpc": GrpcSettings,
        "log": LogSettings,
        "drift": DriftSettings,
        "segments": SegmentSettings,
        "retraining": RetrainingSettings,
        "batches": BatchSettings,
        "explanations": ExplanationSettings,
        "features": FeatureSettings,
        "log.sink": SinkSettings,
        "dialects": DialectSettings,
    }
    if location[0] == "versions" and location[2:-1] == ["remote"]:
        return list(RemoteSettings.model_fields)
    if location[0] == "versions" and location[2:-1] == ["service"]:
        return list(ServiceSettings.model_fields)
    if location[:2] == ["segments", "features"]:
        return list(FeatureSegments.model_fields)
    section = ".".join(part for part in location[:-1] if not part.isdecimal())
    beside = models.get(section) or models.get(location[0], Settings)
    return list((beside if len(location) > 1 else Settings).model_fields)


def _nearest(word: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else f"; known are {', '.join(known)}"
