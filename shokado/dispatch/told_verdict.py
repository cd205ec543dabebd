"""The told verdict: what the routing state says of an environment's experiment, pure, without a look at its evidence.

In: an environment, and what somebody waits for. Out: how its last experiment ended, or that it goes on, or that there
is none which could answer. Who waits for a verdict asks often, and gets what is stored; `shokado.experiments` judges.
"""

from dataclasses import dataclass
from enum import StrEnum

from shokado.dispatch.experiment import Experiment, Result
from shokado.dispatch.state import Environment

MAX_AGE_S = 3600.0
"""How long a verdict stands for who does not name the experiment: controllers ask every minute or so, and what was
decided yesterday should not move today's release.
"""


class VerdictWord(StrEnum):
    """What somebody who waits for a verdict is told."""

    PROMOTE = "PROMOTE"
    """It ended, and the candidate is better."""
    PASSED_OVER = "PASSED_OVER"
    """It ended, and another candidate is promoted. That is no HOLD, by which somebody may go on."""
    HOLD = "HOLD"
    """It ended without a difference that matters."""
    ROLLBACK = "ROLLBACK"
    """It ended, and no candidate may stay."""
    INVALID = "INVALID"
    """It ended, and what was counted cannot be compared."""
    STOPPED = "STOPPED"
    """Somebody ended it."""
    RUNNING = "RUNNING"
    """It goes on."""
    NONE = "NONE"
    """There is no experiment of which this could be told."""


@dataclass(frozen=True, slots=True)
class VerdictQuestion:
    """What somebody waits for."""

    candidate: str | None = None
    """The version that is to win; None: any."""
    experiment: str | None = None
    """Id of the experiment; None: the environment's last one, which may have ended `max_age_s` ago."""
    max_age_s: float = MAX_AGE_S


@dataclass(frozen=True, slots=True)
class ToldVerdict:
    """A verdict, with the experiment that it is of; `reason` is for people."""

    word: VerdictWord
    reason: str
    experiment: Experiment | None = None


def told_verdict(environment: Environment, question: VerdictQuestion, now: float) -> ToldVerdict:
    """What is told of the environment's experiment at `now`, in Unix seconds."""
    experiment = environment.experiment
    if experiment is None:
        return ToldVerdict(VerdictWord.NONE, f"environment {environment.name} has had no experiment")
    ended = experiment.conclusion
    if (why := _why_another(experiment, question, now)) is not None:
        return ToldVerdict(VerdictWord.NONE, why)
    if ended is None:
        return ToldVerdict(VerdictWord.RUNNING, "it is not decided yet", experiment)
    if ended.result is Result.PROMOTE and question.candidate not in (None, ended.winner):
        return ToldVerdict(VerdictWord.PASSED_OVER, f"{ended.winner} is promoted", experiment)
    return ToldVerdict(VerdictWord(ended.result), ended.reason, experiment)


def _why_another(experiment: Experiment, question: VerdictQuestion, now: float) -> str | None:
    """Why the experiment is not the one that is asked for; None where it is."""
    candidate, ended = question.candidate, experiment.conclusion
    if question.experiment not in (None, experiment.id):
        return f"the last experiment is {experiment.id}"
    if candidate is not None and candidate not in experiment.candidates:
        return f"experiment {experiment.id} compares {', '.join(experiment.candidates)} with {experiment.control}"
    if question.experiment is None and ended is not None and now - ended.at > question.max_age_s:
        return (
            f"experiment {experiment.id} ended {now - ended.at:,.0f} s ago; ask for it by its id, or with a larger"
            " max_age_s"
        )
    return None
