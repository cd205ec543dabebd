"""Whose fault it is that a request got no prediction of its version."""

from enum import StrEnum

FELL_BACK = "fell_back"
"""Kind of error that no client saw: the version failed, or was not ready, and the active one answered instead."""


class Fault(StrEnum):
    """Whose fault an error is. One that is the client's never counts against a version, whoever looks at it."""

    CLIENT = "client"
    SERVER = "server"
