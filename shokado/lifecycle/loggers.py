"""Loggers of libraries, which say less for a while than they are set to."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_level(level: int, *names: str) -> Iterator[None]:
    """Let the loggers of these names pass on only what has that level or a higher one."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, own in zip(loggers, levels, strict=True):
            logger.setLevel(own)
