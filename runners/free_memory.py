"""How much memory this process could still take, in its container or on its machine; and a limit for what it runs."""

import contextlib
import resource
from pathlib import Path

_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SHORT = (
    "memoryerror",
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "cannot allocate memory",
    "memory allocation",
    "unable to allocate",
)
"""What libraries say that got no memory."""


def _number_behind(word: str, path: Path) -> int:
    """Raises `OSError` for a file that cannot be read, and `ValueError` for one that does not have it."""
    words = path.read_text(encoding="ascii").split()
    return int(words[words.index(word) + 1])


def free_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The smaller of what the machine and the container have free; file caches that can be dropped count as free.

    Where nothing can be read, as many bytes as there could be.
    """
    free = [2**62]
    with contextlib.suppress(OSError, ValueError):
        free.append(_number_behind("MemAvailable:", meminfo) * 1024)
    for folder, (limit, used, cached) in ((cgroup, _V2), (cgroup / "memory", _V1)):
        # No limit is the word `max`, or a number beyond all memory.
        with contextlib.suppress(OSError, ValueError):
            droppable = _number_behind(cached, folder / "memory.stat")
            taken = int((folder / used).read_text(encoding="ascii"))
            free.append(int((folder / limit).read_text(encoding="ascii")) - taken + droppable)
    return max(min(free), 0)


def granted_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The smaller of what the machine has and its container may have; 0 where neither can be read."""
    granted = []
    with contextlib.suppress(OSError, ValueError):
        granted.append(_number_behind("MemTotal:", meminfo) * 1024)
    for folder, (limit, *_) in ((cgroup, _V2), (cgroup / "memory", _V1)):
        with contextlib.suppress(OSError, ValueError):
            granted.append(int((folder / limit).read_text(encoding="ascii")))
    return min(granted, default=0)


def limit_memory(max_bytes: int) -> None:
    """Let this process have so much more than it has now, and no more than is free.

    What allocates beyond it gets an error. Where the machine runs short, the kernel kills this process first.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    more = min(max_bytes, free_bytes())
    with contextlib.suppress(OSError, ValueError):
        now = _number_behind("VmData:", Path("/proc/self/status")) * 1024
        # Of the kinds of memory the one that a model takes: libraries and mapped files do not count.
        resource.setrlimit(resource.RLIMIT_DATA, (now + more, now + more))


def says_short_of_memory(words: str) -> bool:
    """Whether this is what a library says that got no memory."""
    return any(said in words.lower() for said in _SHORT)


def is_short_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one that led to it, means that there was no memory."""
    while error is not None:
        if isinstance(error, MemoryError) or says_short_of_memory(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
