import dataclasses

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from jaxsde.analysis.gain import growth as growth_curve
from jaxsde.analysis.moments import pair_correlation
from jaxsde.engine.detect import Detector
from jaxsde.lab import figures
from jaxsde.lab.captions import CAPTIONS, caption
from jaxsde.lab.figures import FIGURES, available, draw_figures, save_figure
from jaxsde.lab.moments_figure import correlation, z_scores
from jaxsde.physics.params import TWO_PI
from jaxsde.physics.sequence import Switching
from tiny import DELTAS, ensemble, positive_mass, tiny_results, with_everything, without_pulse

KHZ = TWO_PI * 1e3
D2 = 1e3 * KHZ**2
ALL = ["spectrogram", "displacement", "growth", "gain", "moments", "beat"]


@pytest.fixture(scope="session")
def results():
    return tiny_results()


@pytest.fixture(scope="session")
def drawn(results):
    return {name: FIGURES[name](results) for name in ALL}


def line(axes, label):
    """Return (x, y) of the line of that label."""
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def errorbar(axes, label):
    (found,) = [one for one in axes.containers if one.get_label() == label]
    return np.asarray(found.lines[0].get_xdata()), np.asarray(found.lines[0].get_ydata())


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(Text))


def test_every_figure_has_a_caption_and_comes_in_order():
    assert list(FIGURES) == ALL == list(CAPTIONS)


def test_draws_png_and_pdf_of_everything(results, tmp_path):
    paths = draw_figures(results, tmp_path / "new" / "figures")
    assert [p.name for p in paths] == [f"{n}.{k}" for n in ALL for k in ("png", "pdf")]
    for path in paths:
        data = path.read_bytes()
        assert data[:4] == (b"\x89PNG" if path.suffix == ".png" else b"%PDF")
        assert len(data) > 8000


def test_equal_results_give_equal_files(results, tmp_path):
    pairs = [draw_figures(results, tmp_path / part, ["gain"]) for part in ("one", "two")]
    for one, two in zip(*pairs, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert b"CreationDate" not in one.read_bytes()


def test_saves_beside_the_stem_whatever_dots_it_has(results, tmp_path, drawn):
    (path,) = save_figure(drawn["gain"], tmp_path / "run.2", ("png",))
    assert path == tmp_path / "run.2.png" and path.is_file()


def test_figures_leave_no_pyplot_state(results):
    before = matplotlib.rcParams.copy()
    FIGURES["gain"](results)
    assert matplotlib.rcParams == before


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("spectrogram", ["time from start of the pulse (µs)", "frequency (kHz)", "(dB)"]),
        ("displacement", ["time from start of the pulse (µs)", "kHz$^2$", r"(2\pi)^2"]),
        ("growth", ["time from start of the pulse (µs)", "kHz$^2$", r"(2\pi)^2"]),
        ("gain", [r"\delta/2\pi", "(kHz)", "s$^{-1}$"]),
        ("moments", ["quanta", "units of vacuum", "standard errors", r"\epsilon=-1"]),
        ("beat", ["time from start of the ringdown (µs)", "kHz$^2$", r"(2\pi)^2"]),
    ],
)
def test_axes_carry_units(drawn, name, labels):
    text = texts(drawn[name])
    for label in labels:
        assert label in text


def test_axes_have_labels_and_nothing_is_empty(drawn):
    for name in ("spectrogram", "displacement", "gain", "beat"):
        axes = drawn[name].axes[0]
        assert axes.get_xlabel() and axes.get_ylabel()
    for figure in drawn.values():
        assert all(axes.has_data() for axes in figure.axes)


def test_stages_are_named(drawn):
    for name in ("spectrogram", "displacement"):
        text = texts(drawn[name])
        # A spectrogram begins half a window late, after this run's short preparation.
        stages = ["preparation", "ramp up", "pulse", "ramp down", "ringdown"]
        assert [s for s in stages if s not in text] == (
            ["preparation"] if name == "spectrogram" else []
        )


@pytest.mark.parametrize("kind", [("I", "Q"), ("Q",), ("homodyne",)])
def test_shot_noise_is_zero_decibels_of_every_receiver(results, kind):
    """Shot noise alone; 200 shots of ten independent points: to 0.1 dB, a point to 0.3 dB."""
    model = "input_output" if kind == ("homodyne",) else "adiabatic"
    detector = Detector(quadratures=kind, model=model, sample_interval=1e-6)
    e = dataclasses.replace(results.experiment, detector=detector)
    main = ensemble(e, results.main.sequence, 200, 0.0, 0)
    made = dataclasses.replace(results, experiment=e, main=main)
    image = FIGURES["spectrogram"](made).axes[0].collections[0]
    assert abs(float(np.mean(image.get_array()))) < 0.25
    assert image.norm.vmin < (-0.3 if model == "input_output" else 0.01)


def test_transients_are_where_the_probe_steps_while_the_drive_rises(results):
    sequence = results.reference.sequence
    before, after = (sequence.span(name).stop for name in ("ramp_up", "pulse"))

    def light(nbar, rise=None):
        """Return is_transient of a pulse between 1 and 4 photons."""
        stages = list(sequence.stages)
        controls = dataclasses.replace(stages[2].controls, nbar=nbar)
        stages[2] = dataclasses.replace(stages[2], controls=controls)
        changed = dataclasses.replace(sequence, stages=tuple(stages))
        e = dataclasses.replace(results.experiment, switching=rise and Switching(rise_time=rise))
        reference = dataclasses.replace(results.reference, sequence=changed)
        return figures.is_transient(dataclasses.replace(results, experiment=e), reference)

    for nbar, steps in ((1.0, [0, 1]), ((1.0, 4.0), [0, 0]), ((2.0, 4.0), [1, 0])):
        assert [light(nbar)[before], light(nbar)[after]] == steps
    for rise, last in ((None, 14), (8e-6, 22)):
        assert list(light(1.0, rise)[after + last : after + last + 2]) == [True, False]


def test_draws_what_ramps_and_what_one_quadrature_shows(results, tmp_path):
    full = with_everything(results)
    names = ["spectrogram", "displacement", "growth", "moments", "beat"]
    assert len(draw_figures(full, tmp_path, names, ("png",))) == len(names)


def test_spectrogram_has_both_frequencies(results, drawn):
    axes = drawn["spectrogram"].axes[0]
    _, spin = line(axes, r"spin $\omega_s/2\pi$")
    np.testing.assert_allclose(spin, 120.0)
    t, motion = line(axes, r"motion $\omega_m/2\pi$")
    np.testing.assert_allclose(motion, [95, 95, 95, 125.5, 125.5, 125.5, 125.5, 95, 95, 95])
    np.testing.assert_allclose(t, [-40, -10, -10, 0, 0, 40, 40, 50, 50, 110], atol=1e-9)


def test_spectrogram_of_the_ideal_record_is_relative_to_its_maximum(results):
    detector = Detector.ideal(1e-6)
    e = dataclasses.replace(results.experiment, detector=detector)
    figure = figures.spectrogram_figure(dataclasses.replace(results, experiment=e))
    assert "relative to its maximum (dB)" in texts(figure)


def test_displacement_draws_the_exact_expectation_of_both_ensembles(results, drawn):
    axes = drawn["displacement"].axes[0]
    for made, label in (
        (results.main, "exact, with coupling pulse"),
        (results.reference, "exact, without coupling"),
    ):
        t, y = line(axes, label)
        np.testing.assert_allclose(t, made.sequence.time * 1e6 - 40.0, atol=1e-9)
        np.testing.assert_allclose(y, made.expected / D2)
    t, y = line(axes, "with coupling pulse")
    index = np.rint(t + 40.0 - 0.5).astype(int)
    np.testing.assert_allclose(y, np.asarray(results.main.displacement.mean)[index] / D2)
    # The dark points are those that a fit may use.
    assert not figures.is_transient(results, results.main)[index].any()


def test_transients_are_ends_of_the_record_probe_steps_and_what_the_fit_leaves_out(results):
    time = results.main.sequence.time * 1e6 - 40
    light = figures.is_transient(results, results.main)
    probe_steps = (np.abs(time) < 15) | (np.abs(time - 40) < 15)
    ends = (time < -25) | (time > 95)
    pulse = (time > 0) & (time < 40)
    np.testing.assert_array_equal(light[~pulse], (probe_steps | ends)[~pulse])
    np.testing.assert_array_equal(light[pulse], (time < 8)[pulse] | (time > 36)[pulse])
    assert results.reference is not None
    # Without coupling the probe changes once, when the trap's ramp down begins.
    calm = figures.is_transient(results, results.reference)
    np.testing.assert_array_equal(calm, ends | (np.abs(time - 40) < 15))


def test_growth_draws_each_trace_with_its_fit_inside_the_window(results, drawn):
    growth = results.growth
    assert len(drawn["growth"].axes) == len(DELTAS)
    for i, axes in enumerate(drawn["growth"].axes):
        t, y = line(axes, "fit of S12")
        assert t[0] == pytest.approx(8.0) and t[-1] == pytest.approx(36.0)
        fit = growth.fit
        expected = growth_curve(t * 1e-6, fit.D_0, float(fit.gain[i]), float(fit.diffusion[i]))
        np.testing.assert_allclose(y, expected / D2)
        t, y = line(axes, "measured")
        index = np.rint(t + 40.0 - 0.5).astype(int)
        np.testing.assert_allclose(y, growth.displacement[i][index] / D2)
        assert f"{growth.delta[i] / KHZ:.4g}" in " ".join(one.get_text() for one in axes.texts)


def test_growth_of_one_trace_without_delta_is_one_panel(results):
    g = results.growth
    first = {
        f.name: getattr(g.fit, f.name)[:1]
        for f in dataclasses.fields(g.fit)
        if np.ndim(getattr(g.fit, f.name)) == 1
    }
    alone = dataclasses.replace(
        g,
        delta=np.array([np.nan]),
        at=0,
        fit=dataclasses.replace(g.fit, **first),
        displacement=g.displacement[:1],
        stderr=g.stderr[:1],
        theory=g.theory[:1],
        expected=g.expected[:1],
    )
    one = dataclasses.replace(results, growth=alone)
    figure = FIGURES["growth"](one)
    assert len(figure.axes) == 1
    assert r"\delta" not in texts(figure)
    assert "gain" not in available(one) and "growth" in available(one)


def test_gain_draws_theory_fits_and_their_expectation(results, drawn):
    growth, axes = results.growth, drawn["gain"].axes[0]
    x, y = line(axes, "steady-state theory")
    np.testing.assert_allclose(x, growth.fine_delta / KHZ)
    np.testing.assert_allclose(y, growth.fine_theory / 1e3)
    x, y = line(axes, r"fit of the exact $\langle D^2\rangle_{\mathrm{cyc}}$")
    np.testing.assert_allclose(x, [0.0, 5.5, 11.0])
    np.testing.assert_allclose(y, growth.expected / 1e3)
    points = [errorbar(axes, c.get_label()) for c in axes.containers]
    x, y = np.concatenate(points, axis=1)
    order = np.argsort(x)
    np.testing.assert_allclose(y[order], growth.fit.gain / 1e3)
    assert "41.2 ms" in texts(drawn["gain"])


def test_moments_draw_c_and_its_distance_from_exact(results, drawn):
    images = [axes.images[0].get_array() for axes in drawn["moments"].axes if axes.images]
    c = np.asarray(results.moments.C)
    np.testing.assert_allclose(images[0], c)
    np.testing.assert_allclose(images[1], results.C_theory)
    np.testing.assert_allclose(images[2], z_scores(results))
    z = z_scores(results)
    np.testing.assert_allclose(z, z.T)
    variance = np.diag(np.asarray(results.moments.C_cov))[2]
    assert z[0, 2] == pytest.approx((c - results.C_theory)[0, 2] / np.sqrt(variance))


def test_resonant_correlation_follows_the_sign_of_the_mass(results, drawn):
    value, cov, exact, bound = correlation(results)
    assert value == pytest.approx(complex(pair_correlation(results.moments.C)))
    assert exact == pytest.approx(complex(pair_correlation(jnp.asarray(results.C_theory))))
    assert np.all(np.linalg.eigvalsh(cov) > 0) and bound >= 0
    assert r"Re $\langle ab\rangle$" in texts(drawn["moments"])
    other = positive_mass(results)
    assert correlation(other)[0] != value
    text = texts(FIGURES["moments"](other))
    assert r"Re $\langle a^\dagger b\rangle$" in text and r"\epsilon=+1" in text
    assert "⟨a† b⟩ is the resonant" in caption("moments", other)
    assert "⟨a b⟩ is the resonant" in caption("moments", results)


def test_covariance_of_the_correlation_is_that_of_samples(results):
    _, cov, _, _ = correlation(results)
    rows, columns = np.triu_indices(4)
    rng = np.random.default_rng(0)
    upper = rng.multivariate_normal(np.zeros(10), np.asarray(results.moments.C_cov), size=20000)
    c = np.zeros((20000, 4, 4))
    c[:, rows, columns] = upper
    c[:, columns, rows] = upper
    ab = (c[:, 0, 2] - c[:, 1, 3] + 1j * (c[:, 0, 3] + c[:, 1, 2])) / 4
    sampled = np.cov(np.stack([ab.real, ab.imag]))
    np.testing.assert_allclose(sampled, cov, atol=0.05 * np.trace(cov))


def test_beat_draws_the_reconstruction(results, drawn):
    axes = drawn["beat"].axes[0]
    t, y = line(axes, "from the estimated C, 1 σ")
    np.testing.assert_allclose(t, results.beat.time * 1e6 - 90.0, atol=1e-9)
    np.testing.assert_allclose(y, results.beat.mean / D2)
    t, y = errorbar(axes, "measured")
    index = np.rint(t + 90.0 - 0.5).astype(int)
    np.testing.assert_allclose(y, np.asarray(results.main.displacement.mean)[index] / D2)


def test_absent_data_leave_figures_out(results, tmp_path):
    calm = without_pulse(results)
    assert available(results) == ALL
    assert available(calm) == ["spectrogram", "displacement", "moments", "beat"]
    paths = draw_figures(calm, tmp_path, formats=("png",))
    assert [p.stem for p in paths] == available(calm)
    with pytest.raises(ValueError, match=r"figure 'gain': these results hold no data for it"):
        draw_figures(calm, tmp_path, ["gain"])
    with pytest.raises(ValueError, match=r"growth during a pulse, got None"):
        FIGURES["gain"](calm)
    with pytest.raises(ValueError, match=r"figure: wanted one of spectrogram, .*, got 'gains'"):
        draw_figures(results, tmp_path, ["gains"])


def test_without_pulse_time_starts_with_the_measurement_and_no_reference_is_drawn(results):
    calm = without_pulse(results)
    for name in ("displacement", "beat"):
        text = texts(FIGURES[name](calm))
        assert "time from start of the ringdown (µs)" in text
        assert "without coupling" not in text
    assert "without coupling" not in caption("beat", calm)
    assert "no pulse; stage ringdown" in caption("displacement", calm)


@pytest.mark.parametrize("name", ALL)
def test_captions_carry_every_parameter(results, name):
    text = caption(name, results)
    scan = name in ("growth", "gain")
    for part in (
        "n̄ = 10",
        "Δ_pc/2π = −2 MHz",
        "δ/2π = 0 Hz to 11 kHz" if scan else "δ/2π = 5.5 kHz",
        "t_c = 40 µs",
        "g_m/2π = 26 kHz",
        "g_s/2π = −18 kHz",
        "κ/2π = 1.82 MHz (half-linewidth)",
        "ε = −1",
        "B_s = 30000 quanta/s (the paper prints no value)",
        "10 shots for each δ" if scan else "12 shots,",
        "seed 2018",
    ):
        assert part in text


def test_caption_of_an_unknown_figure_is_refused(results):
    with pytest.raises(ValueError, match=r"figure: wanted one of .*, got 'gains'"):
        caption("gains", results)
