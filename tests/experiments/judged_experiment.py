"""An experiment with its judge, over a real store."""

from dataclasses import dataclass

from shokado.dispatch.experiment import Experiment
from shokado.dispatch.state import Environment
from shokado.experiments.experiment_judge import ExperimentJudge
from shokado.stores.follower import Follower


@dataclass
class JudgedExperiment:
    """The experiment of the production environment."""

    follower: Follower
    judge: ExperimentJudge
    batches: int = 0
    """Of evidence, that were told."""

    @property
    def production(self) -> Environment:
        assert self.follower.state is not None
        return self.follower.state.environments["production"]

    @property
    def experiment(self) -> Experiment:
        assert self.production.experiment is not None
        return self.production.experiment
