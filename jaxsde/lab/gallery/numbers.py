"""Numbers of the gallery's figures, as texts: what docs/gallery.md quotes."""

import numpy as np

from jaxsde.lab.gallery.draw_modes import plus
from jaxsde.lab.gallery.draw_pulse import transient
from jaxsde.lab.gallery.draw_traces import told
from jaxsde.lab.gallery.record import Record, error_of
from jaxsde.lab.gallery.text import hertz
from jaxsde.lab.style import D_SQUARED, KHZ, minus
from jaxsde.lab.table import format_number

Numbers = dict[str, str]
D2 = "× 10³ kHz²"


def pm(value: float, error: float, unit: str, scale: float = 1.0) -> str:
    """Return "value ± error unit", both in units of scale, to two digits of the error."""
    value, error = float(value) / scale, float(error) / scale
    texts = (format_number(x, error) for x in (value, error))
    return minus(" ± ".join(texts)) + f" {unit}"


def modes(record: Record) -> Numbers:
    """Return the numbers of Figs. 1a and 1b."""
    zero = int(np.abs(record["delta"]).argmin())
    split = np.ptp(record["real"][0, zero])
    error = float(np.hypot(*record["real_error"][0, zero]))
    rows = np.arange(record["delta"].size)
    first = plus(record, 1)
    gain = 2 * record["imag"][1][rows, first]
    spread = 2 * record["imag_error"][1][rows, first]
    other = 2 * record["imag"][0].ravel() / (2 * record["imag_error"][0].ravel())
    theory = np.sort(record["theory_real"], axis=-1)
    # Both modes are at one frequency where they grow: which is lower is chance.
    apart = np.abs(np.sort(record["real"], axis=-1) - theory)
    return {
        "spring Ω/2π": hertz(record.facts["spring"]),
        "ε = +1, splitting at δ = 0": pm(split, error, "kHz", KHZ),
        "ε = −1, gain G_+ at δ = 0": pm(gain[zero], spread[zero], "ms⁻¹", 1e3),
        "Eq. 1, G_+ at δ = 0": f"{2 * record['theory_imag'][1].max() / 1e3:.2f} ms⁻¹",
        "ε = +1, gains over their errors, rms": f"{np.sqrt(np.mean(other**2)):.2f}",
        "largest distance of a frequency from Eq. 1": f"{apart.max() / KHZ:.2f} kHz",
        "median distance of a frequency from Eq. 1": f"{np.median(apart) / KHZ:.3f} kHz",
    }


def spectrogram(record: Record) -> Numbers:
    """Return the numbers of Fig. 2a."""
    z = (record["spectrum"] - record["spectrum_expected"]) / record["spectrum_stderr"]
    return {"spectrum of the ringdown, rms of (shots − exact)/σ": f"{np.sqrt(np.mean(z**2)):.2f}"}


def coupling(record: Record) -> Numbers:
    """Return the numbers of Fig. 2b."""
    optical, static = record["with_optical"].max(), record["with_static"].max()
    return {
        "Ω_opt/2π in the pulse": hertz(optical),
        "2 n̄ g_sm/2π in the pulse": hertz(static),
        "net spring Ω/2π": hertz(optical + static),
    }


def displacement(record: Record) -> Numbers:
    """Return the numbers of Fig. 2c."""
    out = {}
    for name, label in (("with", "with pulse"), ("without", "without")):
        z = record[f"{name}_mean"] - record[f"{name}_expected"]
        z = (z / record[f"{name}_stderr"])[~transient(record, name)]
        out[f"{label}, rms of (shots − exact)/σ"] = f"{np.sqrt(np.mean(z**2)):.2f}"
    at = int(np.argmax(np.where(transient(record, "with"), 0.0, record["with_expected"])))
    pair = record["with_mean"][at], record["with_stderr"][at]
    out["first maximum of the beat, shots"] = pm(*pair, D2, D_SQUARED)
    out["first maximum of the beat, exact"] = f"{record['with_expected'][at] / D_SQUARED:.1f} {D2}"
    return out


def onset(record: Record) -> Numbers:
    """Return the numbers of Fig. 3a."""
    out = {}
    late = (record["time"] > 75e-6) & (record["time"] < 95e-6)
    for k, delta in enumerate(record["delta"]):
        mean, error, exact = (record[n][k, -1, late].mean() for n in ("mean", "stderr", "expected"))
        at = f"strongest coupling, δ/2π = {hertz(delta)}"
        out[f"{at}: steady-state G_+"] = f"{record['gain'][k, -1] / 1e3:.1f} ms⁻¹"
        out[f"{at}: ⟨D²⟩ from 75 to 95 µs"] = pm(mean, error, D2, D_SQUARED)
        out[f"{at}: the same, exact"] = f"{exact / D_SQUARED:.1f} {D2}"
    return out


def _best(record: Record, prefix: str) -> tuple[int, float, float]:
    """Return the index of the largest gain that is told, the gain, and its error."""
    error = error_of(record, f"{prefix}gain")
    gain = np.where(told(record, prefix), record[f"{prefix}gain"], -np.inf)
    at = int(np.argmax(gain))
    return at, float(gain[at]), float(error[at])


def resonance(record: Record) -> Numbers:
    """Return the numbers of Fig. 3b."""
    f, words = record.facts, ("no", "yes")
    return {
        f"joint fit converged, {f['shots']} and {f['many']} shots": f"{words[f['converged']]} and "
        f"{words[f['many_converged']]}",
        f"traces whose gain {f['shots']} shots tell": f"{told(record).sum()} of "
        f"{record['delta'].size}",
        f"p-value of the joint fit, {f['shots']} shots": f"{f['p_value']:.2g}",
        f"p-value of the joint fit, {f['many']} shots": f"{f['many_p_value']:.2g}",
    }


def gain(red: Record, blue: Record) -> Numbers:
    """Return the numbers of Figs. 3c and 3d."""
    out = {}
    for record, name in ((red, "(c)"), (blue, "(d)")):
        f, top = record.facts, int(np.argmax(record["fine_theory"]))
        where = record["fine_delta"][top]
        value = record["fine_theory"][top] / 1e3
        out[f"{name} peak of steady-state theory"] = f"{value:.1f} ms⁻¹ at {hertz(where, 3)}"
        for prefix, shots in (("", f["shots"]), ("many_", f["many"])):
            if not told(record, prefix).any():
                out[f"{name} largest gain told, {shots} shots"] = "none"
                continue
            at, best, error = _best(record, prefix)
            text = pm(best, error, "ms⁻¹", 1e3) + f" at {hertz(record['delta'][at])}"
            out[f"{name} largest gain told, {shots} shots"] = text
        kept = above_half(record)
        if kept.any():
            label = f"{name} centre of the {kept.sum()} gains above half their peak"
            many = centre(record, kept, "many_gain")
            out[f"{label}, {f['many']} shots"] = pm(*many, "kHz", KHZ)
            exact = centre(record, kept, "exact_gain")[0], centre(record, kept, "theory")[0]
            out[f"{name} centre at the same δ, fit of the exact ⟨D²⟩"] = hertz(exact[0], 3)
            out[f"{name} centre at the same δ, steady-state theory"] = hertz(exact[1], 3)
        out[f"{name} δ told, {f['shots']} shots"] = f"{told(record).sum()} of {told(record).size}"
    return out


def above_half(record: Record) -> np.ndarray:
    """Tell at which delta the fit of many shots tells a gain above half the largest."""
    gain, seen = record["many_gain"], told(record, "many_")
    return seen & (gain > gain[seen].max(initial=0.0) / 2)


def centre(record: Record, kept: np.ndarray, name: str) -> tuple[float, float]:
    """Return the mean of the kept delta weighted by a gain, and its error if it has one, rad/s."""
    delta, gain = record["delta"][kept], record[name][kept]
    mean = float(gain @ delta / gain.sum())
    if name != "many_gain":
        return mean, 0.0
    error = error_of(record, name)[kept]
    return mean, float(np.sqrt(np.sum(((delta - mean) * error / gain.sum()) ** 2)))


def growth(record: Record) -> Numbers:
    """Return the numbers of Fig. 4a."""
    out, t = {}, record["t_c"]
    names = {"n_m": "⟨a†a⟩", "n_s": "⟨b†b⟩", "abs_ab": "|⟨ab⟩|"}
    first, last = int(np.argmin(np.abs(t - 50e-6))), t.size - 1
    length = t[last] - t[first]
    for k, delta in enumerate(record["delta"]):
        at = f"δ/2π = {hertz(delta)}"
        for name, symbol in names.items():
            value, error = record[f"{name}_value"][k, last], error_of(record, name)[k, last]
            exact = record[f"{name}_exact"][k, last]
            label = f"{at}, {symbol} after {t[last] * 1e6:.0f} µs"
            out[label] = f"{pm(value, error, 'quanta')}, exact {exact:.1f}"
        ends = [record["abs_ab_value"][k, i] for i in (first, last)]
        exact = [record["abs_ab_exact"][k, i] for i in (first, last)]
        errors = [record["abs_ab_stat"][k, i] / record["abs_ab_value"][k, i] for i in (first, last)]
        rate = np.log(ends[1] / ends[0]) / length
        label = f"{at}, growth rate of |⟨ab⟩| from {t[first] * 1e6:.0f} µs on"
        value = pm(rate, float(np.hypot(*errors)) / length, "ms⁻¹", 1e3)
        out[label] = f"{value}, exact {np.log(exact[1] / exact[0]) / length / 1e3:.1f}"
    predicted = pm(record["predicted"][last], record["predicted_error"][last], "quanta")
    out[f"predicted |⟨ab⟩| after {t[last] * 1e6:.0f} µs at the best detuning"] = predicted
    return out


def detuning(record: Record) -> Numbers:
    """Return the numbers of Fig. 4b."""
    top = int(np.argmax(record["fine_abs"]))
    near = int(np.argmin(np.abs(record["delta"] - record["fine_delta"][top])))
    error, phase = error_of(record, "abs_ab"), error_of(record, "arg_ab")
    at = f"at {hertz(record['delta'][near])}"
    peak = f"{record['fine_abs'][top]:.1f} quanta at {hertz(record['fine_delta'][top], 3)}"
    z = (record["abs_ab_value"] - record["abs_ab_exact"]) / record["abs_ab_stat"]
    return {
        "peak of |⟨ab⟩|, exact": peak,
        "phase there, exact": minus(f"{record['fine_arg'][top] / np.pi:.2f} π"),
        f"|⟨ab⟩| {at}": pm(record["abs_ab_value"][near], error[near], "quanta"),
        f"phase {at}": pm(record["arg_ab_value"][near], phase[near], "π", np.pi),
        "rms of (estimate − exact)/σ_stat": f"{np.sqrt(np.mean(z**2)):.2f}",
    }


def beat(record: Record) -> Numbers:
    """Return the numbers of Fig. 4c."""
    symbols = {"n_m": "⟨a†a⟩", "n_s": "⟨b†b⟩", "abs_ab": "|⟨ab⟩|"}
    out = {}
    for name, symbol in symbols.items():
        value, error = record[f"with_{name}"]
        out[f"{symbol} when the ringdown begins"] = pm(value, error, "quanta")
    value, error = record["with_abs_ab"] / record["with_bound"]
    out["|⟨ab⟩| over its largest value"] = pm(value, error, "").strip()
    for name in ("n_m", "n_s"):
        value, error = record[f"without_{name}"]
        out[f"without coupling, {symbols[name]}"] = pm(value, error, "quanta")
    return out


def diffusion(record: Record) -> Numbers:
    """Return the numbers of Fig. S1c."""
    fit, p = record.facts["fit"], record.facts["params"]
    unit = "× 10⁴ quanta/s"
    return {
        "B_s calibrated": pm(fit["B_s"], fit["B_s_stderr"], unit, 1e4),
        "B_s of the simulation": f"{p['B_s'] / 1e4:.2f} {unit}",
        "back-action on the spin": f"{record.facts['backaction'] / 1e4:.2f} {unit}",
        "slope over that expected without B_s": f"{fit['slope'] / fit['without']:.1f}",
    }


def positive(record: Record) -> Numbers:
    """Return the numbers of Fig. S2."""
    z = (record["grown"] - record["grown_expected"]) / record["grown_error"]
    at = int(np.argmax(record["negative_grown"]))
    pair = record["negative_grown"][at], record["negative_grown_error"][at]
    here = hertz(record["delta"][at])
    same = record["grown"][at], record["grown_error"][at]
    return {
        "ε = +1, largest steady-state G_+": minus(f"{record['theory'].max() / 1e3:.1f} ms⁻¹"),
        f"ε = −1, growth at {here}": pm(*pair, D2, D_SQUARED),
        f"ε = +1, growth at {here}": pm(*same, D2, D_SQUARED),
        "ε = +1, rms of (growth − exact)/σ": f"{np.sqrt(np.mean(z**2)):.2f}",
    }
