"""`python -m runners.child <pid> shokado.retraining.command <program> ..`: becomes the program of `retraining.command`.

It has the event on its standard input, the environment without the server's own variables, and ends with the worker
that started it. What it says goes to the worker, which keeps its end.
"""

import os
import sys

from runners.child import run_child
from shokado.retraining.event import Outcome

_LOOK_EVERY_S = 0.5
NOT_FOUND = 127


async def run_command(command: tuple[str, ...], body: bytes, timeout_s: float) -> Outcome:
    """Run the command once, and wait for its end; on the main thread."""
    try:
        done = await run_child(__name__, *command, timeout_s=timeout_s, given=body, look_every_s=_LOOK_EVERY_S)
    except TimeoutError:
        return Outcome(accepted=False, note=f"{command[0]} was ended after {timeout_s:g} s: retraining.timeout_s")
    if done.code == 0:
        return Outcome(accepted=True, note=f"{command[0]} ended with 0")
    how = f"was ended by {done.signal}" if done.signal is not None else f"ended with {done.code}"
    said = f": {done.last_words}" if done.last_words else ""
    return Outcome(accepted=False, note=f"{command[0]} {how}{said}")


def main(command: list[str]) -> None:
    """Become the program."""
    try:
        os.execvp(command[0], command)  # noqa: S606  # the settings name it, and no shell reads it
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}; retraining.command in serving.yaml names it\n")
        sys.exit(NOT_FOUND)


if __name__ == "__main__":
    main(sys.argv[1:])
