from collections.abc import Iterator

import pytest

from tests.transports.lane_server import LaneServer, lane_server


@pytest.fixture
def lane() -> Iterator[LaneServer]:
    with lane_server() as server:
        yield server
