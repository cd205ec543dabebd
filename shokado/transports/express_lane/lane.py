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
    """Have the connections of this process answer these routes from now on."""
    LaneConnection.context = LaneContext(routes, limits, body_quota, refuse_head)


def retire(connections: Iterable[object]) -> None:
    """Have every connection, those that come later as well, say in its next answer that it is the last."""
    context = LaneConnection.context
    if context.limits.drain_s is None:
        return
    context.retiring = True
    for connection in connections:
        if isinstance(connection, LaneConnection):
            connection.retire()
