"""What this process does with memory, so that training does not pay for it again and again."""

import atexit
import ctypes
import gc
import os
import platform
import sys
from functools import cache
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt(3)
MADV_HUGEPAGE = 14  # madvise(2)
RESERVE = 4 << 30  # bytes of addresses, not of memory: only pages that are used count


@cache
def keep_freed() -> None:
    """Let the next step have what the last one freed, without asking the system.

    By default glibc gives every large block back when it is freed and asks for it anew in the next step,
    page by page, zeroed: with 17 million weights half of a training step on two CPU cores. Where the
    allocator is not glibc's, nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
    libc.free(libc.malloc(RESERVE))  # the heap has this range from now on
    _huge_pages(libc)


def _huge_pages(libc: ctypes.CDLL) -> None:
    """Ask for pages of 2 MB in the heap, where the system gives them on request."""
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with Path("/proc/self/maps").open() as maps:
        heap = next((line.split()[0] for line in maps if line.rstrip().endswith("[heap]")), None)
    if heap:
        start, end = (int(address, 16) for address in heap.split("-"))
        libc.madvise(start, end - start, MADV_HUGEPAGE)


@cache
def pass_over_modules() -> None:
    """Spare the garbage collector what is there once all is imported: a third of a second each time it looks.

    Only once in a process: later there are the leavings of a run among what would never be freed.
    """
    gc.freeze()
    end_at_once()


@cache
def end_at_once() -> None:
    """Let this process end without freeing a million objects one by one, which takes a second.

    The bindings of triton call what is left a leak, on a stderr that nobody has anything more to say on.
    """
    atexit.register(_leave_all)


def _leave_all() -> None:
    gc.freeze()
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
