"""The one place that random octets come from."""

import os


def random_bytes(count: int) -> bytes:
    """`count` octets of the kernel's generator; no state in the process, so a forked child never repeats its parent's.

    Raises OSError (or NotImplementedError) where the kernel has none to give; there is no fall-back.
    Tests replace this function, and only this one, to make the fixed vectors.
    """
    return os.urandom(count)
