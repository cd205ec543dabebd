import subprocess
import sys

PROGRAM = """
import ctypes
from shokado.transports.grpc.large_blocks import return_large_blocks

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
if {mended}:
    return_large_blocks()
del (first := [bytes(16 * 2**20)])[0]  # by which glibc raises its bound, if it may
before = libc.mallinfo2().hblkhd
second = bytes(8 * 2**20)
print((libc.mallinfo2().hblkhd - before) // 2**20)
"""


def mapped_mib(mended: bool) -> int:
    """Of 8 MiB, what stands outside of the heaps."""
    program = PROGRAM.format(mended=mended)
    return int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def test_a_large_block_stands_outside_of_the_heaps_whatever_was_freed_before() -> None:
    assert mapped_mib(mended=False) == 0, "what glibc does by itself"
    assert mapped_mib(mended=True) == 8
