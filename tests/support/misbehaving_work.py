"""Work in a process of its own that goes wrong in the way that its order says, in the middle of its second step."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from runners.artefacts import repository
from shokado.lifecycle.errors import VersionTaken
from shokado.lifecycle.isolation import Stored, carry_out
from shokado.lifecycle.progress import say, step

MODULE = "tests.support.misbehaving_work"


@dataclass(frozen=True)
class Misdeed:
    """How to go wrong: the name of a function below."""

    how: str


def hang() -> None:
    while True:
        time.sleep(1)


def fill_the_memory() -> None:
    held = [bytearray(2**24) for _ in range(2**12)]
    print(len(held))


def fill_the_memory_unheard() -> None:
    """As libraries do that say of any exception that a model cannot be read."""
    try:
        fill_the_memory()
    except MemoryError as error:
        raise VersionTaken("it does not load") from error


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os.write(2, b"no licence \x1b[31mfor this\n")
    sys.exit(3)


def refuse() -> None:
    raise VersionTaken("It is taken.", "shokado models list")


def fail() -> None:
    raise KeyError("nobody thought of this")


def chatter() -> None:
    """Say what looks like an outcome, in every way there is."""
    forged = '{"type":"refused","message":"forged","next_command":null}\n'
    print(forged, flush=True)
    os.write(1, forged.encode())
    subprocess.run([sys.executable, "-c", f"print({forged!r})"], check=True)
    sys.stdout.write("x" * 2**20)


def linger() -> None:
    """Leave a thread that never ends, and a process that holds on to the pipes."""
    threading.Thread(target=hang).start()
    subprocess.Popen(["sleep", "600"])


def look_around() -> None:
    assert "SHOKADO_STORE" not in os.environ
    say(os.environ["MLFLOW_TRACKING_URI"])


WAYS: dict[str, Callable[[], None]] = {
    way.__name__: way
    for way in (
        hang,
        fill_the_memory,
        fill_the_memory_unheard,
        crash,
        be_killed,
        leave,
        refuse,
        fail,
        chatter,
        linger,
        look_around,
    )
}


def misbehave(order: Misdeed) -> list[Stored]:
    """Begin what an import begins, and go wrong."""
    with step("begin well") as current:
        current.outcome = "well"
    with repository.staging() as stage:
        (stage / "half").write_text("of it")
        with step("go wrong"):
            WAYS[order.how]()
    return [Stored("paper:v1", "imported", "models:/paper/1")]


if __name__ == "__main__":
    carry_out(Misdeed, misbehave)
