import numpy as np
import pytest
from matplotlib.text import Text

from jaxsde.inference.calibrate import Calibration
from jaxsde.lab.figures import calibration_figure, save_figure
from jaxsde.physics.params import Params


def line(axes, label):
    """Return (x, y) of the line of that label."""
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def errorbar(axes, label):
    (found,) = [one for one in axes.containers if one.get_label() == label]
    return np.asarray(found.lines[0].get_xdata()), np.asarray(found.lines[0].get_ydata())


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(Text))


def calibration(objective="moments", free=("g_m", "B_s"), scale=1.0):
    params = Params.kohler2018()
    values = np.array([getattr(params, name) for name in free]) * 1.02 * scale
    n = len(free)
    return Calibration(
        free=free,
        objective=objective,
        start=1.3 * values,
        values=values,
        stderr=0.05 * np.abs(values),
        mc_error=np.zeros(n),
        correlation=np.eye(n) + 0.25 * (1 - np.eye(n)),
        params=params,
        loss=np.array([300.0, 60.0, 40.0]),
        path=np.array([1.3, 1.1, 1.0])[:, None] * values,
        decrement=1e-3,
        misfit=80.0,
        misfit_dof=75,
        n_shots=200,
        n_simulated=0,
        converged=True,
    )


def test_calibration_draws_losses_paths_estimates_and_correlations(tmp_path):
    fits = [calibration(), calibration("pathwise", scale=0.99)]
    truth = {name: getattr(Params.kohler2018(), name) for name in ("g_m", "B_s")}
    figure = calibration_figure(fits, truth)
    loss, path, estimates, *maps = figure.axes
    for fit in fits:
        np.testing.assert_allclose(line(loss, fit.objective)[1], fit.loss[:-1] - fit.loss[-1])
    np.testing.assert_allclose(line(path, "$g_m$")[1], [1.3, 1.1, 1.0])
    x, _ = errorbar(estimates, "moments, 1 σ")
    np.testing.assert_allclose(x, 2.0)
    np.testing.assert_allclose(line(estimates, "start")[0], 100 * (1.3 * 1.02 - 1))
    for axes in maps:
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), fits[0].correlation)
    text = texts(figure)
    for part in ("2π × (26.5 ± 1.3) kHz", "quanta/s", "relative to the truth  (%)", "+0.25"):
        assert part in text
    (saved,) = save_figure(figure, tmp_path / "calibration", ("png",))
    assert saved.stat().st_size > 8000


def test_calibration_alone_and_without_truth_is_relative_to_its_estimate():
    figure = calibration_figure(calibration(), None)
    x, _ = errorbar(figure.axes[2], "moments, 1 σ")
    np.testing.assert_allclose(x, 0.0, atol=1e-9)
    assert "relative to the moments estimate  (%)" in texts(figure)
    assert "truth" not in texts(figure)


def test_calibration_figures_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="at least one Calibration, got none"):
        calibration_figure([])
    with pytest.raises(ValueError, match="the same free parameters in all, got g_m, B_s and g_s"):
        calibration_figure([calibration(), calibration(free=("g_s",))])
