"""Catalogue: the paper's figures in its order, and what each is made of."""

import dataclasses
from collections.abc import Callable, Iterable

from matplotlib.figure import Figure

from jaxsde.lab.gallery import captions, numbers
from jaxsde.lab.gallery.diffusion import make_diffusion
from jaxsde.lab.gallery.draw_diffusion import diffusion_figure
from jaxsde.lab.gallery.draw_modes import modes_figure
from jaxsde.lab.gallery.draw_pulse import coupling_figure, displacement_figure, spectrogram_figure
from jaxsde.lab.gallery.draw_state import beat_figure, detuning_figure, growth_figure
from jaxsde.lab.gallery.draw_traces import (
    gain_figure,
    onset_figure,
    positive_figure,
    resonance_figure,
)
from jaxsde.lab.gallery.modes import make_modes
from jaxsde.lab.gallery.pulse import make_pulse
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.settings import Settings, Tell
from jaxsde.lab.gallery.state import make_beat, make_detuning, make_growth
from jaxsde.lab.gallery.traces import (
    make_inverted,
    make_onset,
    make_positive,
    make_resonance,
)
from jaxsde.lab.spec import ExperimentError

# Datasets and what makes them.
MAKERS: dict[str, Callable[[Settings, Tell], Record]] = {
    "modes": make_modes,
    "pulse": make_pulse,
    "onset": make_onset,
    "resonance": make_resonance,
    "inverted": make_inverted,
    "growth": make_growth,
    "detuning": make_detuning,
    "beat": make_beat,
    "diffusion": make_diffusion,
    "positive": make_positive,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """Hold a figure: names in the paper, title, datasets, and what is made of their records."""

    names: tuple[str, ...]
    title: str
    datasets: tuple[str, ...]
    draw: Callable[..., Figure]
    caption: Callable[..., str]
    numbers: Callable[..., dict[str, str]]


# By the name of its files.
ENTRIES: dict[str, Entry] = {
    "1ab": Entry(
        names=("1a", "1b"),
        title="Figs. 1a and 1b: level repulsion and instability of Eq. 1",
        datasets=("modes",),
        draw=modes_figure,
        caption=captions.modes,
        numbers=numbers.modes,
    ),
    "2a": Entry(
        names=("2a",),
        title="Fig. 2a: spectrogram of the sequence",
        datasets=("pulse",),
        draw=spectrogram_figure,
        caption=captions.spectrogram,
        numbers=numbers.spectrogram,
    ),
    "2b": Entry(
        names=("2b",),
        title="Fig. 2b: coupling strength through the sequence",
        datasets=("pulse",),
        draw=coupling_figure,
        caption=captions.coupling,
        numbers=numbers.coupling,
    ),
    "2c": Entry(
        names=("2c",),
        title="Fig. 2c: mean squared displacement with and without the pulse",
        datasets=("pulse",),
        draw=displacement_figure,
        caption=captions.displacement,
        numbers=numbers.displacement,
    ),
    "3a": Entry(
        names=("3a",),
        title="Fig. 3a: onset of instability",
        datasets=("onset",),
        draw=onset_figure,
        caption=captions.onset,
        numbers=numbers.onset,
    ),
    "3b": Entry(
        names=("3b",),
        title="Fig. 3b: resonance of instability",
        datasets=("resonance",),
        draw=resonance_figure,
        caption=captions.resonance,
        numbers=numbers.resonance,
    ),
    "3cd": Entry(
        names=("3c", "3d"),
        title="Figs. 3c and 3d: gain against detuning",
        datasets=("resonance", "inverted"),
        draw=gain_figure,
        caption=captions.gain,
        numbers=numbers.gain,
    ),
    "4a": Entry(
        names=("4a",),
        title="Fig. 4a: growth of occupations and correlation",
        datasets=("growth",),
        draw=growth_figure,
        caption=captions.growth,
        numbers=numbers.growth,
    ),
    "4b": Entry(
        names=("4b",),
        title="Fig. 4b: correlated occupation and phase against detuning",
        datasets=("detuning",),
        draw=detuning_figure,
        caption=captions.detuning,
        numbers=numbers.detuning,
    ),
    "4c": Entry(
        names=("4c",),
        title="Fig. 4c: beat against reconstruction",
        datasets=("beat",),
        draw=beat_figure,
        caption=captions.beat,
        numbers=numbers.beat,
    ),
    "S1c": Entry(
        names=("S1c",),
        title="Fig. S1c: anomalous diffusion and the calibration of B_s",
        datasets=("diffusion",),
        draw=diffusion_figure,
        caption=captions.diffusion,
        numbers=numbers.diffusion,
    ),
    "S2": Entry(
        names=("S2",),
        title="Fig. S2: two positive masses",
        datasets=("positive",),
        draw=positive_figure,
        caption=captions.positive,
        numbers=numbers.positive,
    ),
}
NAMES = tuple(name for entry in ENTRIES.values() for name in entry.names)


def chosen(names: Iterable[str]) -> list[str]:
    """Return the keys of ENTRIES that names stand for, in the paper's order; all for none.

    A name is that of a figure ("3c"), of a file ("3cd"), or a number alone ("3"); capitals or not.
    Raises ExperimentError for one that is none.
    """
    keys: set[str] = set()
    for name in names:
        asked = name.lower()
        found = {
            key
            for key, entry in ENTRIES.items()
            if asked in {n.lower() for n in (key, *entry.names)}
            or (asked in ("1", "2", "3", "4") and key.startswith(asked))
        }
        if not found:
            raise ExperimentError(
                f"NAMES: wanted figures of the paper out of {', '.join(NAMES)}, got {name!r}"
            )
        keys |= found
    return [key for key in ENTRIES if key in keys or not keys]
