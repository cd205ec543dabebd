"""Locks that the processes of one server on a machine share."""

import asyncio
import os
from pathlib import Path

import pytest

from shokado.stores.machine import Machine


def test_one_holds_a_lock_and_others_are_told_or_wait(tmp_path: Path) -> None:
    mine, theirs = Machine(tmp_path), Machine(tmp_path)

    async def scenario() -> None:
        with mine.held("load") as free, theirs.held("load") as second, theirs.held("import") as other:
            assert (free, second, other) == (True, False, True)
            with pytest.raises(TimeoutError):
                async with theirs.turn("load", 0.1):
                    pytest.fail("it is held")
            waiting = asyncio.ensure_future(hold())
            await asyncio.sleep(0)
        await waiting

    async def hold() -> None:
        async with theirs.turn("load", 10):
            with mine.held("load") as free:
                assert not free

    asyncio.run(scenario())


def test_servers_with_other_stores_or_models_have_other_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders = {Machine.of(store, model).folder for store in ("sqlite:///a", "redis://b/0") for model in ("m", "n")}
    assert len(folders) == 4
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="belongs to somebody else"), Machine(tmp_path / "link").held("load"):
        pytest.fail(f"whoever made the link could read what {os.getuid()} writes")
