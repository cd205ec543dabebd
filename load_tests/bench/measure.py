"""One turn of one contender: start, check, warm up, measure, stop."""

from dataclasses import dataclass, replace

from load_tests.bench import environment, load
from load_tests.bench.bench_model import BenchModel
from load_tests.bench.check import check
from load_tests.bench.contender import Contender, Site
from load_tests.bench.contender_process import Server, free_ports
from load_tests.bench.launch import ROOT, project_python
from load_tests.bench.measurements import Measurements

WORK = ROOT / "var" / "bench"
DIFFERENT_BODIES = 64
"""Bodies that a one-row load sends in turn, so that nobody is timed for remembering an answer."""


@dataclass(frozen=True)
class Plan:
    """How long and how much is measured. A step is one run of wrk."""

    turns: int = 3
    seconds: float = 10
    connections: tuple[int, ...] = (1, 16, 64)
    row_counts: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    paced: bool = True

    @property
    def of_pipelines(self) -> "Plan":
        """What is asked of those that serve the pipeline."""
        return replace(self, connections=(1, 64), row_counts=(1_000,), paced=False)

    @property
    def short_seconds(self) -> float:
        """A step of the many-rows table, of which there are many."""
        return max(1, self.seconds / 4)


def site_for(contender: Contender, model: BenchModel) -> Site:
    """The contender's environment, built if need be, a folder and ports."""
    home = WORK / contender.name
    run = home / "run"
    run.mkdir(parents=True, exist_ok=True)
    if contender.requirements is None:
        python = project_python()
    else:
        python = environment.build(contender.requirements, WORK / contender.requirements / "venv")
    return Site(python, run, free_ports(3), model)


def take_turn(contender: Contender, model: BenchModel, plan: Plan) -> Measurements:
    """Everything the plan asks of one contender; it runs only as long as this function."""
    site = site_for(contender, model)
    with Server(contender.launch(site), site.folder / "server.log") as server:
        check(server, contender, model)
        return _measure(server, contender, model, plan)


def _measure(server: Server, contender: Contender, model: BenchModel, plan: Plan) -> Measurements:
    target = one_row_target(server, contender, model)
    load.run(target, connections=16, seconds=1)
    one_row = tuple(load.run(target, count, plan.seconds) for count in plan.connections)
    memory = server.pss_megabytes()
    counts = plan.row_counts if contender.many_rows else ()
    many_rows = tuple(_many_rows(server, contender, model, count, plan.short_seconds) for count in counts)
    top = one_row[-1]
    paced = None
    if plan.paced and top.requests_per_second:
        paced = load.run_paced(target, top.connections, plan.seconds, top.requests_per_second / 2)
    return Measurements(one_row, many_rows, paced, memory)


def one_row_target(server: Server, contender: Contender, model: BenchModel) -> load.Target:
    """What asks a contender for a row, a different one each time."""
    api = contender.api
    rows = model.draw(DIFFERENT_BODIES, seed=3)
    bodies = [api.encode(rows[number : number + 1]) for number in range(DIFFERENT_BODIES)]
    return load.Target(server.url + api.path, bodies, api.headers)


def _many_rows(server: Server, contender: Contender, model: BenchModel, count: int, seconds: float) -> load.LoadResult:
    """One connection: the next request leaves when the answer is there, so rows per second are rows by latency.

    A size that gets no answer is a row of zeros, not the end of the contender.
    """
    api = contender.api
    bodies = [api.encode(model.draw(count, seed)) for seed in range(4)]
    try:
        return load.run(load.Target(server.url + api.path, bodies, api.headers, count), 1, seconds)
    except load.LoadError:
        return load.LoadResult(1, count, 0, 0.0, 0.0, 0.0, 0, 1)
