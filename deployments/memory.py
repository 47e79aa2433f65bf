"""Large blocks of memory go back to the system as soon as they are free.

glibc keeps freed blocks, of up to 32 MB once some have been that large, in arenas, of which threads
have eight a core. Under Serve what a request does on a thread runs on a thread of its own, hence
in any arena: a replica on two cores kept 16 times the largest body that it had read.
"""

import ctypes

LARGE_BYTES = 1_000_000
_M_MMAP_THRESHOLD = -3  # malloc.h


def return_large_blocks() -> None:
    """Called once per replica. Does nothing where the C library is not glibc."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
