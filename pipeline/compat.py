"""Parts of other packages, and of the system, that they do not promise to keep: all of them are here.

Each has its reason and a way on without it. `tests/test_compat.py` fails when one is gone or does something else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["connection_lost", "exchange", "partial_decoder", "proposal_folder", "slurm_cluster_class"]

Decode = Callable[[bytearray, int, int, np.ndarray], bool]
"""Decode items of a packed buffer into an array: buffer, first item, number of items, array; returns whether it could."""


def partial_decoder() -> Decode | None:
    """Return a function that decodes part of a Blosc buffer; None where there is none.

    Why: numcodecs decodes whole buffers only. A few frames at a time stay in the cache of the processor, which makes the
    way from the frames cube to pulses 1.7 times as fast. It is `blosc_getitem` of the library that numcodecs is built with.
    Without it: the whole chunk is decoded at once.
    """
    from numcodecs import blosc

    try:
        getitem = ctypes.CDLL(blosc.__file__).blosc_getitem
    except (AttributeError, OSError):
        return None
    getitem.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    getitem.restype = ctypes.c_int

    def decode(packed: bytearray, first: int, count: int, out: np.ndarray) -> bool:
        source = (ctypes.c_char * len(packed)).from_buffer(packed)
        return bool(getitem(source, first, count, out.ctypes.data) == out.nbytes)

    return decode


def exchange(a: Path, b: Path) -> bool:
    """Swap two folders at once; returns whether the system and the file system can.

    Why: Python has no call for it. With `renameat2` of Linux a reader finds a folder of that name at every moment.
    Without it: two renames, one after the other.
    """
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    return bool(renameat2(here, os.fsencode(a), here, os.fsencode(b), swap) == 0)


def proposal_folder(number: int) -> Path:
    """Return the folder of a proposal; raises FileNotFoundError.

    Why: extra-data knows where the facility keeps its data, but opens runs only, by proposal and run together.
    Without it: the place that the facility documents.
    """
    try:
        from extra_data.read_machinery import find_proposal

        return Path(find_proposal(f"p{number:06d}"))
    except ImportError:
        root = Path(os.environ.get("EXTRA_DATA_DATA_ROOT", "/gpfs/exfel/exp"))
        found = next(root.glob(f"*/*/p{number:06d}"), None)
    except Exception as error:  # extra-data raises Exception itself
        raise FileNotFoundError(str(error)) from None
    if found is None:
        raise FileNotFoundError(f"no folder p{number:06d} below {root}")
    return found


_importing = threading.Lock()


def slurm_cluster_class() -> Any:
    """Return dask-jobqueue's class of SLURM clusters.

    Why: as it is imported, dask-jobqueue makes Ctrl-C end the program at once, for its runners, which are not used here;
    and a thread may not even change what Ctrl-C does. So while it is imported, nothing can.
    Without it: nothing to do, when dask-jobqueue no longer does that.
    """
    with _importing:
        change, signal.signal = signal.signal, lambda *_: None
        try:
            from dask_jobqueue.slurm import SLURMCluster
        finally:
            signal.signal = change
    return SLURMCluster


def connection_lost() -> type[OSError]:
    """Return what dask raises where a connection to its scheduler breaks.

    Why: it is an OSError, as is much of what the work itself may raise; only by its class can the two be told apart.
    Without it: errors of connections in general.
    """
    try:
        from distributed.comm.core import CommClosedError
    except ImportError:
        return ConnectionError
    return CommClosedError
