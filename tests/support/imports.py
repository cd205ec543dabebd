"""Imports that a process has started and that have not ended."""

import contextlib

import psutil


def imports_under_way(pid: int | None = None) -> list[psutil.Process]:
    """Of the process of that id, by default this one, and of its children."""
    found: dict[int, psutil.Process] = {}
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            # What an import starts itself looks like it at first.
            if {"shokado", "models"} <= {*child.cmdline()} and child.ppid() not in found:
                found[child.pid] = child
    return list(found.values())
