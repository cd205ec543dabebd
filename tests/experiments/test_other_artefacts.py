"""What is served anew with another artefact under its name is compared by itself, in a stage of its own."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shokado.dispatch.change import ConflictingChange, KnownVersions, SplitChange, with_split
from shokado.dispatch.experiment_change import ExperimentOrder, renewed, with_artefacts, with_experiment
from shokado.dispatch.state import Load
from shokado.experiments.experiment_judge import ExperimentJudge
from shokado.stores.store import Action
from tests.experiments.test_experiment_judge import BETTER, NOW, READY, Court, answering, try_it


@dataclass
class Fleet:
    """The versions as all workers have them."""

    v1: str = "a1"
    v2: str = "b1"

    async def versions(self) -> KnownVersions:
        return replace(READY, artefacts={"v1": self.v1, "v2": self.v2})


def stages_of(court: Court) -> list[tuple[dict[str, float], dict[str, str]]]:
    return [(dict(stage.shares), dict(stage.artefacts)) for stage in court.experiment.stages]


def judged_by(court: Court, fleet: Fleet) -> ExperimentJudge:
    return ExperimentJudge(court.follower, answering(True), fleet.versions, clock=lambda: NOW)


HALVES = {"v1": 0.5, "v2": 0.5}


def test_another_artefact_makes_a_stage_and_the_same_one_none(tmp_path: Path) -> None:
    async def scenario(court: Court) -> None:
        fleet = Fleet()
        judge = judged_by(court, fleet)
        await judge.look_at_all()
        known = len(court.experiment.stages)
        await judge.look_at_all()
        assert len(court.experiment.stages) == known
        assert stages_of(court)[-1] == (HALVES, {"v1": "a1", "v2": "b1"})

        fleet.v2 = "b2"
        await judge.look_at_all()
        await judge.look_at_all()
        assert stages_of(court)[known:] == [(HALVES, {"v1": "a1", "v2": "b2"})]
        entry = court.follower.entry
        assert entry is not None
        assert (entry.action, entry.by) == (Action.EXPERIMENT, "shokado")
        assert entry.why == "v2 is another artefact: experiment e1 goes on in a new stage"

    try_it(tmp_path, scenario)


def test_nothing_is_compared_while_workers_differ(tmp_path: Path) -> None:
    async def scenario(court: Court) -> None:
        fleet = Fleet()
        judge = judged_by(court, fleet)
        await judge.look_at_all()
        fleet.v2 = ""
        await judge.look_at_all()
        assert stages_of(court)[-1] == ({}, {"v1": "a1", "v2": ""})
        assert court.follower.entry is not None
        assert "workers have different artefacts as v2" in court.follower.entry.why

        await court.tell(BETTER)
        await judge.look_at_all()
        assert court.experiment.is_running, "the evidence is of a stage in which nothing is compared"

        def change(state: object) -> object:
            return with_split(state, None, SplitChange(weights={"v1": 20, "v2": 80}), READY)  # type: ignore[arg-type]

        await court.follower.change(change, by="ann", action=Action.SPLIT)  # type: ignore[arg-type]
        assert stages_of(court)[-1] == ({}, {"v1": "a1", "v2": ""}), "nor after a change of the split"

        fleet.v2 = "b2"
        await judge.look_at_all()
        assert stages_of(court)[-1] == ({"v1": 0.2, "v2": 0.8}, {"v1": "a1", "v2": "b2"})
        await court.tell(BETTER)
        await judge.look_at_all()
        assert court.experiment.conclusion is not None

    try_it(tmp_path, scenario)


def test_what_was_loaded_while_serving_has_made_its_stage_already(tmp_path: Path) -> None:
    async def scenario(court: Court) -> None:
        state, experiment = court.follower.state, court.experiment
        assert state is not None
        versions = replace(READY, artefacts={"v1": "a1", "v2": "b1"})
        assert renewed(state, experiment, versions) == {"v1": "a1", "v2": "b1"}
        loaded = replace(state, loads={"v2": Load("m:v2", "b1", "m:v2")})
        assert renewed(loaded, experiment, versions) == {"v1": "a1"}

    try_it(tmp_path, scenario)


def test_one_that_has_ended_has_no_stage_more(tmp_path: Path) -> None:
    async def scenario(court: Court) -> None:
        experiment = court.experiment
        await court.tell(BETTER)
        await court.judge.look_at_all()
        state = court.follower.state
        assert state is not None
        with pytest.raises(ConflictingChange, match="over"):
            with_artefacts(state, "production", experiment, {"v2": "b2"})

    try_it(tmp_path, scenario)


def test_one_that_is_loaded_while_serving_is_what_was_loaded_whatever_workers_tell(tmp_path: Path) -> None:
    """One that has died is heard of for some seconds, and nothing would make a stage of it when that is over."""

    async def scenario(court: Court) -> None:
        state = court.follower.state
        assert state is not None
        environments = {"production": replace(court.production, experiment=None)}
        loaded = replace(state, environments=environments, loads={"v2": Load("m:v2", "b2", "m:v2")})
        order = ExperimentOrder(court.experiment.plan)
        differing = replace(READY, artefacts={"v1": "a1", "v2": ""})
        begun = with_experiment(loaded, None, order, differing, experiment_id="e2", now=NOW).running["production"]
        assert (dict(begun.stages[-1].shares), dict(begun.stages[-1].artefacts)) == (HALVES, {"v1": "a1", "v2": "b2"})

    try_it(tmp_path, scenario)
