"""Figure of the growth of <D^2>: the line is the fit's, and B_s what lies between two slopes."""

import jax.numpy as jnp
import numpy as np

from jaxsde.analysis.anomalous import DiffusionFit
from jaxsde.analysis.displacement import MeanSquaredDisplacement
from jaxsde.lab.diffusion_figure import diffusion_figure
from jaxsde.lab.style import D_SQUARED, US


def test_the_lines_have_the_slopes_of_the_fit():
    time = np.arange(400) * 1e-6
    mean = 1e12 + 3e15 * time
    each = jnp.asarray(np.stack([mean, mean]))
    error = jnp.asarray(0.1 * mean)
    trace = MeanSquaredDisplacement(
        time=time, mean=jnp.asarray(mean), stderr=error, each=each, noise_bias=0 * error
    )
    fit = DiffusionFit(
        B_s=1e5,
        B_s_stderr=1e4,
        slope=3e15,
        slope_stderr=1e14,
        without=1e15,
        per_quantum=2e10,
        start=100e-6,
        stop=300e-6,
    )
    (axes,) = diffusion_figure(trace, fit).axes
    lines = {line.get_label(): line for line in axes.lines}
    (grown,) = [v for k, v in lines.items() if k.startswith("growth: $B_s$ = 1e+05 ± 1e+04")]
    (calm,) = [v for k, v in lines.items() if k.startswith("expected without")]
    for line, slope in ((grown, fit.slope), (calm, fit.without)):
        x, y = (np.asarray(v) for v in (line.get_xdata(), line.get_ydata()))
        np.testing.assert_allclose([x[0], x[-1]], [0, 200], atol=1.01)
        np.testing.assert_allclose(np.diff(y) / np.diff(x), slope / US / D_SQUARED, rtol=1e-6)
        np.testing.assert_allclose(y[0], mean[100] / D_SQUARED, rtol=0.01)
