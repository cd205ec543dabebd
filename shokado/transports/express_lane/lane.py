"""The lane of this process: registered with uvicorn, opened for routes, and retired when the server stops."""

from collections.abc import Iterable

from shokado.transports.body_quota import BodyQuota
from shokado.transports.express_lane.connection import LaneConnection
from shokado.transports.express_lane.context import LaneContext, LaneLimits, RefuseHead, refuse_plainly
from shokado.transports.routes import Routes


def register() -> None:
    """Make the lane the protocol of every uvicorn server that this process starts; call before it is configured."""
    import uvicorn.config

    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{LaneConnection.__module__}:{LaneConnection.__name__}"


def open_lane(
    routes: Routes, limits: LaneLimits, body_quota: BodyQuota, refuse_head: RefuseHead = refuse_plainly
) -> None:
    """From now on, the connections of this process answer these routes."""
    LaneConnection.context = LaneContext(routes, limits, body_quota, refuse_head)


def retire(connections: Iterable[object]) -> None:
    """From now on, say in every answer that it is its connection's last: those there are, and those to come."""
    context = LaneConnection.context
    if context.limits.drain_s is None:
        return
    context.retiring = True
    for connection in connections:
        if isinstance(connection, LaneConnection):
            connection.retire()
