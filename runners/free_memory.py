"""How much memory this process could still take, in its container or on its machine."""

import contextlib
from pathlib import Path

_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The smaller of what the machine and the container have free; file caches that can be dropped count as free.

    Where nothing can be read, as many bytes as there could be.
    """
    free = [2**62]
    with contextlib.suppress(OSError, ValueError):
        words = meminfo.read_text(encoding="ascii").split()
        free.append(int(words[words.index("MemAvailable:") + 1]) * 1024)
    for folder, (limit, used, cached) in ((cgroup, _V2), (cgroup / "memory", _V1)):
        # No limit is the word `max`, or a number beyond all memory.
        with contextlib.suppress(OSError, ValueError):
            words = (folder / "memory.stat").read_text(encoding="ascii").split()
            droppable = int(words[words.index(cached) + 1])
            taken = int((folder / used).read_text(encoding="ascii"))
            free.append(int((folder / limit).read_text(encoding="ascii")) - taken + droppable)
    return max(min(free), 0)
