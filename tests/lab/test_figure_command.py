import pytest

import gallery_records
from command_line import call


@pytest.fixture
def made_up(monkeypatch):
    """Put made-up records in place of simulated ones; list the settings they are asked with."""
    return gallery_records.put(monkeypatch)


def test_the_papers_figures_are_drawn_by_their_names(made_up, monkeypatch, capsys, tmp_path):
    out = tmp_path / "gallery"
    options = ("--out", out, "--shots", 50, "--seed", 4, "--dpi", 60)
    assert call(monkeypatch, "figures", "2b", "s1c", *options) == 0
    shown = capsys.readouterr().out
    assert "2b.png  pulse: computed (not kept yet)" in shown and "S1c.png  diffusion" in shown
    assert made_up == [("pulse", 50, 4), ("diffusion", 50, 4)]
    assert {p.name for p in out.glob("*.p*")} == {"2b.png", "2b.pdf", "S1c.png", "S1c.pdf"}
    assert {p.name for p in (out / "data").iterdir()} == {"pulse.npz", "diffusion.npz"}
    assert call(monkeypatch, "figures", "2b", *options) == 0
    assert "pulse: kept" in capsys.readouterr().out and len(made_up) == 2
    assert call(monkeypatch, "figures", "2b", "--force", "--cache", tmp_path / "c", *options) == 0
    assert "pulse: computed (--force)" in capsys.readouterr().out
    assert (tmp_path / "c" / "pulse.npz").is_file()


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (("9z",), "wanted figures of the paper out of 1a, 1b"),
        (("gain",), "'gain' is a figure of a result: name the result's folder with --from"),
        (("2b", "--shots", "3"), "--shots: wanted at least 20"),
        (("2b", "--from", "nowhere"), "wanted figures out of spectrogram"),
        (("--from", "nowhere"), "nowhere: wanted a result folder, got nothing there"),
    ],
)
def test_mistakes_are_one_line_and_make_nothing(
    made_up, monkeypatch, capsys, tmp_path, arguments, wanted
):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "figures", *arguments) == 2
    error = capsys.readouterr().err
    assert wanted in error and error.count("\n") == 1
    assert made_up == [] and list(tmp_path.iterdir()) == []


def test_a_folder_among_the_names_is_a_result(made_up, monkeypatch, capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "figures", "mine", "gain") == 2
    assert "complete result folder" in capsys.readouterr().err
