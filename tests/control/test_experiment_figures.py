"""What Prometheus is told of experiments: as one worker of the machine reads it from the store, and for a day after."""

from typing import Any

import pytest

from shokado.dispatch.experiment import Result
from shokado.monitoring.metrics.experiment_figures import ExperimentFigures
from shokado.stores.store import StoreUnavailable
from tests.control.concluded import begin, conclude
from tests.control.site import Site
from tests.monitoring.metrics.test_experiment_figures import known

DAY_S = 86_400


def tell(site: Site) -> dict[tuple[str, ...], float]:
    """Tell the metrics once; those of experiments that are numbers and hold."""
    worker = site.workers[0].worker
    site.run(worker.observing.tell_experiments(worker._leads_here))
    return figures(site)


def figures(site: Site) -> dict[tuple[str, ...], float]:
    names = {"info", "verdict", "effect", "units", "observations", "sample_ratio_p_value", "arrival_p_value", "stages"}
    found = known(site.workers[0].worker.metrics.registry)
    return {key: value for key, value in found.items() if key[0] in names}


def test_an_experiment_is_told_from_its_beginning_to_a_day_after_its_end(site: Site) -> None:
    assert tell(site) == {}
    begin(site)
    running: dict[Any, float] = {
        ("info", "production", "v1", "reward", "tell"): 1,
        ("verdict", "production", "RUNNING"): 1,
        ("effect", "production", "v2", "low"): -1,
        ("effect", "production", "v2", "high"): 1,
        ("sample_ratio_p_value", "production"): 1,
        ("arrival_p_value", "production"): 1,
        ("stages", "production"): 1,
    }
    assert tell(site) == running
    conclude(site, Result.INVALID)
    ended = tell(site)
    assert ended["verdict", "production", "INVALID"] == 1
    assert ("verdict", "production", "RUNNING") not in ended
    assert ("sample_ratio_p_value", "production") not in ended, "it is not known any more"
    begin(site)
    conclude(site, Result.INVALID, ago_s=DAY_S + 1)
    assert tell(site) == {}


def test_what_cannot_be_read_any_more_is_not_told(site: Site) -> None:
    begin(site)
    assert tell(site)["verdict", "production", "RUNNING"] == 1
    site.break_store()
    with pytest.raises(StoreUnavailable):
        tell(site)
    assert figures(site) == {}


def test_who_does_not_lead_tells_nothing(site: Site) -> None:
    async def no() -> bool:
        return False

    begin(site)
    worker = site.workers[0].worker
    state = worker.dispatcher.state.running["production"]
    worker.metrics.experiments.told("production", state, ExperimentFigures("RUNNING", {}))
    site.run(worker.observing.tell_experiments(no))
    assert figures(site) == {}
