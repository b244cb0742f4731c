"""The command line in this process."""

import pytest

from jaxsde.lab import cli


def call(monkeypatch, *arguments) -> int:
    """Run `jaxsde arguments`; return its exit status."""
    monkeypatch.setattr("sys.argv", ["jaxsde", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)
