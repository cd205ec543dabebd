"""A Feast repository as the transformer sees it: the features of one feature service, by entity.

In: the folder of `feature_store.yaml`, after `feast apply`. Out: the columns that entities of some names have. Feast
itself tells no reader that a value is older than the `ttl` of its view: that is worked out here.
"""

import contextlib
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from runners.log_throttle import LogThrottle
from shokado.features.feature_wire import FeatureAnswer, FeatureColumn, FeatureQuestion, FeatureValue
from shokado.lifecycle.errors import LifecycleError, MissingPackage

CONFIGURATION = "feature_store.yaml"
INSTALL = "make features"
PROGRAM = "var/features/bin/shokado"
_TYPES = ("INT32", "INT64", "FLOAT32", "FLOAT64", "BOOL", "STRING", "UNIX_TIMESTAMP")
"""What Feast calls the types of features that models take."""
_OF_AN_ENTITY = (ValueError, TypeError, OverflowError)
"""What Feast raises for an entity whose value is none of the entity's type, such as a number that is too large."""
_THERE = (1, 2)
"""Feast's statuses `PRESENT` and `NULL_VALUE`."""

logger = logging.getLogger("shokado.transformer")


class RepositoryError(LifecycleError):
    """The folder is no Feast repository, or none whose features can be served; the message says what is wrong."""


def _full_names(view: str, features: Iterable[str]) -> list[str]:
    return [f"{view}__{feature}" for feature in features]


@dataclass(frozen=True)
class StoredView:
    """A feature view of the online store, as far as the service has it."""

    name: str
    features: tuple[str, ...]
    keys: frozenset[str]
    """Names of entities that its features are stored by."""
    ttl_s: float | None

    @property
    def full_names(self) -> list[str]:
        """What Feast calls the features where views may share names."""
        return _full_names(self.name, self.features)


@dataclass(frozen=True)
class OnDemandView:
    """A view whose features are made when they are asked for."""

    name: str
    features: tuple[str, ...]
    inputs: frozenset[str]
    """Names of values of the request."""
    sources: tuple[StoredView, ...]
    """Stored features that they are made of as well."""

    @property
    def keys(self) -> frozenset[str]:
        return self.inputs.union(*(source.keys for source in self.sources))

    @property
    def full_names(self) -> list[str]:
        """What Feast calls the features where views may share names."""
        return _full_names(self.name, self.features)


@dataclass(frozen=True)
class _Plan:
    """What is asked of Feast for entities of the same names."""

    stored: Sequence[StoredView]
    made: Sequence[OnDemandView]
    sources: Sequence[StoredView]
    """Views that this is made of; asked for as well, for their time."""

    @property
    def views(self) -> list[StoredView | OnDemandView]:
        return [*{view.name: view for view in (*self.sources, *self.stored)}.values(), *self.made]

    def references(self) -> list[str]:
        """The features as Feast calls them."""
        sources = {source.name: source for source in self.sources}
        wanted = {view.name: view.features for view in self.views}
        for name, source in sources.items():
            wanted[name] = tuple(dict.fromkeys((*wanted[name], *source.features)))
        return [f"{name}:{feature}" for name, features in wanted.items() for feature in features]

    def keys_of(self, entities: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """The entities without the names that nothing is known by: Feast refuses those."""
        wanted = {name for view in self.views for name in view.keys}
        return {name: values for name, values in entities.items() if name in wanted}


@dataclass
class FeatureRepository:
    """Reads features; of one thread, as SQLite's connections are. Raises `RepositoryError`."""

    folder: Path
    service: str | None = None
    """Name of the feature service; None: the only one there is."""
    stored: tuple[StoredView, ...] = ()
    made: tuple[OnDemandView, ...] = ()
    store: Any = None
    """Feast's `FeatureStore`."""
    _plans: dict[frozenset[str], _Plan] = field(default_factory=dict)
    _log: LogThrottle = field(default_factory=LogThrottle)

    def __post_init__(self) -> None:
        self.store = open_store(self.folder)
        service = self._found_service()
        self.service = service.name
        stored, made = [], []
        for projection in service.feature_view_projections:
            if projection.name_alias is not None or projection.join_key_map:
                message = f"The feature service {service.name} renames the view {projection.name}, which is not served."
                raise RepositoryError(message)
            names = tuple(self._servable(feature) for feature in projection.features)
            on_demand = self._on_demand(projection.name)
            if on_demand is None:
                stored.append(self._stored(projection.name, names))
            else:
                made.append(self._made(on_demand, names))
        self.stored, self.made = tuple(stored), tuple(made)
        self._refuse_repeated()

    @property
    def views(self) -> list[StoredView | OnDemandView]:
        return [*self.stored, *self.made]

    @property
    def feature_names(self) -> list[str]:
        """All features, as models know them."""
        return [name for view in self.views for name in view.features]

    @property
    def entity_names(self) -> list[str]:
        """The names by which there is anything, in the order in which views have them."""
        return list(dict.fromkeys(key for view in self.views for key in sorted(view.keys)))

    def look_up(self, question: FeatureQuestion) -> FeatureAnswer:
        """The features that there are by these names, of each entity. Raises `ValueError`, and whatever Feast does."""
        entities = question.entities
        count = _length(entities)
        plan = self._plan(frozenset(entities))
        if not count or not plan.views:
            return FeatureAnswer([])
        try:
            columns = self._ask(plan.references(), plan.keys_of(entities))
        # One entity must not fail the others of its batch. Whether it is one shows when they are apart.
        except Exception:
            columns = self._ask_apart(plan, entities, count)
        return FeatureAnswer([*_of_stored(plan.stored, columns), *_of_made(plan.made, columns)])

    def _ask_apart(self, plan: "_Plan", entities: Mapping[str, Sequence[Any]], count: int) -> dict[str, FeatureColumn]:
        """What is stored, and what can be made, of each entity that is good for it.

        Raises what Feast does where its store is away.
        """
        stored = _Plan(plan.stored, (), plan.sources)
        columns = _joined(self._parts(stored, entities, (0, count), _OF_AN_ENTITY)) if stored.views else {}
        for view in plan.made:
            made = _joined(self._parts(_Plan((), (view,), view.sources), entities, (0, count), (Exception,)))
            columns |= {name: made[name] for name in view.full_names}
        return columns

    def _parts(
        self,
        plan: "_Plan",
        entities: Mapping[str, Sequence[Any]],
        span: tuple[int, int],
        faults: tuple[type[Exception], ...],
    ) -> list[dict[str, FeatureColumn]]:
        """Columns of the entities from the first to before the last, in parts.

        Halves are asked for again where the whole fails by one of these faults; an entity that fails alone has nothing.
        """
        start, end = span
        part = {name: values[start:end] for name, values in entities.items()}
        try:
            return [self._ask(plan.references(), plan.keys_of(part))]
        except faults as error:
            if end - start == 1:
                views = ", ".join(view.name for view in plan.views)
                if (left_out := self._log.left_out(views)) is not None:
                    words = "an entity has nothing of %s: %s: %s (%d more since the last)"
                    logger.warning(words, views, type(error).__name__, error, left_out)
                names = [name for view in plan.views for name in view.full_names]
                return [{name: FeatureColumn(name, [None], [False], [0.0]) for name in names}]
        middle = (start + end) // 2
        halves = ((start, middle), (middle, end))
        return [columns for half in halves for columns in self._parts(plan, entities, half, faults)]

    def probe(self) -> None:
        """Ask the online store for an entity, whether it has it or not. Raises whatever Feast does."""
        for view in self.stored:
            self._ask([f"{view.name}:{view.features[0]}"], {key: [self._probed(key)] for key in view.keys})

    def _probed(self, key: str) -> int | str:
        from feast import ValueType

        entity = next(entity for entity in self.store.list_entities() if entity.join_key == key)
        return "" if entity.value_type is ValueType.STRING else 0

    def _ask(self, references: list[str], entities: Mapping[str, Sequence[Any]]) -> dict[str, FeatureColumn]:
        """What Feast answers, by the names of the view and the feature."""
        found = self.store.get_online_features(features=references, entity_rows=entities, full_feature_names=True).proto
        names, results = found.metadata.feature_names.val, found.results
        return {name: _column(name, vector) for name, vector in zip(names, results, strict=True)}

    def _plan(self, names: frozenset[str]) -> _Plan:
        if names not in self._plans:
            stored = [view for view in self.stored if view.keys <= names]
            made = [view for view in self.made if view.keys <= names]
            self._plans[names] = _Plan(stored, made, [source for view in made for source in view.sources])
        return self._plans[names]

    def _servable(self, feature: Any) -> str:
        """The feature's name. Raises `RepositoryError` for one that no model takes, such as a list."""
        kind = getattr(feature.dtype, "name", str(feature.dtype))
        if kind not in _TYPES:
            raise RepositoryError(f"The feature {feature.name} is of type {kind}, which no model takes.")
        return str(feature.name)

    def _found_service(self) -> Any:
        services = {service.name: service for service in self.store.list_feature_services()}
        if not services:
            message = f"The repository {self.folder} has no feature service: define one, with the features of the model"
            raise RepositoryError(f"{message}, and apply it.", f"feast --chdir {self.folder} apply")
        if self.service is None and len(services) > 1:
            raise RepositoryError(f"Name one of the feature services by --service: {', '.join(sorted(services))}.")
        wanted = self.service or next(iter(services))
        if wanted not in services:
            message = f"The repository {self.folder} has no feature service {wanted}; it has {', '.join(services)}."
            raise RepositoryError(message)
        return services[wanted]

    def _on_demand(self, name: str) -> Any:
        return next((view for view in self.store.list_on_demand_feature_views() if view.name == name), None)

    def _stored(self, name: str, features: tuple[str, ...]) -> StoredView:
        view = self.store.get_feature_view(name)
        ttl_s = view.ttl.total_seconds() if view.ttl is not None else 0
        return StoredView(name, features, frozenset(view.join_keys), ttl_s or None)

    def _made(self, view: Any, features: tuple[str, ...]) -> OnDemandView:
        sources = tuple(
            self._stored(projection.name, tuple(feature.name for feature in projection.features))
            for projection in view.source_feature_view_projections.values()
        )
        return OnDemandView(view.name, features, frozenset(view.get_request_data_schema()), sources)

    def _refuse_repeated(self) -> None:
        names = self.feature_names
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            which = ", ".join(sorted(repeated))
            raise RepositoryError(f"Two views of the feature service {self.service} have the same features: {which}.")


def check_installed() -> None:
    """Raise `MissingPackage` where Feast is not installed; nothing of it is imported."""
    if importlib.util.find_spec("feast") is None:
        raise MissingPackage(
            f"This needs the package feast, which is not installed here. `{INSTALL}` makes an environment that has it; "
            f"then: {PROGRAM} features",
            INSTALL,
        )


def open_store(folder: Path) -> Any:
    """Feast's store of that repository. Raises `RepositoryError`."""
    if not (folder / CONFIGURATION).is_file():
        raise RepositoryError(f"There is no {CONFIGURATION} in {folder}: it is no Feast repository.")
    # What on-demand views import beside the definitions, and training imports as well.
    where = str(folder.resolve())
    if where not in sys.path:
        sys.path.insert(0, where)
    os.environ.setdefault("FEAST_USAGE", "False")
    warnings.filterwarnings("ignore", module="feast")
    from feast import FeatureStore

    try:
        return FeatureStore(repo_path=where)
    # What is wrong with the file, a registry that is away: Feast has no type of its own for it.
    except Exception as error:
        raise RepositoryError(f"The Feast repository {folder} cannot be opened: {error}") from error


def apply_definitions(folder: Path) -> None:
    """Write the repository's definitions into its registry, as `feast apply` does, without looking at its sources.

    Raises `RepositoryError`.
    """
    store = open_store(folder)
    from feast.repo_operations import apply_total

    where = Path.cwd()
    try:
        # Feast prints in colours of its own.
        with contextlib.redirect_stdout(io.StringIO()):
            apply_total(store.config, folder.resolve(), skip_source_validation=True)
    # It leaves by SystemExit for names that it does not take; all else may be wrong with the definitions.
    except (Exception, SystemExit) as error:
        raise RepositoryError(f"The definitions of {folder} cannot be applied: {error}") from error
    finally:
        os.chdir(where)


def _length(entities: Mapping[str, Sequence[Any]]) -> int:
    lengths = {len(values) for values in entities.values()}
    if len(lengths) != 1:
        raise ValueError("there are not as many values of each name")
    return lengths.pop()


def _column(name: str, vector: Any) -> FeatureColumn:
    """A column of Feast's answer; a value that is there and null cannot be told from a missing one but by its time."""
    times = [stamp.seconds + stamp.nanos / 1e9 for stamp in vector.event_timestamps]
    values = [_value(value) for value in vector.values]
    found = [at > 0 and status in _THERE for at, status in zip(times, vector.statuses, strict=True)]
    return FeatureColumn(name, values, found, times)


def _joined(parts: Sequence[Mapping[str, FeatureColumn]]) -> dict[str, FeatureColumn]:
    """Columns of parts of a batch as those of the whole; what Feast tells beside features is in some of them only."""

    def whole(name: str, side: str) -> list[Any]:
        return [value for part in parts for value in getattr(part[name], side)]

    names = set(parts[0]).intersection(*parts[1:])
    return {name: FeatureColumn(name, *(whole(name, side) for side in ("values", "found", "times"))) for name in names}


def _value(value: Any) -> FeatureValue:
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    found: FeatureValue = getattr(value, kind)
    if kind == "unix_timestamp_val":
        return float(value.unix_timestamp_val)
    # JSON has no NaN, by which files of tables say that a number is missing, and no infinity.
    return None if isinstance(found, float) and not isfinite(found) else found


def _of_stored(views: Iterable[StoredView], columns: Mapping[str, FeatureColumn]) -> Iterable[FeatureColumn]:
    for view in views:
        for name, full_name in zip(view.features, view.full_names, strict=True):
            found = columns[full_name]
            times = found.times or []
            expires = None if view.ttl_s is None else [at + view.ttl_s for at in times]
            yield FeatureColumn(name, found.values, found.found, times, expires)


def _of_made(views: Iterable[OnDemandView], columns: Mapping[str, FeatureColumn]) -> Iterable[FeatureColumn]:
    """What is made of stored features is as old as the oldest of them, and holds no longer than any of them."""
    for view in views:
        sources = list(_of_stored(view.sources, columns))
        times = [min(each) for each in zip(*(source.times or () for source in sources), strict=True)]
        ends = [source.expires for source in sources if source.expires is not None]
        expires = [min(each) for each in zip(*ends, strict=True)]
        for name, full_name in zip(view.features, view.full_names, strict=True):
            values = columns[full_name].values
            found = [value is not None for value in values]
            if sources:
                found = [there and at > 0 for there, at in zip(found, times, strict=True)]
            yield FeatureColumn(name, values, found, times or None, expires or None)
