"""The watchdog: a thread of this process that sees engines at work, and ends their calls that take too long.

    a call on the event loop  --(INLINE_S)--> interrupted: its batch is computed in the engine's thread instead
                              --(not heeded, max_run_s and GRACE_S)--> the process ends, and remembers why
    a call in the thread      --(max_run_s)--> interrupted: its batch fails, and the version is away meanwhile
                              --(not heeded, GRACE_S more)--> the thread is lost: this process should be replaced

An engine is foreign code: it may loop for ever over one row, and no exception reaches it. But it gives up the
interpreter's lock while it computes, so that another thread can see it and, with ONNX Runtime, end it.
"""

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable
from math import inf
from pathlib import Path

from runners.engines.engine import Engine

TICK_S = 0.1
"""How finely calls are timed: well below `INLINE_S`, and so seldom that looking costs nothing that shows."""
INLINE_S = 0.25
"""A hundred times as long as a batch on the event loop should take."""
GRACE_S = 2.0
"""How long an interrupted engine has to come back, which it does between two nodes or rounds of a loop."""

logger = logging.getLogger("bentoml.shokado")


class Watched:
    """Who calls an engine. What it costs a call is two additions: time is counted in ticks of the watchdog.

    During them a process that is held up as a whole does not age.
    """

    def __init__(self, version: str, engine: Engine, max_run_s: float = inf, inline_s: float = INLINE_S) -> None:
        """A call may take `max_run_s`, and hold up the event loop for `inline_s`."""
        self.turn = 0
        """Odd while the engine computes; another number for each call."""
        self.inline = True
        """Whether the event loop waits for it."""
        self.version = version
        self.max_run_s = max_run_s
        self.watchdog: Watchdog | None = None
        """Who watches it, and does so as long as anybody has it."""
        self._engine = engine
        self._inline_s = min(inline_s, max_run_s)
        self._seen = 0
        self._since_s = 0.0

    def on_overrun(self, turn: int) -> None:
        """The call in the thread takes too long. Called by the watchdog, in its own thread."""

    def on_loss(self, turn: int) -> None:
        """The call in the thread does not heed its interruption. Called by the watchdog, in its own thread."""

    def look(self, watchdog: "Watchdog") -> None:
        """The watchdog calls this after each tick."""
        turn = self.turn
        if not turn & 1 or turn != self._seen:
            self._seen, self._since_s = turn, 0.0
            return
        before_s, self._since_s = self._since_s, self._since_s + watchdog.tick_s
        inline = self.inline
        patience_s, lost_s = self._inline_s if inline else self.max_run_s, self.max_run_s + GRACE_S
        if self._since_s < patience_s:
            return
        if before_s < patience_s:
            where = "on the event loop" if inline else "in its thread"
            logger.error("version %s: a batch takes longer than %g s %s", self.version, patience_s, where)
            if not inline:
                self.on_overrun(turn)
        self._engine.interrupt(lambda: self.turn == turn)
        if before_s < lost_s <= self._since_s:
            if inline:
                watchdog.hold_up(self.version)
            else:
                self.on_loss(turn)


class Watchdog:
    """The watchdog of one process. It keeps nobody alive whom it watches, and its thread ends when nobody has it."""

    def __init__(self, folder: Path | None, end_process: Callable[[str], None], tick_s: float = TICK_S) -> None:
        """`folder`, if any, outlives this process, for notes of what has held it up; `end_process` never returns."""
        self.tick_s = tick_s
        self._folder = folder
        self._end_process = end_process
        self._watched: tuple[weakref.ref[Watched], ...] = ()
        threading.Thread(target=_run, args=(weakref.ref(self), tick_s), name="shokado-watch", daemon=True).start()

    def add(self, watched: Watched) -> None:
        watched.watchdog = self
        self._watched = (*(known for known in self._watched if known() is not None), weakref.ref(watched))

    def has_held_up(self, version: str) -> bool:
        """Whether a process of this server had to be ended because of it: then the loop must not wait for it again."""
        return self._folder is not None and self._note(self._folder, version).exists()

    def hold_up(self, version: str) -> None:
        """Remember the version, and end the process."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._note(self._folder, version).touch()
        self._end_process(f"the engine of version {version} holds up the event loop, and heeds no interruption")

    @staticmethod
    def _note(folder: Path, version: str) -> Path:
        return folder / f"held-up-by-{version}"

    def look(self) -> None:
        """Called after each tick."""
        for known in self._watched:
            watched = known()
            if watched is not None:
                try:
                    watched.look(self)
                except Exception:
                    logger.exception("version %s cannot be watched", watched.version)
            del watched


def _run(known: weakref.ref[Watchdog], tick_s: float) -> None:
    while True:
        time.sleep(tick_s)
        watchdog = known()
        if watchdog is None:
            return
        watchdog.look()
        del watchdog
