"""What is stored: entries, reports and tallies."""

from typing import Any

from shokado.dispatch.state import Environment, Load, RoutingState
from shokado.stores.store import Action, Entry, Secret, Settlement, Store, Tally, WorkerReport

NOW = 1_790_000_000.0
REQUESTS = Tally("v1", "production", "requests")
ROWS = Tally("v2", "", "rows")


def state(generation: int) -> RoutingState:
    """Another weight for each generation, so that contents can be told apart."""
    environment = Environment("production", "v1", {"v1": 80.0, "v2": float(generation)}, shadow="v2", salt="ü")
    load = Load("paper:v2", "d" * 64, "models:/paper/2", expires_at=NOW)
    return RoutingState(generation, {"production": environment}, "production", {"v2": load}, {"v2": load})


def entry(generation: int, **given: Any) -> Entry:
    content: dict[str, Any] = {"by": "ann", "action": Action.SPLIT, "why": "", "id": f"id-{generation}"} | given
    return Entry(state(generation), NOW + generation, **content)


def filled(store: Store, generations: int) -> Store:
    """The same store with entries 1 to `generations`."""
    for generation in range(1, generations + 1):
        store.append(entry(generation), generation - 1)
    return store


def report(worker: str, at: float = NOW, **given: Any) -> WorkerReport:
    content: dict[str, Any] = {"machine": "here", "pid": 7, "generation": 3} | given
    return WorkerReport(worker, at=at, **content)


def secret(number: int = 1, **given: Any) -> Secret:
    content: dict[str, Any] = {"made_at": NOW + number, "idle_s": 0.0, "placed": f"place-{number}"} | given
    return Secret(bytes([number]) * 32, **content)


def settlement(key: str, counts: dict[Tally, float] | None = None, keep_s: float = 3600.0) -> Settlement:
    return Settlement(key, NOW + keep_s, {REQUESTS: 1.0} if counts is None else counts)


def total(store: Store, tally: Tally = REQUESTS) -> float:
    """Over all minutes."""
    return sum(value for (_, found), value in store.tallies(0).items() if found == tally)
