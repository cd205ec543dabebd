"""Work in processes of their own that goes wrong: it is told in a sentence, and leaves nothing."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from runners.artefacts import repository
from runners.free_memory import is_short_of_memory
from shokado.cli.app import app
from shokado.lifecycle.errors import LifecycleError
from shokado.lifecycle.isolation import ProcessLimits, Stored, Work, isolated
from tests.support.misbehaving_work import MODULE, Misdeed

WORK = Work(MODULE, "The import of models:/paper/1", "shokado models import models:/paper/1 --as v1")
STORED = [Stored("paper:v1", "imported", "models:/paper/1")]
runner = CliRunner()


def attempt(how: str, **limits: Any) -> list[Stored]:
    return isolated(WORK, Misdeed(how), ProcessLimits(**{"max_seconds": 60} | limits))


@pytest.mark.parametrize(
    ("how", "limits", "said", "next_command"),
    [
        ("hang", {"max_seconds": 3}, "The import of models:/paper/1 took longer than 3 s, at", " --max-seconds 12"),
        ("fill_the_memory", {"max_bytes": 2**28}, "memory than it may, 256 MiB, at", " --max-memory 1024MiB"),
        ("fill_the_memory_unheard", {"max_bytes": 2**28}, "memory than it may, 256 MiB, at", " --max-memory 1024MiB"),
        ("crash", {}, "The process of the import of models:/paper/1 was killed by SIGSEGV, at", None),
        ("be_killed", {}, "was killed by SIGKILL, as the kernel does where memory is short, at", ""),
        ("leave", {}, r"ended with status 3 \(no licence \[31mfor this\), at", None),
        ("fail", {}, r"ended with status 1 \(KeyError: 'nobody thought of this'\), at", None),
    ],
)
def test_what_goes_wrong_is_told_and_leaves_nothing(
    how: str, limits: dict[str, int], said: str, next_command: str | None, own_store: Path
) -> None:
    before = {*psutil.Process().children(recursive=True)}
    with pytest.raises(LifecycleError, match=said) as failed:
        attempt(how, **limits)
    assert "at the step 'go wrong'" in str(failed.value)
    assert failed.value.next_command == (None if next_command is None else f"{WORK.command}{next_command}")
    assert [path.name for path in (own_store / "tmp").iterdir()] == ["shokado-import.lock"]
    assert not {*psutil.Process().children(recursive=True)} - before


def test_what_is_refused_there_is_refused_here(own_store: Path) -> None:
    with pytest.raises(LifecycleError, match=r"^It is taken\.$") as refused:
        attempt("refuse")
    assert refused.value.next_command == "shokado models list"


def test_what_is_printed_there_is_not_what_the_command_says(own_store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert attempt("chatter") == STORED
    out, err = capfd.readouterr()
    assert [line.split(" s  ")[1] for line in out.splitlines()] == ["begin well: well", "go wrong"]
    assert err == ""


def test_what_it_started_ends_with_it(own_store: Path) -> None:
    started = time.monotonic()
    assert attempt("linger", max_seconds=120) == STORED
    assert time.monotonic() - started < 60


def test_it_gets_the_registrys_address_and_no_settings_of_a_server(
    own_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOKADO_STORE", "redis://:s3cret@127.0.0.1/0")
    assert attempt("look_around") == STORED
    assert os.environ["MLFLOW_TRACKING_URI"] in capsys.readouterr().out


def test_short_of_memory_is_whatever_came_of_it() -> None:
    error = ValueError("the model does not load")
    assert not is_short_of_memory(error)
    error.__cause__ = RuntimeError("std::bad_alloc")
    assert is_short_of_memory(error)
    assert is_short_of_memory(MemoryError())


class Glutton(LogisticRegression):  # type: ignore[misc]
    """Says much when it is read, and takes what memory there is."""

    def __setstate__(self, state: Any) -> None:
        print("tag:v1  imported  from nowhere", flush=True)
        self.held = [bytearray(2**26) for _ in range(2**10)]
        super().__setstate__(state)


@pytest.mark.slow
def test_a_pickle_that_takes_the_memory_when_it_is_read(log_model: Callable[..., str], own_store: Path) -> None:
    glutton = Glutton().fit([[0.0], [1.0]], [0, 1])
    uri = log_model("sklearn", glutton, serialization_format="cloudpickle")
    command = ["models", "import", uri, "--name", "glutton", "--as", "v1", "--max-memory", "2GiB"]
    result = runner.invoke(app, command)
    assert result.exit_code == 1
    assert re.fullmatch(r" +\d+\.\d s  open the registry: .*\n", result.stdout), result.stdout
    error, following = result.stderr.splitlines()
    assert error.startswith(f"error: The import of {uri} took more memory than it may, 2,048 MiB, at the step")
    assert error.endswith(f"at the step 'glutton:v1: load {uri}', and was ended. It has left nothing unfinished.")
    assert following == f"  next: shokado models import {uri} --as v1 --name glutton --max-memory 8192MiB"
    assert repository.artefacts() == []
    assert not list((own_store / "tmp").glob("shokado-import-*"))


@pytest.mark.parametrize("size", ["much", "0", "-4GiB"])
def test_a_limit_that_is_no_size(size: str) -> None:
    result = runner.invoke(app, ["models", "import", "models:/paper/1", "--as", "v1", "--max-memory", size])
    assert result.exit_code == 2
    assert "is no size, such as 4GiB" in " ".join(result.stderr.replace("│", " ").split())
