"""Changing the routing on behalf of a client: what all such routes have in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends
from pydantic import Field

from shokado.control.dependencies import Parts
from shokado.control.http.headers import Actor, IfMatch
from shokado.dialects.error_codes import ERROR_CODES
from shokado.dialects.problem import Problem, problem_of
from shokado.dispatch.change import KnownVersions
from shokado.dispatch.state import RoutingState
from shokado.stores.store import Action, Entry, GenerationConflict, StoreUnavailable
from shokado.worker.parts import WorkerParts
from shokado.worker.readiness import shortfalls_everywhere, versions_everywhere

MAX_WHY_CHARACTERS = 500
"""A reason is a sentence or two, and stays in the history for good."""
MAX_GENERATION = 2**53
"""Largest number that every client of JSON can say exactly."""

Forced = Annotated[
    bool, Field(description="Give traffic also to versions that need features which rows seen lately lacked.")
]


@dataclass(frozen=True, slots=True)
class _Changer:
    """Makes changes as the headers of the request say."""

    parts: WorkerParts
    by: str
    if_match: int | None

    async def change(
        self,
        make: Callable[[RoutingState, KnownVersions], RoutingState],
        action: Action,
        why: str = "",
        *,
        force: bool = False,
    ) -> Entry:
        """Replace the routing by what `make` makes of it and of the versions as all workers have them.

        `force`: whether or not the traffic has what the versions need.

        Raises `Problem` for what the store or somebody else prevents, and what `make` raises.
        """
        follower = self.parts.follower
        try:
            versions = await versions_everywhere(self.parts)
            # A rollback is the way back, whatever the traffic has.
            if not force and action is not Action.ROLLBACK:
                versions = replace(versions, shortfalls=await shortfalls_everywhere(self.parts))
        except StoreUnavailable as error:
            raise _with(problem_of(error), "nothing was changed") from error
        try:
            return await follower.change(
                lambda state: make(state, versions), by=self.by, action=action, why=why, if_match=self.if_match
            )
        except StoreUnavailable as error:
            words = "whether the change was made is not known until the store is back: GET /v1/traffic-split tells then"
            raise _with(problem_of(error), words) from error
        except GenerationConflict as error:
            problem = problem_of(error)
            if self.if_match is not None:
                problem.status = ERROR_CODES[problem.code].status_if_match or problem.status
            raise problem from error


def _with(problem: Problem, words: str) -> Problem:
    problem.message += f"; {words}"
    return problem


def _changer(parts: Parts, by: Actor, if_match: IfMatch) -> _Changer:
    return _Changer(parts, by, if_match)


Changer = Annotated[_Changer, Depends(_changer)]
