"""Where the server is told to listen: what cannot be meant is refused in one line, before anything is started.

BentoML takes any number for a port: it would listen at 14464 for 80000, and for 0 at one that nobody knows.
"""

import sys
from ipaddress import ip_address

import click
from click.core import ParameterSource

from configuration.port import MAX_PORT, RANGE
from configuration.settings import GrpcSettings

_VARIABLES = {"host": "BENTOML_HOST", "port": "BENTOML_PORT"}


def refuse_unfit_address(grpc: GrpcSettings) -> None:
    """Exit with one line where `bentoml serve`, within which this is called, was told a wrong host or port."""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    host, port = context.params.get("host"), context.params.get("port")
    if host is not None and not _is_address(host):
        sys.exit(f"shokado: {_setting(context, 'host')} {host}: name an address, such as 127.0.0.1 or 0.0.0.0")
    if port is None:
        return
    if not 1 <= port <= MAX_PORT:
        sys.exit(f"shokado: {_setting(context, 'port')} {port}: {RANGE}")
    if port == grpc.port:
        sys.exit(f"shokado: {_setting(context, 'port')} {port}: grpc.port is {port} too; name another one for either")


def _setting(context: click.Context, name: str) -> str:
    """How it was told."""
    told = context.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    return f"{_VARIABLES[name]}:" if told else f"--{name}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
