"""Figure of a spectrum: the data, the fits and their ratio are where they belong."""

import dataclasses

import numpy as np
import pytest

import laboratory
from jaxsde.lab.records import open_records
from jaxsde.lab.spectrum import analyse_spectrum
from jaxsde.lab.spectrum_figure import spectrum_figure


@pytest.fixture(scope="module")
def spectrum():
    return analyse_spectrum(open_records(laboratory.REAL))


def test_every_line_has_its_panels(spectrum):
    axes = spectrum_figure(spectrum).axes
    assert len(axes) == 1 + 2 * 3
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), spectrum.units.mean(axis=0)[1:])
    for k, fit in enumerate(spectrum.fits):
        lines = [line for line in axes[1 + 2 * k].lines if len(line.get_xdata()) > 2]
        found = [line.get_ydata() for line in lines]
        assert any(np.array_equal(y, fit.model[0]) for y in found)
        assert any(np.array_equal(y, fit.data[0]) for y in found)
        ratio = axes[2 + 2 * k].lines[0].get_ydata()
        np.testing.assert_allclose(ratio, fit.data[0] / fit.model[0])
    assert "V²/Hz" in axes[0].get_ylabel()


def test_a_spectrum_without_lines_is_one_panel(spectrum):
    assert len(spectrum_figure(dataclasses.replace(spectrum, fits=())).axes) == 1
