import dataclasses

import numpy as np
import pytest

import jaxsde
from jaxsde.lab.gallery import record
from jaxsde.lab.gallery.record import Record, digest, read_record, record_key, write_record
from jaxsde.lab.gallery.settings import Settings

MADE = Record(
    arrays=dict(x=np.arange(500.0).reshape(5, 100), closed=np.array([True, False])),
    facts=dict(params=dict(g_m=1.5), stages=[dict(name="pulse", omega_m=["rest", "coupled"])]),
)


@pytest.fixture
def kept(tmp_path):
    path, key = tmp_path / "data" / "onset.npz", record_key(Settings(), "onset", "traces")
    write_record(path, MADE, key)
    return path, key


def test_a_record_comes_back_as_it_was(kept):
    path, key = kept
    found = read_record(path, key)
    assert found.record is not None and found.why == ""
    assert found.record.facts == MADE.facts
    assert set(found.record.arrays) == {"x", "closed"}
    np.testing.assert_array_equal(found.record["x"], MADE["x"])
    assert [p.name for p in path.parent.iterdir()] == ["onset.npz"]


@pytest.mark.parametrize("size", [0, 10, 0.5, -1])
def test_a_torn_record_is_said_to_be_torn(kept, size):
    path, key = kept
    whole = path.read_bytes()
    path.write_bytes(whole[: int(size * len(whole)) if isinstance(size, float) else size])
    found = read_record(path, key)
    assert found.record is None and found.why == "onset.npz is torn"


def test_a_changed_byte_is_found(kept):
    path, key = kept
    whole = bytearray(path.read_bytes())
    middle = whole.index(b"x.npy") + 40
    whole[middle] ^= 0xFF
    path.write_bytes(bytes(whole))
    assert read_record(path, key).why == "onset.npz is torn"


def test_something_else_in_its_place_is_torn(kept):
    path, key = kept
    np.savez(path, x=np.zeros(3))
    assert read_record(path, key).why == "onset.npz is torn"


def test_a_record_that_is_not_there(tmp_path):
    assert read_record(tmp_path / "onset.npz", {}).why == "not kept yet"


def test_another_key_says_what_differs(kept):
    path, key = kept
    other = record_key(Settings(seed=7, shots=50), "onset", "traces")
    assert read_record(path, other).why == "onset.npz has another shots and seed"
    assert read_record(path, key | dict(sources="0")).why == "onset.npz has another sources"


def test_the_version_is_that_of_the_package():
    assert record.package_version() == jaxsde.__version__


def test_the_key_follows_settings_and_the_makers_sources(tmp_path, monkeypatch):
    base = Settings()
    key = record_key(base, "onset", "traces")
    assert key == record_key(Settings(), "onset", "traces")
    assert key["shots"] == 30 and record_key(base, "growth", "state")["shots"] == 200
    assert record_key(base, "growth", "state")["sources"] != key["sources"]
    assert record_key(dataclasses.replace(base, shots=99), "onset", "traces")["shots"] == 99
    one, two = tmp_path / "a.py", tmp_path / "b.py"
    one.write_text("x = 1")
    two.write_text("x = 1")
    before = digest([one, two])
    two.write_text("x = 2")
    assert digest([one, two]) != before
    monkeypatch.setattr(record, "SOURCES", ("physics",))
    assert record_key(base, "onset", "traces")["sources"] != key["sources"]
