"""Report: one self-contained HTML file of a run, to send to a colleague."""

import base64
import dataclasses
import html
import math
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxsde.lab import units
from jaxsde.lab.captions import (
    CAPTIONS,
    accuracy,
    caption,
    clipping,
    has_adc,
    ramp,
    receiver,
    sign_of,
    switching,
    technical,
)
from jaxsde.lab.config import dump_experiment
from jaxsde.lab.experiment import Results
from jaxsde.lab.spec import Experiment, TrapEnd
from jaxsde.lab.table import Row, format_number

# (field of Params, symbol, how to write it, what it is)
PARAMETERS = (
    ("omega_m", "ω_m", units.format_angular, "motion of the centre of mass, trap at rest"),
    ("omega_s", "ω_s", units.format_angular, "Larmor precession of the spin"),
    ("kappa", "κ", units.format_angular, "cavity half-linewidth (decay rate of the field)"),
    ("g_m", "g_m", units.format_angular, "optomechanical coupling"),
    ("g_s", "g_s", units.format_angular, "coupling of the spin to the cavity"),
    ("g_sm", "g_sm", units.format_angular, "static spin-motion coupling per photon"),
    ("gamma_m", "Γ_m", units.format_angular, "energy damping rate of the motion"),
    ("n_bath", "n̄_bath", None, "occupation of the motion's bath"),
    ("B_s", "B_s", None, "anomalous diffusion of the spin; the paper prints no value"),
    ("epsilon", "ε", None, "sign of the spin's mass: −1 negative, +1 positive"),
    ("sigma_m", "σ_m", units.format_angular, "shot-to-shot standard deviation of ω_m"),
    ("sigma_s", "σ_s", units.format_angular, "shot-to-shot standard deviation of ω_s"),
    ("n_m0", "n_m0", None, "initial occupation of the motion"),
    ("n_s0", "n_s0", None, "initial occupation of the spin"),
)

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --soft: #5a5a5a; --line: #d5d5d5;
  --paper: #ffffff; --tint: #f5f5f3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --soft: #a8a8a8; --line: #444; --paper: #181818; --tint: #232323; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
p.lead, td.note, p.hint { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.number { text-align: right; }
td.what small { display: block; color: var(--soft); font-size: .8rem; min-width: 9rem; }
td.nowrap { white-space: nowrap; }
sub, sup { line-height: 0; }
td.far { font-weight: 700; }
figure { margin: 1.2rem 0 2rem; }
figure img { display: block; width: 100%; max-width: 46rem; height: auto; margin: 0 auto;
  background: #fff; border: 1px solid var(--line); border-radius: 4px; padding: .4rem; }
figcaption { font-size: .86rem; color: var(--soft); max-width: 46rem; margin: .5rem auto 0;
  overflow-wrap: break-word; }
pre { background: var(--tint); padding: .8rem; overflow-x: auto; font-size: .82rem;
  line-height: 1.4; border-radius: 4px; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #333; --paper: #fff; --tint: #f5f5f3; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  pre { white-space: pre-wrap; } }
"""


def write_report(
    results: Results, rows: list[Row], manifest: dict[str, Any], figures: list[Path], path: Path
) -> None:
    """Write report.html: everything of a run in one file, without scripts or links.

    rows: of the table.  manifest: facts of the run (versions, seed, command, ...).
    figures: files that draw_figures wrote; the PNG ones are embedded.
    """
    e = results.experiment
    title = html.escape(e.title)
    spin = "negative" if float(np.asarray(e.params.epsilon)) < 0 else "positive"
    lead = (
        f"{e.shots} simulated shots, seed {e.seed}, method {e.method}; the spin has {spin} mass. "
        "Angular frequencies are written as 2π × ordinary frequency."
    )
    sections = [
        ("Estimates beside exact theory", _estimates(rows)),
        ("Figures", _figures(results, figures)),
        ("Parameters", _parameters(e)),
        ("Sequence", _sequence(results)),
        ("Detector and analysis", _settings(results)),
        ("How to reproduce", _reproduce(e, manifest)),
        ("Versions and machine", _facts(manifest)),
    ]
    body = "\n".join(f"<section><h2>{name}</h2>\n{text}\n</section>" for name, text in sections)
    path.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{title}</h1>\n<p class="lead">{html.escape(lead)}</p>\n{body}\n</body>\n</html>\n',
        encoding="utf-8",
    )


def _table(header: Iterable[str], lines: Iterable[Iterable[tuple[str, str]]]) -> str:
    """Return a table; a cell is (HTML, class), and heads align with the first line's cells."""
    lines = [list(line) for line in lines]
    head = "".join(
        f'<th class="{"number" if "number" in kind else ""}">{html.escape(text)}</th>'
        for text, (_, kind) in zip(header, lines[0], strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for text, kind in line) + "</tr>"
        for line in lines
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _pairs(header: tuple[str, str], lines: list[tuple[str, str]]) -> str:
    """Return a table of plain names and values."""
    return _table(header, [[(_text(n), "nowrap"), (html.escape(v), "")] for n, v in lines])


def _text(text: str) -> str:
    """Return plain text as HTML, with g_m and the like as subscripts."""
    return re.sub(r"((?<!\w)\w\u0304?|⟩)_(\w+|\+)", r"\1<sub>\2</sub>", html.escape(text))


def _estimates(rows: list[Row]) -> str:
    if not rows:
        return '<p class="hint">No estimates.</p>'
    lines = []
    for row in rows:
        z = row.z
        far = z is not None and abs(z) > 3
        value, theory = _numbers(row)
        what = f"{html.escape(row.label)}<small>{html.escape(row.note)}</small>"
        lines.append(
            [
                (what, "what"),
                (value, "number"),
                (theory, "number"),
                ("–" if z is None else _minus(f"{z:+.1f}"), "number far" if far else "number"),
                (html.escape(row.unit), "nowrap"),
            ]
        )
    hint = (
        "z = (estimate − theory)/σ, bold beyond 3. Theory is exact covariance propagation; for G+, "
        "see the note."
    )
    table = _table(("quantity", "estimate ± 1 σ", "theory", "z", "unit"), lines)
    return f'{table}\n<p class="hint">{hint}</p>'


def _numbers(row: Row) -> tuple[str, str]:
    """Return estimate with error, and theory, both to the digits that the error makes meaningful.

    From 10^4 on they share a power of ten.
    """
    known = [abs(v) for v in (row.value, row.theory) if v is not None and math.isfinite(v)]
    power = math.floor(math.log10(max(known))) if known and max(known) >= 1e4 else 0
    unit = 10.0**power
    error = None if row.error is None else row.error / unit
    value = format_number(row.value / unit, error)
    if error is not None:
        value += f" ± {format_number(error, error)}"
    theory = "–" if row.theory is None else format_number(row.theory / unit, error)
    if power:
        ten = f" × 10<sup>{power}</sup>"
        value = f"({value}){ten}"
        theory += ten if row.theory is not None else ""
    return _minus(value), _minus(theory)


def _minus(text: str) -> str:
    """Return the text of numbers with true minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")


def _figures(results: Results, figures: list[Path]) -> str:
    out = []
    for path in figures:
        if path.suffix != ".png":
            continue
        text = caption(path.stem, results) if path.stem in CAPTIONS else path.stem
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        number = len(out) + 1
        out.append(
            f'<figure>\n<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">\n'
            f"<figcaption><b>Figure {number}.</b> {_text(text)}</figcaption>\n</figure>"
        )
    return "\n".join(out) if out else '<p class="hint">No figures.</p>'


def _parameters(e: Experiment) -> str:
    lines = []
    for field, symbol, write, what in PARAMETERS:
        value = float(np.asarray(getattr(e.params, field)))
        text = sign_of(value) if field == "epsilon" else f"{value:g}"
        if write is not None:
            text = _two_pi(write(value))
        elif field == "B_s":
            text += " quanta/s"
        elif field.startswith("n_"):
            text += " quanta"
        cells = (
            (_text(symbol), "nowrap"),
            (text, "nowrap"),
            (field, "nowrap"),
            (_text(what), "note"),
        )
        lines.append(cells)
    return _table(("symbol", "value", "field", "what it is"), lines)


def _two_pi(text: str) -> str:
    """Return the text of an angular frequency with its 2 pi as people print it."""
    return text.replace("2pi * ", "2π × ").replace("-", "\N{MINUS SIGN}")


def _sequence(results: Results) -> str:
    e = results.experiment
    lines = []
    for spec in e.stages:
        b_s = e.params.B_s if spec.B_s is None else spec.B_s
        n_bath = e.params.n_bath if spec.n_bath is None else spec.n_bath
        lines.append(
            [
                (html.escape(spec.name), "nowrap"),
                (units.format_duration(spec.duration), "number"),
                (ramp(spec.nbar, lambda nbar: f"{nbar:g}"), "number"),
                (ramp(spec.delta_pc, lambda d: _two_pi(units.format_angular(d))), "nowrap"),
                (ramp(spec.omega_m, lambda end: _trap(e, end)), "nowrap"),
                (f"{float(b_s):g}", "number"),
                (f"{float(n_bath):g}", "number"),
            ]
        )
    header = ("stage", "duration", "n̄", "Δ_pc", "ω_m", "B_s (quanta/s)", "n̄_bath")
    text = _table(header, lines)
    if e.delta is not None:
        delta = _two_pi(units.format_angular(e.delta))
        text += f'\n<p class="hint">{_text("δ = ω_m − ω_s while coupled:")} {delta}.</p>'
    return text


def _trap(e: Experiment, end: TrapEnd | None) -> str:
    """Return one end of a stage's trap frequency as text."""
    if end is None or end == "rest":
        return _two_pi(units.format_angular(float(e.params.omega_m)))
    if end == "coupled":
        return _two_pi(units.format_angular(float(e.params.omega_s) + float(e.delta or 0.0)))
    return _two_pi(units.format_angular(float(end)))


def _settings(results: Results) -> str:
    e = results.experiment
    d, a = e.detector, e.analysis
    band = " to ".join(units.format_frequency(f) for f in a.band)
    lines = [
        ("receiver", receiver(d)),
        ("detection efficiency", f"{float(d.efficiency):g}"),
        ("collection", f"{float(d.collection):g} of the cavity's output"),
        ("sample interval", units.format_duration(d.sample_interval)),
        ("shot-noise density S_SN", f"{float(d.S_SN):.4g} W²/Hz"),
        ("quadratures", ", ".join(d.quadratures)),
        ("imperfections (LO, ADC)", technical(d)),
        *([] if not has_adc(d) else [("samples beyond the ADC's range", clipping(results))]),
        ("switching of the probe", switching(e)),
        ("accuracy of what moves", accuracy(results) or "nothing moves during a stage"),
        ("passband (S11)", band),
        ("cycle average (S11)", units.format_frequency(a.cycle_average)),
        ("stage of the matched filters", a.ringdown),
    ]
    if a.fit_window is not None:
        window = " to ".join(units.format_duration(t) for t in a.fit_window)
        lines.append(("fit window (S12)", f"{window} after the start of {a.pulse}"))
    if e.gain_scan is not None:
        scan = e.gain_scan
        low, high = (_two_pi(units.format_angular(f(scan.delta))) for f in (min, max))
        window = " to ".join(units.format_duration(t) for t in scan.fit_window)
        lines += [
            ("gain scan, δ", f"{len(scan.delta)} values from {low} to {high}"),
            ("gain scan, t_c", units.format_duration(scan.t_c)),
            ("gain scan, shots", f"{scan.shots} for each δ"),
            ("gain scan, fit window", window),
        ]
    return _pairs(("setting", "value"), lines)


def _reproduce(e: Experiment, manifest: dict[str, Any]) -> str:
    text = "jaxsde run experiment.toml"
    out = f"<p>With the experiment below as experiment.toml:</p>\n<pre>{html.escape(text)}</pre>"
    command = manifest.get("command")
    if command:
        line = command if isinstance(command, str) else shlex.join(map(str, command))
        out += f"\n<p>This report was made by:</p>\n<pre>{html.escape(line)}</pre>"
    toml = html.escape(dump_experiment(e))
    return f"{out}\n<p>The experiment as run (experiment.toml):</p>\n<pre>{toml}</pre>"


def _facts(manifest: dict[str, Any]) -> str:
    """Return every fact of the manifest but the command and the files, nested ones flattened."""
    lines = []

    def add(name: str, value: Any) -> None:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name} {key}".strip(), inner)
        elif isinstance(value, list | tuple):
            lines.append((name, ", ".join(map(str, value))))
        else:
            lines.append((name, str(value)))

    for name, value in manifest.items():
        if name not in ("command", "files", "schema"):
            # A version is told from other facts by its package's name alone.
            add("" if name == "versions" else name, value)
    if not lines:
        return '<p class="hint">Not recorded.</p>'
    return _pairs(("what", "value"), lines)
