"""Experiments of a site, begun and ended as the judge ends them."""

import time
from typing import Any

from shokado.dispatch.experiment import ExperimentConclusion, Result
from shokado.dispatch.experiment_change import with_conclusion
from shokado.dispatch.state import RoutingState
from shokado.stores.store import Action
from tests.control.site import Site

PLAN = {"metric": "reward", "smallest_effect": 0.1, "label_delay_s": 60, "max_duration_s": 1000}
REASON = "reward +0.21 (+0.1 to +0.3)"


def begin(site: Site) -> str:
    """Let v2 compete with v1 in production; the experiment's id."""
    answer = site.post("/v1/experiments", PLAN)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def conclude(site: Site, result: Result, *, ago_s: float = 0, winner: str | None = "v2") -> None:
    """End it, with `winner` where it is promoted."""
    won = winner if result is Result.PROMOTE else None

    def change(state: RoutingState) -> RoutingState:
        running = state.running["production"]
        return with_conclusion(
            state, "production", running, ExperimentConclusion(time.time() - ago_s, result, REASON, won)
        )

    site.run(site.workers[0].follower.change(change, by="shokado", action=Action.CONCLUDE))


def ended(site: Site, result: Result, **how: Any) -> str:
    """Begin and end one; its id."""
    experiment = begin(site)
    conclude(site, result, **how)
    return experiment
