import json

import numpy as np
import pytest

import gallery_records
from jaxsde.lab.config import ExperimentError
from jaxsde.lab.gallery.run import draw_gallery
from jaxsde.lab.gallery.settings import Settings


@pytest.fixture
def calls(monkeypatch):
    """Put made-up records in place of simulated ones; list what was asked for."""
    return gallery_records.put(monkeypatch)


def test_writes_figures_captions_and_numbers(calls, tmp_path):
    told, seen = [], []
    made = draw_gallery(
        ["2c", "2b"], tmp_path, dpi=60, tell=lambda *a: told.append(a), done=seen.append
    )
    assert [m.name for m in made] == ["2b", "2c"] == [m.name for m in seen]
    assert calls == [("pulse", None, 2018)] and told == [("2b", 1, 1)]
    assert made[0].how == ["pulse: computed (not kept yet)"] and made[1].how == []
    for key in ("2b", "2c"):
        assert (tmp_path / f"{key}.png").read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / f"{key}.pdf").read_bytes()[:4] == b"%PDF"
        assert "g_m/2π = 26 kHz" in (tmp_path / f"{key}.txt").read_text(encoding="utf-8")
    pages = (tmp_path / "captions.md").read_text(encoding="utf-8")
    assert pages.index("Fig. 2b") < pages.index("Fig. 2c") and "(2c.png)" in pages
    numbers = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert list(numbers) == ["2b", "2c"] and numbers["2c"]["caption"] in pages


def test_a_second_call_draws_from_what_is_kept(calls, tmp_path):
    first = draw_gallery(["1a"], tmp_path, dpi=60)
    again = draw_gallery(["1b"], tmp_path, dpi=60)
    draw_gallery(["4c"], tmp_path, dpi=60)
    assert len(calls) == 2 and again[0].how == ["modes: kept"]
    # Captions and numbers of the folder's other figures stay.
    numbers = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert list(numbers) == ["1ab", "4c"]
    assert "(1ab.png)" in (tmp_path / "captions.md").read_text(encoding="utf-8")
    assert first[0].paths == again[0].paths


def test_what_is_torn_changed_or_refused_is_made_anew_and_said(calls, tmp_path):
    options = dict(cache=tmp_path / "kept", dpi=60)
    draw_gallery(["S1c"], tmp_path, **options)
    file = tmp_path / "kept" / "diffusion.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    (torn,) = draw_gallery(["S1c"], tmp_path, **options)
    assert torn.how == ["diffusion: computed (diffusion.npz is torn)"]
    (other,) = draw_gallery(["S1c"], tmp_path, settings=Settings(seed=1, shots=50), **options)
    assert other.how == ["diffusion: computed (diffusion.npz has another shots and seed)"]
    (forced,) = draw_gallery(
        ["S1c"], tmp_path, settings=Settings(seed=1, shots=50), force=True, **options
    )
    assert forced.how == ["diffusion: computed (--force)"]
    assert [seed for _, _, seed in calls] == [2018, 2018, 1, 1]


@pytest.mark.parametrize(
    "settings, wanted", [(Settings(shots=5), "at least 20"), (Settings(seed=-1), "zero or more")]
)
def test_settings_that_cannot_be_are_refused_before_anything_is_made(
    calls, tmp_path, settings, wanted
):
    with pytest.raises(ExperimentError, match=wanted):
        draw_gallery(["1a"], tmp_path, settings=settings)
    with pytest.raises(ExperimentError, match="wanted figures of the paper"):
        draw_gallery(["7"], tmp_path)
    assert calls == [] and list(tmp_path.iterdir()) == []


def test_equal_data_give_equal_files(calls, tmp_path):
    for part in ("one", "two"):
        draw_gallery(["4b"], tmp_path / part, cache=tmp_path / "data", dpi=60)
    for name in ("4b.png", "4b.pdf", "4b.txt", "numbers.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert np.load(tmp_path / "data" / "detuning.npz")["delta"].size == 4
