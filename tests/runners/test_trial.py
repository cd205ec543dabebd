"""Trials of real artefacts: what kills, fills or holds up the process that opens it is told, and this one lives."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from configuration.settings import BatchingSettings, VersionSettings
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import FileKind
from runners.free_memory import free_bytes
from runners.trial import TrialFailed, TrialOrder, run_trial
from tests.support.hostile import MIB, hungry
from tests.support.shelf import Shelf, own_shelf

FEATURES = 10


@pytest.fixture(scope="module")
def shelf(models: Path) -> Iterator[Shelf]:
    with own_shelf("trial") as own:
        yield own


def attempt(artefact: Artefact, timeout_s: float = 60, max_bytes: int = 2**30) -> None:
    batching = BatchingSettings(max_batch_rows=64)
    order = TrialOrder(
        version="v3", folder=artefact.folder, settings=VersionSettings(), batching=batching, max_bytes=max_bytes
    )
    # Servers of other tests may run beside it.
    before = psutil.Process().children()
    try:
        asyncio.run(run_trial(order, timeout_s))
    finally:
        assert not {*psutil.Process().children()} - {*before}


def test_what_a_worker_could_serve_passes(shelf: Shelf) -> None:
    attempt(shelf.put("good"))


def hungrier_than_allowed(shelf: Shelf) -> Artefact:
    return shelf.with_file("hungry", FileKind.ONNX, lambda _: hungry(FEATURES, 4096))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda shelf: shelf.crashing("crashing"), "it kills the process that opens it: SIGSEGV"),
        (hungrier_than_allowed, "it takes more memory than loading.max_trial_bytes allows"),
        (lambda shelf: shelf.without_card("missing"), "card.json: No such file"),
    ],
    ids=["crashes", "fills the memory", "missing"],
)
def test_what_would_take_a_worker_down_fails_with_the_reason(
    make: Callable[[Shelf], Artefact], said: str, shelf: Shelf
) -> None:
    with pytest.raises(TrialFailed, match=said):
        attempt(make(shelf))


def test_what_never_ends_is_ended_with_its_time(shelf: Shelf) -> None:
    with pytest.raises(TrialFailed, match=r"was not opened, checked and warmed up within 5 s"):
        attempt(shelf.endless("endless"), timeout_s=5)


def test_a_model_may_take_so_much_memory_beside_what_every_trial_takes(shelf: Shelf) -> None:
    """Its scores are wrong; it gets as far as that."""
    artefact = shelf.with_file("satisfied", FileKind.ONNX, lambda _: hungry(FEATURES, 64))
    with pytest.raises(TrialFailed, match="does not score the card's examples"):
        attempt(artefact, max_bytes=512 * MIB)


def test_a_container_has_free_what_its_limit_leaves(tmp_path: Path) -> None:
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    assert free_bytes(meminfo, cgroup) == 2**62
    meminfo.write_text("MemTotal: 4096 kB\nMemAvailable:   2048 kB\n")
    assert free_bytes(meminfo, cgroup) == 2048 * 1024
    for folder, names in (
        (cgroup, ("memory.max", "memory.current", "inactive_file")),
        (cgroup / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ):
        limit, used, cached = names
        folder.mkdir()
        (folder / "memory.stat").write_text(f"anon 5\n{cached} 100\n")
        (folder / used).write_text("700\n")
        (folder / limit).write_text("max\n")
        assert free_bytes(meminfo, cgroup) == 2048 * 1024
        (folder / limit).write_text("1000\n")
        assert free_bytes(meminfo, cgroup) == 400
        (folder / limit).write_text("500\n")
        assert free_bytes(meminfo, cgroup) == 0
        (folder / limit).write_text("max\n")
