"""Routes: which handler answers a path, and which versions the path names."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from shokado.transports.exchange import Handler

_NAME = re.compile(r"\{(\w+)\}")


class Found(NamedTuple):
    """The handler of a path, and the versions or aliases that the path names."""

    handler: Handler
    pins: tuple[str, ...] = ()


def names_in(path: str) -> list[str]:
    """What `{name}` there is in a handler's path."""
    return _NAME.findall(path)


def without_prefix(path: str, prefix: str) -> str:
    """The path as routes know it: without the prefix, and without a slash at its end."""
    if prefix and (path == prefix or path.startswith(prefix + "/")):
        path = path.removeprefix(prefix)
    return path.rstrip("/") or "/"


class Routes:
    """A table of paths. In a handler's path, `{name}` stands for one name: the model's, a version's or an alias."""

    def __init__(self, handlers: Iterable[Handler] = (), model: str = "") -> None:
        """`model` is the name that all versions share, which pins nothing."""
        self._model = model
        handlers = list(handlers)
        self._plain = {handler.path.encode(): Found(handler) for handler in handlers if "{" not in handler.path}
        self._patterns = [(_pattern(handler.path), handler) for handler in handlers if "{" in handler.path]

    def find(self, path: bytes) -> Found | None:
        """`path` is decoded, and without a query. A name in it may be anything: nobody may be called so."""
        found = self._plain.get(path)
        if found is not None:
            return found
        for pattern, handler in self._patterns:
            match = pattern(path)
            if match is not None:
                names = [name.decode("latin-1") for name in match.groups()]
                return Found(handler, tuple(name for name in names if name != self._model))
        return None


def _pattern(path: str) -> Callable[[bytes], re.Match[bytes] | None]:
    fixed = (re.escape(part) for part in _NAME.split(path)[::2])
    return re.compile(r"([^/]+)".join(fixed).encode()).fullmatch
