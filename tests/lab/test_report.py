import base64
import dataclasses
import html.parser
import re

import pytest

from jaxsde.lab.captions import caption
from jaxsde.lab.config import dump_experiment, parse_experiment
from jaxsde.lab.figures import draw_figures
from jaxsde.lab.report import write_report
from jaxsde.lab.table import Row, table_rows
from tiny import positive_mass, tiny_results, with_everything, without_pulse

MANIFEST = {
    "schema": 1,
    "versions": {"jaxsde": "0.1.0", "jax": "9.8.7"},
    "devices": ["cpu:0 fast <one>"],
    "x64": True,
    "command": ["jaxsde", "run", "my file.toml"],
    "files": {"records.zarr/secret": {}},
}


class Page(html.parser.HTMLParser):
    """Collect tags with attributes, text, and the table rows of a page; check tags are closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words, self.lines = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.lines.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if "tr" in self.open:
            self.lines[-1] += data + " "

    @property
    def text(self):
        return "".join(self.words)


@pytest.fixture(scope="session")
def results():
    return tiny_results()


@pytest.fixture(scope="session")
def rows(results):
    return table_rows(results)


@pytest.fixture(scope="session")
def written(results, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    figures = draw_figures(results, folder / "figures", ["gain", "moments"])
    write_report(results, rows, MANIFEST, figures, folder / "report.html")
    return figures, (folder / "report.html").read_text(encoding="utf-8")


def report(results, rows, tmp_path, manifest=MANIFEST, figures=()):
    path = tmp_path / "report.html"
    write_report(results, rows, manifest, list(figures), path)
    return Page(path.read_text(encoding="utf-8"))


def numbers(**given):
    """Return a row of the table with given fields."""
    rest = dict(name="x", label="x", value=0.0, error=None, theory=None, unit="1", note="")
    return Row(**{**rest, **given})


def without_data(text):
    return re.sub(r'src="data:image/png;base64,[A-Za-z0-9+/=]+"', "", text)


def test_is_self_contained(written):
    _, text = written
    bare = without_data(text)
    assert "src=" not in bare and "href" not in bare and "url(" not in bare
    assert "http" not in bare and "<script" not in bare and "@import" not in bare
    kinds = {tag for tag, _ in Page(text).tags}
    assert not kinds & {"script", "link", "iframe", "object", "a"}


def test_embeds_png_figures_alone_with_their_captions(written, results):
    figures, text = written
    page = Page(text)
    images = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    pictures = [p for p in figures if p.suffix == ".png"]
    assert len(images) == len(pictures) == 2
    for source, path in zip(images, pictures, strict=True):
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == path.read_bytes()
        # Subscripts are set as such, so that underscores go.
        assert caption(path.stem, results).replace("_", "") in page.text.replace("_", "")
    assert "g<sub>m</sub>/2π = 26 kHz" in text and "⟨D²⟩<sub>cyc</sub>" in text


def test_holds_every_row_with_its_digits(written, rows):
    lines = Page(written[1]).lines
    for row in rows:
        assert any(row.label in line and row.note in line and row.unit in line for line in lines)


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (dict(value=12.345, error=0.5, theory=11.0, unit="quanta"), ["12.35 ± 0.50", "+2.7"]),
        (dict(value=41200.0, error=500.0, theory=40000.0, unit="1/s"), ["(4.120 ± 0.050) × 10"]),
        (dict(value=-0.5, error=0.1, theory=0.2, unit="π"), ["−0.50 ± 0.10", "0.20", "−7.0"]),
        (dict(value=2.5, error=None, theory=None, unit="1"), ["2.50", "–"]),
    ],
)
def test_numbers_share_digits_and_powers_of_ten(results, tmp_path, row, parts):
    page = report(results, [numbers(label="X", **row)], tmp_path)
    (line,) = [line for line in page.lines if line.startswith("X")]
    for part in parts:
        assert part in line


def test_far_from_theory_is_marked(results, tmp_path):
    values = dict(near=2.9, far=-3.1)
    rows = [numbers(label=n, value=v, error=1.0, theory=0.0) for n, v in values.items()]
    report(results, rows, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<td class="number far">([^<]+)</td>', text) == ["−3.1"]


def test_escapes_what_people_write(results, rows, tmp_path):
    bad = '<script>alert("x")</script> & co'
    e = dataclasses.replace(results.experiment, title=bad)
    row = numbers(name="r", label="<b>r</b>", value=1.0, unit="<u>", note="<i>")
    named = dataclasses.replace(results, experiment=e)
    page = report(named, [row], tmp_path, {"versions": {bad: bad}})
    assert not {tag for tag, _ in page.tags} & {"script", "u", "i"}
    assert bad in page.text and "<b>r</b>" in page.text
    assert "&lt;script&gt;" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_holds_parameters_sequence_and_settings_with_units(written):
    lines = Page(written[1]).lines

    def has(*parts):
        return any(all(part in line for part in parts) for line in lines)

    assert has("omega_m", "2π × 95 kHz") and has("g_s", "2π × −18 kHz")
    assert has("kappa", "2π × 1.82 MHz", "half-linewidth")
    assert has("B_s", "30000 quanta/s", "the paper prints no value") and has("epsilon", "−1")
    assert has("ramp_up", "10 us", "2π × 95 kHz → 2π × 125.5 kHz")
    assert has("pulse", "40 us", "10", "2π × −2 MHz", "2π × 125.5 kHz")
    assert has("passband", "85 kHz to 150 kHz") and has("sample interval", "1 us")
    assert has("gain scan", "3 values from 2π × 0 Hz to 2π × 11 kHz")


def test_holds_receiver_imperfections_and_ramps(results, tmp_path):
    lines = report(with_everything(results), [], tmp_path).lines

    def has(*parts):
        return any(all(part in line for part in parts) for line in lines)

    assert has("pulse", "4 → 10", "2π × −1 MHz → 2π × −2 MHz", "2π × 125.5 kHz")
    assert has("receiver", "homodyne receiver at 60°", "input-output model")
    assert has("imperfections", "LO offset/2π 3 kHz", "ADC of ±100 nW, 12 bits")
    assert has("beyond the ADC's range", "12 of 7,200 samples clipped (0.17 %)")
    assert has("switching of the probe", "risen in 0.2 µs")
    assert has("accuracy of what moves", "ramps in 7", "3.2e−08", "tolerance 1e−07")
    lines = report(results, [], tmp_path).lines
    assert has("receiver", "heterodyne receiver of I and Q, adiabatic") and has("(LO, ADC)", "none")
    assert has("switching of the probe", "at its new value") and not has("ADC's range")


def test_tells_versions_seed_and_how_to_reproduce(written, results):
    page = Page(written[1])
    assert any("jax" in line and "9.8.7" in line for line in page.lines)
    assert any("devices" in line and "cpu:0 fast <one>" in line for line in page.lines)
    assert "records.zarr/secret" not in page.text
    assert "seed 2018" in page.text and "12 simulated shots" in page.text
    assert "jaxsde run 'my file.toml'" in page.text
    toml = dump_experiment(results.experiment)
    assert toml in page.text
    again = parse_experiment(page.text[page.text.index(toml) :][: len(toml)], "report.html")
    assert again == results.experiment


def test_reports_runs_without_pulse_figures_or_facts(results, tmp_path):
    page = report(without_pulse(results), [], tmp_path, {})
    for part in ("No estimates.", "No figures.", "Not recorded.", "negative mass"):
        assert part in page.text
    assert "while coupled" not in page.text and "gain scan" not in page.text


def test_says_which_mass_the_spin_has(results, tmp_path):
    page = report(positive_mass(results), [], tmp_path)
    assert "the spin has positive mass" in page.text
