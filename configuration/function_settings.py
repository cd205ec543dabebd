"""What of the configuration a function of AWS Lambda can keep, where no process, port or timer outlives an answer.

In: settings. Out: a line for each key that would not do what it says, and settings as a function heeds them.
"""

from collections.abc import Collection, Iterator

from configuration.settings import CacheBackend, EngineChoice, Placement, Settings, Strategy, VersionSettings


def obstacles(settings: Settings) -> list[str]:
    """Each is one line that names the key, why a function cannot keep it, and what to set instead."""
    return [*_of_versions(settings), *_of_parts(settings), *_of_environments(settings)]


def is_shared(settings: Settings) -> bool:
    """Whether the function follows a store that others share; else it begins, and goes on, as it is configured."""
    return not settings.store.startswith("sqlite:")


def as_function(settings: Settings, engines: Collection[EngineChoice]) -> Settings:
    """The settings as a function heeds them, in which of the engines only these are installed.

    Nobody else is served while an answer is made, so explanations need not leave time for others.
    """
    choices = {version: _heeded(spec, engines) for version, spec in settings.versions.items()}
    share = {"share": 1.0} if settings.explanations.share else {}
    return settings.model_copy(
        update={"versions": choices, "explanations": settings.explanations.model_copy(update=share)}
    )


def _heeded(spec: VersionSettings, engines: Collection[EngineChoice]) -> VersionSettings:
    alone = spec.engine is EngineChoice.AUTO and EngineChoice.XGBOOST not in engines
    return spec.model_copy(update={"engine": EngineChoice.ONNXRUNTIME}) if alone else spec


def _of_versions(settings: Settings) -> Iterator[str]:
    for version, spec in settings.versions.items():
        if spec.placement is not Placement.EMBEDDED:
            yield (
                f"versions.{version}.placement: {spec.placement}: a function has its versions in itself; "
                "set it to embedded"
            )


def _of_parts(settings: Settings) -> Iterator[str]:
    rates = settings.access.rates
    if settings.grpc.port is not None:
        yield f"grpc.port: {settings.grpc.port}: a function listens nowhere; set it to null"
    if settings.log.share:
        yield f"log.share: {settings.log.share:g}: a function loses its files; set it to 0"
    if settings.tracing.endpoint is not None:
        yield "tracing.endpoint: spans are sent between answers, when a function stands still; set it to null"
    if settings.cache.backend is CacheBackend.REDIS:
        yield 'cache.backend: redis: it is written to after answers; set it to memory, or "off"'
    if settings.features.url is not None:
        yield "features.url: a function asks no transformer; set it to null"
    if settings.segments.features:
        yield "segments.features: the ids that a function makes carry no levels; set it to {}"
    if settings.batches.enabled:
        yield "batches: a function starts no processes; leave it out"
    if settings.retraining.enabled:
        yield "retraining: nobody looks for causes while a function stands still; leave it out"
    if rates.on and rates.url is None:
        yield "access.rates: each copy of a function would count for itself; set access.rates.url, or no rates"


def _of_environments(settings: Settings) -> Iterator[str]:
    for name, environment in settings.environments.items():
        if environment.shadow is not None:
            yield (
                f"environments.{name}.shadow: {environment.shadow}: copies are scored after answers, when a function "
                "stands still; leave it out"
            )
        if environment.strategy is Strategy.WEIGHTED and not is_shared(settings):
            yield (
                f"environments.{name}.strategy: weighted: servers move it, by what is in a store that they share; "
                "set store to their redis://.., or the strategy to random or hash"
            )
