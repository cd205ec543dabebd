"""A batch from the order to the summary: what `shokado batch run` does.

A plan that is there is gone on with: parts that are whole stay, and the rest is scored. So whatever was killed, the
same command again ends with each row of the input in the output once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shokado.batches.batch_report import BatchReport, BatchState, read_report, write_report
from shokado.lifecycle.batch.batch_plan import (
    FOLDER,
    LOCK_FILE,
    REJECTED,
    SUMMARY_FILE,
    BatchPlan,
    RowBlock,
    read_plan,
    write_plan,
)
from shokado.lifecycle.batch.batch_progress import BatchProgress
from shokado.lifecycle.batch.locations import Location
from shokado.lifecycle.batch.opened_version import pack_artefact
from shokado.lifecycle.batch.part_files import read_done
from shokado.lifecycle.batch.planning import BatchOrder, Planned, new_plan, same_plan
from shokado.lifecycle.batch.ray_blocks import BatchWork, check_installed, cluster
from shokado.lifecycle.errors import BatchRefused, LifecycleError
from shokado.lifecycle.progress import say


class BatchSummary(msgspec.Struct, frozen=True):
    """What came of a batch. Where it is written, all rows are in the output."""

    plan: str
    model: str
    versions: dict[str, str]
    """The digest of each."""
    rows: int
    scored: dict[str, int]
    """By version."""
    rejected: dict[str, int]
    """By the code of why."""
    parts: int


@dataclass(frozen=True)
class RunOptions:
    """How it is run, on which nothing of the output depends.

    Attributes:
        address: of a Ray cluster; None: this machine.
        cpus: how many of this machine's processors.
        report: a file for whoever watches from outside, see `BatchProgress`.
    """

    address: str | None = None
    cpus: int | None = None
    report: Path | None = None


def run_batch(
    order: Callable[[bool], BatchOrder],
    source: str,
    output: str,
    options: RunOptions = RunOptions(),
) -> BatchSummary:
    """Score the tables at `source`, and write parts, rejected rows and the summary below `output`.

    `order` is asked whether there is a plan already, as a split need not be known then.

    Raises `LifecycleError`; what is written by then stays, and the same again goes on with it.
    """
    check_installed()
    with _reported(options.report):
        tables, target = Location(source), Location(output)
        if target.is_below(tables):
            raise BatchRefused(f"{target.name} is within the input, and would be scored as well. Name another folder.")
        return _run(order, tables, target, options)


def _run(order: Callable[[bool], BatchOrder], tables: Location, target: Location, options: RunOptions) -> BatchSummary:
    with target.locked(LOCK_FILE, f"Another run writes to {target.name}: wait for it, or name another folder."):
        planned = _planned(order, tables, target)
        plan = planned.plan
        with BatchProgress(plan.rows, options.report) as progress:
            missing = _missing(plan, target, progress)
            if missing:
                _score(planned, missing, (tables.address, target.address), options, progress)
            # Of processes that were killed, in this run or before.
            for folder in ("", REJECTED):
                target.remove_left_overs(folder)
            counts = progress.counts
        _check_unchanged(plan, tables)
        return _summarized(plan, counts, target)


def _check_unchanged(plan: BatchPlan, tables: Location) -> None:
    """Raise `BatchRefused` where a file was written to while it was scored: nobody knows what parts are of."""
    for file in plan.files:
        if tables.size_and_mark(file.path) != (file.size_bytes, file.mark):
            raise BatchRefused(f"{file.name} has changed while it was scored. Score it anew, into another folder.")


@contextmanager
def _reported(path: Path | None) -> Iterator[None]:
    """Have a report say how the block began and how it ended."""

    def tell(state: BatchState, error: str | None = None) -> None:
        if path is not None:
            last = read_report(path) or BatchReport(state)
            write_report(path, msgspec.structs.replace(last, state=state, error=error))

    tell(BatchState.PLANNING)
    try:
        yield
    except KeyboardInterrupt:
        tell(BatchState.CANCELLED)
        raise
    except LifecycleError as error:
        tell(BatchState.FAILED, str(error))
        raise
    except Exception as error:
        tell(BatchState.FAILED, f"{type(error).__name__}: {error}")
        raise
    tell(BatchState.SUCCEEDED)


def _planned(order: Callable[[bool], BatchOrder], tables: Location, target: Location) -> Planned:
    """The plan that is there, or a new one, which is there then."""
    there = read_plan(target)
    if there is not None:
        return same_plan(there, order(True), tables)
    others = sorted(target.names() - {FOLDER, REJECTED})
    if others:
        raise BatchRefused(f"{target.name} has other files, such as {others[0]}: name a folder that is empty or new.")
    planned = new_plan(order(False), tables)
    if planned.ignored:
        say(f"left out, as no version takes them: {', '.join(planned.ignored[:20])}")
    write_plan(target, planned.plan)
    written = read_plan(target)
    assert written is not None
    assert written.id == planned.plan.id, "whoever goes on has the same plan"
    return planned


def _missing(plan: BatchPlan, target: Location, progress: BatchProgress) -> list[RowBlock]:
    """The blocks that have no part yet."""
    there, missing = target.names(), []
    for block in plan.blocks:
        done = read_done(target, plan.id, block) if block.part in there else None
        if done is None:
            missing.append(block)
        else:
            progress.found(done)
    if len(missing) < len(plan.blocks):
        say(f"go on: {len(plan.blocks) - len(missing):,} of {len(plan.blocks):,} blocks are done")
    return missing


def _score(
    planned: Planned, blocks: list[RowBlock], addresses: tuple[str, str], options: RunOptions, progress: BatchProgress
) -> None:
    plan = planned.plan
    engines = {one.version: one.engine for one in plan.versions}
    packed = tuple(pack_artefact(one, engines[version]) for version, one in planned.artefacts.items())
    with cluster(options.address, options.cpus) as ray:
        say(f"score {len(blocks):,} blocks on {ray.cpus} CPUs")
        ray.score(BatchWork(plan, *addresses, packed), blocks, progress.told)


def _summarized(plan: BatchPlan, counts: BatchReport, target: Location) -> BatchSummary:
    assert counts.done == plan.rows
    digests = {one.version: one.digest for one in plan.versions}
    summary = BatchSummary(plan.id, plan.model, digests, plan.rows, counts.scored, counts.rejected, len(plan.blocks))
    target.write(target.at(SUMMARY_FILE), msgspec.json.format(msgspec.json.encode(summary), indent=1))
    return summary
