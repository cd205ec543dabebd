"""`python -m load_tests.bench.watching`: what it costs to watch: drift and the request log, and an open dashboard.

Two servers run side by side, of which one at a time is loaded: a short leg of the one, two of the other, one of the
first, and again, so that what the machine does besides meets both alike. Both are started anew several times, as a
process may be some per cent faster than the next one of the same program. Each comparison is told as the median of the
ratios of neighbours, and its quartiles. Processor time is that of the server alone, which a browser beside it does not
touch.
"""

import contextlib
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from load_tests.bench import load, process_tree
from load_tests.bench.contender_process import Server, ServerError
from load_tests.bench.hardware import this_machine
from load_tests.bench.lineup import SHOKADO_OFF, SHOKADO_ON, contender_named
from load_tests.bench.measure import one_row_target, site_for
from load_tests.bench.reference_model import ModelMissing, ReferenceModel, find_model

CONNECTIONS = (1, 16, 64)
SETTLES_S = 3.0
"""How long a page that was opened is left alone before it counts, and one that was closed."""

RATE: Callable[["Leg"], float] = attrgetter("requests_per_second")
COST: Callable[["Leg"], float] = attrgetter("cpu_us")

console = Console(highlight=False, width=max(Console().width, 110))


class BrowserMissing(Exception):
    """There is nothing to open the dashboard with; the message says how to get it."""


@dataclass(frozen=True)
class Leg:
    """One run of the load."""

    requests_per_second: float
    cpu_us: float
    """Processor time of the server for each request, in microseconds."""


@dataclass(frozen=True)
class LegComparison:
    """Legs of the one and of the other, each with the one that it is compared with at the same place."""

    without: Sequence[Leg]
    watched: Sequence[Leg]

    def __add__(self, other: "LegComparison") -> "LegComparison":
        return LegComparison([*self.without, *other.without], [*self.watched, *other.watched])

    def quartiles(self, figure: Callable[[Leg], float]) -> tuple[float, float, float]:
        """The lower quartile, the median and the upper quartile of the ratios, watched by without."""
        ratios = [figure(on) / figure(off) for off, on in zip(self.without, self.watched, strict=True)]
        if len(ratios) == 1:
            return ratios[0], ratios[0], ratios[0]
        lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
        return lower, median, upper


@dataclass(frozen=True)
class WatchedLoad:
    """What is compared, under how much load."""

    what: str
    connections: int


def compare(without: Callable[[], Leg], watched: Callable[[], Leg], pairs: int) -> LegComparison:
    """Run so many legs of each: A B, B A, and again."""
    off, on = list[Leg](), list[Leg]()
    for number in range(pairs):
        order = ((without, off), (watched, on))
        for run, legs in order if number % 2 == 0 else order[::-1]:
            legs.append(run())
    return LegComparison(off, on)


@dataclass(frozen=True)
class Loaded:
    """A server that runs, and what it is asked."""

    server: Server
    target: load.Target

    def leg(self, connections: int, seconds: float) -> Leg:
        """Load it once."""
        processes = self.server.processes()
        before = process_tree.cpu_seconds(processes)
        seen = load.run(self.target, connections, seconds)
        return Leg(seen.requests_per_second, 1e6 * (process_tree.cpu_seconds(processes) - before) / seen.requests)


@contextlib.contextmanager
def dashboard(url: str) -> Iterator[Callable[[bool], None]]:
    """What opens the dashboard in a browser, and closes it. Raises `BrowserMissing`."""
    program = shutil.which("chromium")
    if program is None:
        raise BrowserMissing("no chromium to open the dashboard with: sudo make tools, or leave it out: --no-dashboard")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=120_000)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        shown = ""

        def show(opened: bool) -> None:
            nonlocal shown
            address = f"{url}/dashboard" if opened else "about:blank"
            if shown != address:
                page.goto(address)
                shown = address
                page.wait_for_timeout(1000 * SETTLES_S)

        yield show
        browser.close()


def of_recording(off: Loaded, on: Loaded, connections: int, pairs: int, seconds: float) -> LegComparison:
    """What drift and the request log cost."""
    return compare(lambda: off.leg(connections, seconds), lambda: on.leg(connections, seconds), pairs)


def of_dashboard(loaded: Loaded, connections: int, pairs: int, seconds: float) -> LegComparison:
    """What an open dashboard costs. Raises `BrowserMissing`."""
    with dashboard(loaded.server.url) as show:

        def leg(opened: bool) -> Leg:
            show(opened)
            return loaded.leg(connections, seconds)

        return compare(lambda: leg(False), lambda: leg(True), pairs)


@contextlib.contextmanager
def started(name: str, model: ReferenceModel) -> Iterator[Loaded]:
    """A contender that runs, and has been asked for a while."""
    contender = contender_named(name)
    site = site_for(contender, model)
    with Server(contender.launch(site), site.folder / "watching.log") as server:
        loaded = Loaded(server, one_row_target(server, contender, model))
        loaded.leg(connections=16, seconds=2)
        yield loaded


def measure(
    model: ReferenceModel, starts: int, pairs: int, seconds: float, *, with_dashboard: bool
) -> Iterator[dict[WatchedLoad, LegComparison]]:
    """What was found so far, by what is watched and with how many connections, after each start."""
    found = dict[WatchedLoad, LegComparison]()

    def add(watched: WatchedLoad, legs: LegComparison) -> None:
        found[watched] = found[watched] + legs if watched in found else legs

    for _ in range(starts):
        with started(SHOKADO_OFF, model) as off, started(SHOKADO_ON, model) as on:
            for connections in CONNECTIONS:
                legs = of_recording(off, on, connections, pairs, seconds)
                add(WatchedLoad("drift and the request log", connections), legs)
            if with_dashboard:
                most = CONNECTIONS[-1]
                add(WatchedLoad("an open dashboard", most), of_dashboard(on, most, pairs, seconds))
        yield found


def main(
    starts: Annotated[int, typer.Option(min=1, max=100, help="How often the servers are started.")] = 5,
    pairs: Annotated[int, typer.Option(min=1, max=200, help="Legs of each, after each start.")] = 4,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Length of a leg, whole seconds.")] = 2,
    with_dashboard: Annotated[
        bool, typer.Option("--dashboard/--no-dashboard", help="An open dashboard as well.")
    ] = True,
    model_dir: Annotated[Path | None, typer.Option(help="Folder with model.ubj and model.onnx.")] = None,
) -> None:
    """Measure what drift, the request log and an open dashboard cost, in legs that take turns."""
    try:
        model = find_model(model_dir)
        for found in measure(model, starts, pairs, seconds, with_dashboard=with_dashboard):
            console.print(_table(found))
    except (ServerError, load.LoadError, ModelMissing, BrowserMissing) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    console.print(f"{this_machine()}; {starts} starts, {pairs} legs of {seconds:g} s of each after each of them")


def _table(found: Mapping[WatchedLoad, LegComparison]) -> Table:
    table = Table(title="ratios are medians, with quartiles; CPU is the server's, in us a request", box=None)
    for column in ("watched", "connections", "req/s", "without", "ratio", "CPU", "without", "ratio"):
        table.add_column(column, justify="left" if column == "watched" else "right")
    for watched, legs in found.items():
        table.add_row(watched.what, f"{watched.connections}", *_cells(legs, RATE, ",.0f"), *_cells(legs, COST, ",.1f"))
    return table


def _cells(legs: LegComparison, figure: Callable[[Leg], float], form: str) -> tuple[str, str, str]:
    on, off = (statistics.median(map(figure, one)) for one in (legs.watched, legs.without))
    lower, median, upper = legs.quartiles(figure)
    return f"{on:{form}}", f"{off:{form}}", f"{median:.3f} ({lower:.3f}, {upper:.3f})"


if __name__ == "__main__":
    typer.run(main)
