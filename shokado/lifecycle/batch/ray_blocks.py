"""Blocks on Ray: each is a task, which any process of the cluster may do, and again if that process dies.

Not more tasks wait than keep all processors busy, so that neither the driver nor Ray holds more for a larger input.
"""

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shokado.lifecycle.batch.batch_plan import BatchPlan, RowBlock
from shokado.lifecycle.batch.locations import Location
from shokado.lifecycle.batch.opened_version import OpenedVersion, PackedArtefact, open_version
from shokado.lifecycle.batch.part_files import BlockDone
from shokado.lifecycle.batch.scored_block import score_block
from shokado.lifecycle.errors import BatchRefused, LifecycleError, MissingPackage

INSTALL = "make batch"
RETRIES = 3
"""How often a block is tried again whose process died."""
STARTS = 3
"""How often Ray is started: it gives up after half a minute, which a busy machine may take."""
_WAITING = 2
"""Tasks for each processor: the next one is there when one ends."""
_OBJECT_STORE_BYTES = 128 * 2**20
"""What local Ray may keep in shared memory: the model files, as rows never go there."""


def check_installed() -> None:
    """Raise `MissingPackage` where Ray is not installed; nothing of it is imported."""
    if importlib.util.find_spec("ray") is None:
        raise MissingPackage(
            "Batches need the package ray, which is not installed here. `make batch` makes an environment that has it; "
            "then: var/batch/bin/shokado batch run",
            INSTALL,
        )


@dataclass(frozen=True)
class BatchWork:
    """What every block needs, and so is sent once."""

    plan: BatchPlan
    source: str
    output: str
    artefacts: tuple[PackedArtefact, ...]

    @cached_property
    def versions(self) -> dict[str, OpenedVersion]:
        """The versions, opened in this process."""
        limit = self.plan.max_text_characters
        return {packed.version: open_version(packed, limit) for packed in self.artefacts}


class Cluster:
    """Ray, to which this process is connected."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    @property
    def cpus(self) -> int:
        """Processors of all its machines, now."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def score(self, work: BatchWork, blocks: Iterable[RowBlock], told: Callable[[BlockDone], None]) -> None:
        """Score all blocks, and tell of each that is done. Raises `LifecycleError`."""
        ray, rest = self._ray, iter(blocks)
        # In a list, so that a task is sent the reference, and its process fetches what is behind it once.
        sent = [ray.put(work)]
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_score)
        pending: dict[Any, RowBlock] = {}
        while True:
            for block in _some(rest, _WAITING * self.cpus - len(pending)):
                pending[task.remote(work.plan.id, sent, block)] = block
            if not pending:
                return
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=10)
            for one in ready:
                block = pending.pop(one)
                with _plainly(work.plan.where(block)):
                    told(ray.get(one))


@contextmanager
def cluster(address: str | None, cpus: int | None) -> Iterator[Cluster]:
    """A cluster at an address, or Ray on this machine with so many processors; None: all that it may use.

    Raises `LifecycleError`.
    """
    check_installed()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    for left in reversed(range(STARTS)):
        try:
            _connect(ray, address, cpus)
            break
        # What it raises where a machine is too busy to start it in time is a bare one.
        except Exception as error:
            ray.shutdown()
            if not left:
                where = f"at {address} cannot be reached" if address is not None else "cannot be started here"
                raise LifecycleError(f"Ray {where}: {type(error).__name__}: {error}") from error
    try:
        yield Cluster(ray)
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None, cpus: int | None) -> None:
    if address is not None:
        ray.init(address, log_to_driver=False, logging_level="ERROR")
        return
    ray.init(
        "local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=_OBJECT_STORE_BYTES,
    )


_work: tuple[str, BatchWork] | None = None
"""What this process scores by, and the plan that it is of."""


def _score(plan: str, sent: list[Any], block: RowBlock) -> BlockDone:
    """Score a block, in a process of the cluster."""
    global _work  # noqa: PLW0603  # processes are used again, and opening a version takes longer than a block
    if _work is None or _work[0] != plan:
        import ray

        _work = plan, ray.get(sent[0])
    work = _work[1]
    return score_block(work.plan, block, work.versions, Location(work.source), Location(work.output))


@contextmanager
def _plainly(where: str) -> Iterator[None]:
    """Raise `BatchRefused` for what Ray says of a block that is not done."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, LifecycleError):
            raise BatchRefused(str(cause), cause.next_command) from None
        raise BatchRefused(f"{where}: {type(cause).__name__}: {cause}") from error
    except ray.exceptions.OutOfMemoryError as error:
        raise BatchRefused(
            f"{where}: the processes that score take more memory than the machine has. Use fewer of its processors.",
            "shokado batch run .. --cpus 1",
        ) from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError) as error:
        raise BatchRefused(f"{where}: the process that scores it has died {RETRIES + 1} times.") from error


def _some(blocks: Iterator[RowBlock], count: int) -> Iterator[RowBlock]:
    for _ in range(count):
        block = next(blocks, None)
        if block is None:
            return
        yield block
