"""What a store does: it keeps the history of the routing state, and what the workers of all machines tell each other.

Stores are synchronous and used from one thread at a time; `shokado.stores.follower` keeps them off the event loop. All
times are seconds of the Unix clock, told by the caller.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shokado.dispatch.state import RoutingState, VersionReport
from shokado.stores.evidence import CountedEvidence, EvidenceBatch, GatheredEvidence, Sighting
from shokado.stores.level_counts import LevelCount
from shokado.stores.pairs import JoinedPair, MetPair, PairedLabel

BUCKET_S = 60
"""Tallies are added up per minute."""
BINNED_BUCKET_S = 300
"""Counts of binned rows are added up over five minutes: an hour is told to a twelfth of it, and a day has 288."""
MAX_KEEP_S = 60.0
"""A report that would be kept for longer was told before a clock was set back: who lives has told a newer one since."""


def minute_of(at: float) -> int:
    """When the minute of `at` began."""
    return int(at // BUCKET_S) * BUCKET_S


def binned_bucket_of(at: float) -> int:
    """When the five minutes of `at` began."""
    return int(at // BINNED_BUCKET_S) * BINNED_BUCKET_S


class StoreUnavailable(Exception):
    """The store cannot be read or written now; the message names it, without passwords, and says why.

    After a write, it is not known whether it took place, unless `read` says so later.
    """


class GenerationConflict(Exception):
    """Somebody else was faster: the newest generation is not the one that the change was made for."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"the routing is at generation {found}, not {expected}")
        self.expected = expected
        self.found = found


class Action(StrEnum):
    """What a generation came from."""

    CONFIGURED = "configured"
    SPLIT = "split"
    ACTIVATE = "activate"
    ROLLBACK = "rollback"
    WEIGHTED = "weighted"
    PREPARE = "prepare"
    """A version is being loaded: every worker gets it ready, aside."""
    LOAD = "load"
    UNLOAD = "unload"
    ABANDON = "abandon"
    """A load that failed."""
    EXPERIMENT = "experiment"
    """An experiment began, or goes on with other artefacts."""
    CONCLUDE = "conclude"
    """An experiment ended, and perhaps moved the split."""
    RESTORED = "restored"
    """The store had lost what a worker still knew."""


class Position(NamedTuple):
    """The position of the newest entry; (0, "") in an empty store."""

    generation: int
    id: str


EMPTY = Position(0, "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One generation with who made it, when, and why. Entries are only ever added."""

    state: RoutingState
    at: float
    by: str
    action: Action
    why: str
    id: str
    """Tells two entries of the same generation apart, which exist only when a store has lost one."""

    @property
    def generation(self) -> int:
        return self.state.generation

    @property
    def position(self) -> Position:
        return Position(self.generation, self.id)


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What one worker says about itself, every few seconds and whenever it changes."""

    worker: str
    """The worker's name, unique for the process's life."""
    machine: str
    pid: int
    generation: int
    at: float
    versions: Mapping[str, VersionReport] = field(default_factory=dict)
    candidates: Mapping[str, VersionReport] = field(default_factory=dict)
    heard: Sequence[str] | None = None
    """The versions beside which it has seen rows for a while, and told in the tallies what those had.

    None from an older release, which does not say.
    """


class Tally(NamedTuple):
    """What is added up: `name` is bounded by code, `version` and `environment` by the routing."""

    version: str
    environment: str
    """The environment's name; empty where it does not matter."""
    name: str


class MinuteTallies(NamedTuple):
    """What was counted in one minute."""

    mark: str | None
    """Another one after each addition, and never one that was before; None where an older release made them."""
    counts: dict[Tally, float]


class Binned(NamedTuple):
    """What rows are counted for: the bins of one reference of a version."""

    version: str
    bins: str
    """Names the bins and their order: counts of others are never added to these."""


BinnedCounts = NDArray[np.int64]
"""How many rows are in each cell, shape (cells,); as long for all counts of the same `Binned`."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """One piece of feedback to be counted unless it was before."""

    key: str
    """What it is for: the prediction and the row."""
    expires_at: float
    """When the key is forgotten."""
    counts: Mapping[Tally, float]
    sightings: Sequence[Sighting] = ()
    """What it says for an experiment."""
    paired: PairedLabel | None = None
    """What it says for one whose candidate is a shadow."""
    levels: Mapping[LevelCount, float] = field(default_factory=dict)
    """What it says of the segments of its row."""


GIVEN = 0.0
"""When a secret was made that is given by configuration."""
BEFORE = 1.0
"""When the one secret was made that older versions kept: before any other."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What prediction ids are sealed with, or were."""

    value: bytes
    """32 bytes that nobody can guess."""
    made_at: float
    """Unix time, or `GIVEN`. The newest one seals; one that is given seals only where it is configured."""
    idle_s: float
    """How long workers have seen nobody seal with it: their count, as a clock that is set would lose secrets."""
    placed: str
    """The time at which it was put into the store; another one shows that the store had lost it meanwhile."""


class News(Protocol):
    """Tells that there are newer entries, as soon as they are there. Belongs to one event loop."""

    @property
    def listening(self) -> bool:
        """Whether news are told now; while they are not, the store must be asked often."""
        ...

    async def listen(self, heard: Callable[[], object]) -> None:
        """Call `heard` for every entry that others or this worker append, until this is cancelled.

        Also whenever news are told again: there may be some of which nobody has. One may be lost, or be no news.
        """
        ...


class Store(Protocol):
    """What every store can do. All methods raise `StoreUnavailable`."""

    @property
    def name(self) -> str:
        """Where the store is, for people, without passwords."""
        ...

    @property
    def durability(self) -> str:
        """What may be lost in a crash of the store as it is set up, for people; empty where nothing is."""
        ...

    def position(self) -> Position:
        """The position of the newest entry. Cheap: asked several times a second by every worker."""
        ...

    def news(self) -> News | None:
        """What tells of newer entries; None where nothing does, as the store is only there to be asked."""
        ...

    def read(self) -> Entry | None:
        """The newest entry; None in a store that never had any."""
        ...

    def append(self, entry: Entry, expected: int) -> None:
        """Add an entry if the newest generation is `expected` (0: empty). It is there for good when this returns.

        Raises `GenerationConflict`, and `ValueError` unless the entry's generation is above `expected`.
        """
        ...

    def entry(self, generation: int) -> Entry | None: ...

    def history(self, limit: int, before: int | None = None) -> list[Entry]:
        """Entries with generations below `before`, newest first."""
        ...

    def secrets(self) -> list[Secret]:
        """All secrets that are kept, in any order; None where that of an older version waits for `keep_secrets`."""
        ...

    def keep_secrets(self, known: Sequence[Secret], fresh: Secret | None = None) -> list[Secret]:
        """Add those that are lacking, in one piece and for good, and return all that are kept then.

        The smaller `idle_s` counts. `fresh` is added only where each one that would be there is `GIVEN`. Where none is
        kept, the one that older versions kept is added first; it also stays where those look for it.
        """
        ...

    def age_secrets(self, by_s: float, limit_s: float, sealing: bytes) -> None:
        """Drop those that were idle for more than `limit_s`, and let all but `sealing` have been so for `by_s` more.

        So everybody has some time to read of one that it will be dropped.
        """
        ...

    def report(self, report: WorkerReport, keep_s: float) -> None:
        """Replace the worker's last report; it is forgotten after `keep_s`, which is less than `MAX_KEEP_S`."""
        ...

    def reports(self, now: float) -> list[WorkerReport]:
        """The reports that are not forgotten yet, by worker, nor kept for longer than `MAX_KEEP_S`."""
        ...

    def withdraw(self, worker: str) -> None:
        """Forget a worker's report, and let others have its roles: it is stopping."""
        ...

    def take_role(self, role: str, worker: str, for_s: float, now: float) -> bool:
        """Whether what only one worker should do is for this one, for so many seconds from now on.

        It is while nobody else has the role; who has it has it longer with each call. However many workers there are,
        a call costs the same.
        """
        ...

    def settle(self, settlements: Sequence[Settlement], at: float) -> list[bool]:
        """Count each one whose key is not known, and remember its key, in one piece and for good; true where counted.

        A key that occurs twice in the list is counted once.
        """
        ...

    def add(self, counts: Mapping[Tally, float], at: float) -> None:
        """Add to the tallies of the minute of `at`. May lose the last seconds in a crash."""
        ...

    def tallies(self, since: float) -> dict[tuple[int, Tally], float]:
        """All tallies from `since` on, by (beginning of their minute, tally)."""
        ...

    def tally_marks(self, since: float) -> dict[int, str | None]:
        """The minutes from `since` on that have tallies, ascending, with their marks: which of them have changed."""
        ...

    def tallies_of(self, minutes: Collection[int]) -> dict[int, MinuteTallies]:
        """The tallies of these minutes, each with the mark that belongs to them; those that have none are missing."""
        ...

    def add_levels(self, counts: Mapping[LevelCount, float], at: float) -> None:
        """Add to the counts by segment of the hour of `at`. May lose the last seconds in a crash."""
        ...

    def level_sums(self, version: str, feature: str, since: float) -> dict[tuple[str, str], float]:
        """The counts of a feature from the hour of `since` on, by level and name."""
        ...

    def add_evidence(self, batch: EvidenceBatch, at: float) -> None:
        """Add what a worker counted for experiments, once. May lose the last seconds in a crash."""
        ...

    def evidence(self, experiment: str, before: float) -> GatheredEvidence:
        """What was counted for an experiment in cohorts that began before `before`."""
        ...

    def counted_evidence(self, experiment: str) -> CountedEvidence:
        """All that was counted for an experiment, by cohort."""
        ...

    def forget_evidence(self, keep: Collection[str], now: float) -> None:
        """Drop the evidence of all experiments but these."""
        ...

    def met_pairs(self, experiment: str, at_most: int) -> list[MetPair]:
        """Pairs of an experiment that have met and were not joined."""
        ...

    def join_pairs(self, experiment: str, joined: Sequence[JoinedPair]) -> None:
        """Count what pairs are worth, in one piece, and each once, whoever joins it as well."""
        ...

    def forget_pairs(self, keep: Mapping[str, int]) -> None:
        """Drop scores and labels of all experiments but these, and of their cohorts that began before those times."""
        ...

    def add_binned(self, counts: Mapping[Binned, BinnedCounts], at: float) -> None:
        """Add to the counts of the five minutes of `at`, in one piece. May lose the last seconds in a crash."""
        ...

    def binned(self, of: Binned, since: float) -> dict[int, BinnedCounts]:
        """All counts from `since` on, by the beginning of their five minutes."""
        ...

    def forget_binned(self, before: float) -> None:
        """Drop counts of binned rows older than `before`."""
        ...

    def document(self, name: str) -> tuple[int, bytes | None]:
        """A small value that workers share, and its revision; (0, None) where there is none."""
        ...

    def put_document(self, name: str, content: bytes, revision: int) -> bool:
        """Replace it if it has this revision, for good; whether it had."""
        ...

    def forget(self, before: float, now: float) -> None:
        """Drop tallies, and counts by segment, older than `before`, keys that have expired, and the reports that
        `reports` leaves out.
        """
        ...

    def close(self) -> None: ...
