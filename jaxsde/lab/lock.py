"""Lock: one run on a folder at a time.

By flock(2) of the standard library: the system lets go of it when the process ends, however it
ends, so that nothing stale is ever left to remove.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from jaxsde.lab.folder import StoreError

try:
    import fcntl
except ImportError:  # no such call on Windows
    fcntl = None

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises StoreError if another process holds it, naming that process, or where there is no flock.
    """
    if fcntl is None:
        raise StoreError(
            "--keep: wanted a system with flock(2) to guard the folder, got Windows; use WSL 2"
        )
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written: {error.strerror}; choose another --out"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            raise StoreError(
                f"{folder}: {holder} is running on it; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise StoreError(
                f"{folder}: cannot be locked: {error.strerror}; choose an --out on a file system "
                "with flock(2) (Lustre: mount with -o flock)"
            ) from None
        with contextlib.suppress(OSError):  # on a full disk the lock still holds
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
