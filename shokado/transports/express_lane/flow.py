"""Flow control: a connection is read from only as fast as its requests are answered and its answers are taken."""

import asyncio
from collections.abc import Sized

from uvicorn.protocols.http.flow_control import FlowControl


class LaneFlow(FlowControl):
    """Reads on only when nothing waits to be answered or to be written; uvicorn alone would read without bound."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        """`waiting` are uvicorn's own requests that wait for those before them."""
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting and not self.write_paused:
            super().resume_reading()
