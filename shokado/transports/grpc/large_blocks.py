"""What glibc does with the memory of large messages once they are read."""

import ctypes

_M_MMAP_THRESHOLD = -3
"""The parameter's number in glibc's malloc.h."""
_LARGE_BYTES = 2**20
"""Far above what a request usually takes, so that these need no system call; far below a message of megabytes."""


def return_large_blocks() -> None:
    """Give memory of a mebibyte and more back to the system as soon as it is freed, in this process, from now on.

    Left alone, glibc raises that bound, up to 32 MiB, to the largest block that was freed, and takes such blocks from
    the heaps of grpc's threads from then on, where they cannot be given back: 160 MiB more of a worker stayed taken.
    Any other C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
