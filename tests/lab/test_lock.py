"""One run on a folder at a time."""

import os

import pytest

from jaxsde.lab import lock
from jaxsde.lab.folder import StoreError
from jaxsde.lab.lock import LOCK, locked


def test_a_second_run_is_refused_and_told_who_is_first(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(StoreError, match=rf"process {os.getpid()} on .* is running on it"),
        locked(tmp_path),
    ):
        raise AssertionError("locked twice")
    with locked(tmp_path):  # and the first one's end lets the next in
        assert (tmp_path / LOCK).is_file()


def test_a_place_without_locks_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    with pytest.raises(StoreError, match="wanted a system with flock"), locked(tmp_path):
        pass
    with pytest.raises(StoreError), locked(tmp_path / "nowhere"):
        pass
