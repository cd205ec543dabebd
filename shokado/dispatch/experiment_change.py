"""Changes that begin, stage and end experiments, pure like those of `shokado.dispatch.change`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from configuration.experiment_plan import ExperimentPlan
from configuration.settings import Strategy
from shokado.dispatch.change import (
    ConflictingChange,
    InvalidChange,
    KnownVersions,
    SplitChange,
    find_environment,
    refuse_without_units,
    with_split,
)
from shokado.dispatch.experiment import Experiment, ExperimentConclusion, ExperimentStage
from shokado.dispatch.layer import Layer
from shokado.dispatch.state import Environment, RoutingState

MAX_CONCLUDED = 50
"""Experiments that can be looked up after their end; the history has all."""


@dataclass(frozen=True, slots=True)
class ExperimentOrder:
    """What somebody wants to know: which of the versions that share the traffic is better, or whether a shadow is."""

    plan: ExperimentPlan
    control: str | None = None
    """A version or alias; None: the active one."""
    candidates: Sequence[str] | None = None
    """None: all others that have traffic, or the shadow."""


def with_experiment(
    state: RoutingState,
    name: str | None,
    order: ExperimentOrder,
    versions: KnownVersions,
    *,
    experiment_id: str,
    now: float,
) -> RoutingState:
    """The state in which an experiment has begun. Raises `UnknownVersion`, `InvalidChange` and `ConflictingChange`."""
    environment = find_environment(state, name)
    if environment.running is not None:
        message = f"environment {environment.name} has the experiment {environment.running.id}; stop it first"
        raise ConflictingChange("experiment_running", message, experiment=environment.running.id)
    if environment.strategy is Strategy.WEIGHTED:
        message = f"environment {environment.name} moves its split by itself; give it the strategy random or hash first"
        raise ConflictingChange("split_moves", message, environment=environment.name)
    control = versions.resolve(order.control or environment.active)
    named = order.candidates
    experiment = Experiment(experiment_id, control, (), order.plan, now, ())
    if named is None and experiment.is_shadowed:
        named = [environment.shadow] if environment.shadow is not None else []
    elif named is None:
        named = [version for version in environment.shares if version != control]
    experiment = replace(experiment, candidates=tuple(versions.resolve(candidate) for candidate in named))
    members = experiment.versions
    if len(set(members)) < len(members):
        raise InvalidChange("repeated_version", f"{' and '.join(members)} are not all different", field="candidates")
    _refuse_others(environment, experiment)
    for version in members:
        versions.ready(version)
    layer = _layer_of(experiment)
    if layer is not None:
        refuse_without_units(environment, experiment)
        _refuse_overlap(state, layer)
    generation = state.generation + 1
    begun = experiment.with_stage(
        _stage(environment, experiment, generation, _artefacts_of(state, experiment, versions.artefacts))
    )
    return _with(state, replace(environment, experiment=begun, layer=layer))


def with_conclusion(
    state: RoutingState,
    name: str,
    experiment: Experiment,
    conclusion: ExperimentConclusion,
    split: SplitChange | None = None,
    versions: KnownVersions | None = None,
) -> RoutingState:
    """The state in which an experiment has ended, and the split has moved as it says, in one piece.

    Where it has not, units outside of the experiment's layer stay where they are as well.

    Raises `ConflictingChange` where it has ended already, or the split that would move has been changed since
    `experiment` was looked at, and what `with_split` raises.
    """
    environment, running = _still_running(state, name, experiment)
    if split is not None:
        assert versions is not None
        if running.stages[-1] != experiment.stages[-1]:
            raise ConflictingChange("experiment_changed", f"the split of {name} was changed", experiment=experiment.id)
        environment = find_environment(with_split(state, name, split, versions), name)
    stays = split is None and not running.is_shadowed
    layer = environment.layer if stays else None
    ended = replace(environment, experiment=replace(running, conclusion=conclusion), layer=layer)
    generation = state.generation + 1
    concluded = dict([*state.concluded.items(), (experiment.id, generation)][-MAX_CONCLUDED:])
    return replace(_with(state, ended), concluded=concluded)


def with_stages(old: RoutingState, new: RoutingState) -> RoutingState:
    """The new state, in which running experiments have a stage more where its versions get other requests or models."""
    staged = {}
    for name, environment in new.environments.items():
        before = old.environments.get(name)
        experiment = environment.running
        if experiment is None or before is None or before.running is None or before.running.id != experiment.id:
            continue
        if _made_of(old, before, experiment) != _made_of(new, environment, experiment):
            artefacts = _artefacts_of(new, experiment, experiment.stages[-1].artefacts)
            stage = _stage(environment, experiment, new.generation, artefacts)
            staged[name] = replace(environment, experiment=experiment.with_stage(stage))
    return replace(new, environments={**new.environments, **staged}) if staged else new


def renewed(state: RoutingState, experiment: Experiment, versions: KnownVersions) -> dict[str, str]:
    """The digests of the experiment's versions that are something else now than in its last stage.

    Empty ones are of those that workers differ about. What was loaded while serving is not looked at: each load makes a
    stage as it is made.
    """
    before = experiment.stages[-1].artefacts
    now = _artefacts_of(state, experiment, versions.artefacts)
    return {
        version: digest
        for version, digest in now.items()
        if version not in state.loads and digest != before.get(version)
    }


def with_artefacts(
    state: RoutingState, name: str, experiment: Experiment, artefacts: Mapping[str, str]
) -> RoutingState:
    """The state in which the experiment goes on in a stage more, with what these versions are now, by their digests.

    As long as workers differ about one, nothing is compared in it. Raises `ConflictingChange` where it has ended.
    """
    environment, running = _still_running(state, name, experiment)
    stage = _stage(environment, running, state.generation + 1, {**running.stages[-1].artefacts, **artefacts})
    return _with(state, replace(environment, experiment=running.with_stage(stage)))


def find_experiment(state: RoutingState, experiment_id: str) -> Environment | None:
    """The environment whose experiment of now, or last one, it is."""
    for environment in state.environments.values():
        if environment.experiment is not None and environment.experiment.id == experiment_id:
            return environment
    return None


def experiments_of(state: RoutingState, since: float) -> set[str]:
    """Ids of the experiments that are under way, or ended since then (Unix seconds)."""
    found = [environment.experiment for environment in state.environments.values()]
    return {one.id for one in found if one is not None and (one.conclusion is None or one.conclusion.at >= since)}


def _refuse_others(environment: Environment, experiment: Experiment) -> None:
    """Raise `ConflictingChange` unless the versions have the parts in the environment that the design asks for."""
    sharing, members = environment.shares if environment.enabled else {}, ", ".join(experiment.versions)
    if experiment.is_shadowed:
        if experiment.candidates == (environment.shadow,) and experiment.control in sharing:
            return
        message = (
            f"the traffic of {environment.name} is shared by {', '.join(sharing) or 'nobody'}, its shadow is "
            f"{environment.shadow or 'nobody'}, and the experiment is between {members}; give the first one a share, "
            "and make the other one the shadow first"
        )
        raise ConflictingChange("not_the_shadow", message, environment=environment.name)
    if set(experiment.versions) != set(sharing) or not experiment.candidates:
        message = (
            f"the traffic of {environment.name} is shared by {', '.join(sharing) or 'nobody'}, and the experiment is "
            f"between {members}; give its versions, and no others, their shares first"
        )
        raise ConflictingChange("not_in_split", message, environment=environment.name)


def _layer_of(experiment: Experiment) -> Layer | None:
    """What the experiment's plan makes of the environment: where a shadow is compared, nobody moves."""
    part = experiment.plan.layer
    outside = None if experiment.is_shadowed else experiment.control
    return None if part is None else Layer(part.name, part.start, part.end, outside)


def _refuse_overlap(state: RoutingState, layer: Layer) -> None:
    """Raise `ConflictingChange` where an experiment under way may have units of the layer's part."""
    for name, running in state.running.items():
        other = _layer_of(running)
        if other is not None and other.overlaps(layer):
            message = (
                f"the experiment {running.id} of {name} has {other}, and this one would have the part from "
                f"{layer.start:g} to {layer.end:g}; give it a part that does not overlap, or stop the other one first"
            )
            raise ConflictingChange("layer_overlap", message, experiment=running.id, environment=name, field="layer")


def _still_running(state: RoutingState, name: str, experiment: Experiment) -> tuple[Environment, Experiment]:
    """The environment, and the experiment as it is now. Raises `ConflictingChange` where it has ended."""
    environment = find_environment(state, name)
    running = environment.running
    if running is None or running.id != experiment.id:
        raise ConflictingChange("experiment_over", f"the experiment {experiment.id} is over", experiment=experiment.id)
    return environment, running


def _artefacts_of(state: RoutingState, experiment: Experiment, known: Mapping[str, str]) -> dict[str, str]:
    """The digests of the experiment's versions: those that the state loads, and of the others those that are known."""
    loaded = {version: load.digest for version, load in state.loads.items()}
    return {version: digest for version, digest in {**known, **loaded}.items() if version in experiment.versions}


def _stage(
    environment: Environment, experiment: Experiment, generation: int, artefacts: Mapping[str, str]
) -> ExperimentStage:
    shares = environment.shares if environment.enabled else {}
    ours = {version: shares[version] for version in experiment.versions if version in shares}
    if experiment.is_shadowed:
        answers = experiment.candidates == (environment.shadow,) and experiment.control in shares
        ours = {experiment.control: 1.0} if answers else {}
    if not all(artefacts.values()):
        ours = {}
    total = sum(ours.values())
    return ExperimentStage(
        generation,
        {version: share / total for version, share in ours.items()},
        environment.strategy is Strategy.HASH,
        dict(artefacts),
    )


def _made_of(state: RoutingState, environment: Environment, experiment: Experiment) -> object:
    """What a stage has all through."""
    digests = _artefacts_of(state, experiment, {})
    shadow = environment.shadow if experiment.is_shadowed else None
    return environment.enabled, dict(environment.shares), environment.strategy, environment.salt, shadow, digests


def _with(state: RoutingState, environment: Environment) -> RoutingState:
    environments = {**state.environments, environment.name: environment}
    return replace(state, generation=state.generation + 1, environments=environments)
