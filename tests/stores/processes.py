"""Work in processes of its own: several at once, without the rights of root, or until it is killed."""

import contextlib
import multiprocessing
import os
import resource
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

_NOBODY = 65534
_LIMIT_S = 60.0
# Forked, so that it may be a closure and starts fast.
_FORK = multiprocessing.get_context("fork")

Result = TypeVar("Result")


@contextlib.contextmanager
def process(work: Callable[[Connection], Any]) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that does the work with a connection to talk through, and the other end of it; killed at the end."""
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=work, args=(theirs,))
    child.start()
    # Then reading ends when the child does.
    theirs.close()
    try:
        yield child, ours
    finally:
        child.kill()
        child.join()
        ours.close()


def in_processes(work: Callable[[int], Result], count: int) -> list[Result]:
    """The results of work(0), work(1), .. in a process each, all at the same time. Raises what any of them raises."""
    barrier = _FORK.Barrier(count)

    def run(number: int, results: Connection) -> None:
        try:
            barrier.wait(_LIMIT_S)
            results.send((work(number), ""))
        except BaseException:
            results.send((None, traceback.format_exc()))

    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(process(lambda results, number=number: run(number, results)))[1]  # type: ignore[misc]
            for number in range(count)
        ]
        found: list[Result] = []
        for connection in connections:
            assert connection.poll(_LIMIT_S), f"no result within {_LIMIT_S} s"
            result, failure = connection.recv()
            assert not failure, failure
            found.append(result)
        return found


def unprivileged(work: Callable[[], None], folder: Path) -> None:
    """Do the work as somebody who owns the folder and is not root, whom nothing is forbidden."""
    root = os.geteuid() == 0
    if root:
        os.chown(folder, _NOBODY, _NOBODY)

    def run(_: int) -> None:
        if root:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        work()

    in_processes(run, 1)


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
