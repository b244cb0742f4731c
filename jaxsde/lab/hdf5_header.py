"""Header of an HDF5 file of records: what it says of its samples, checked (docs/records.md)."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jaxsde.analysis.demodulate import quadrature_weights
from jaxsde.lab.recordings import UNITS, Header, RecordError

SUFFIXES = (".h5", ".hdf5")
AXES = {1: "time", 2: "shot,time", 3: "shot,time,channel"}
# Of a record demodulated here, unless the file says otherwise.
INTERVAL = 0.5e-6  # s


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Hold how a file's numbers become samples: value = gain x number - offset, in the file's unit.

    axes: of the dataset.  limits: numbers at or beyond which a sample is clipped.  missing: number
    that stands for no sample.  carrier: weights of the demodulation, and their decimation.
    ragged: a dataset of one row of its own length for each shot.
    """

    path: Path
    axes: tuple[str, ...]
    n_shots: int
    lengths: tuple[int, ...]
    gain: np.ndarray
    offset: np.ndarray
    limits: tuple[float, float]
    missing: float | None
    weights: np.ndarray | None
    ragged: bool


def read_header(path: Path) -> tuple[Header, Layout]:
    """Return what a file says of its records.

    Raises RecordError, in one line that begins with the file, for anything missing or wrong.
    """
    with opened(path) as file:
        data = _samples(file, path)
        attrs = _Attributes(path, data, file)
        return _header(path, file, data, attrs)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield an HDF5 file, or raise RecordError that names it."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = "no such file" if not path.exists() else short(error)
        raise RecordError(
            f"{path}: cannot be read as HDF5 ({reason}); copy it again, or leave it out "
            "(--skip-bad does so in a folder)"
        ) from None
    with file:
        yield file


def short(error: Exception) -> str:
    """Return the reason of an error of h5py, which stands in brackets."""
    text = str(error)
    return text[text.find("(") + 1 :].rstrip(")") if "(" in text else text


def _samples(file: Any, path: Path) -> Any:
    data = file.get("samples")
    if isinstance(data, h5py.Dataset):
        return data
    found: list[str] = []

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(name)

    file.visititems(note)
    raise RecordError(
        f"{path}: wanted a dataset 'samples', got {', '.join(found[:5]) or 'none'}; rename it"
    )


class _Attributes:
    """Look attributes up in the dataset, then in the file, with errors that name both."""

    def __init__(self, path: Path, data: Any, file: Any):
        self.path, self.found = path, dict(file.attrs) | dict(data.attrs)

    def wrong(self, name: str, wanted: str, got: object, remedy: str) -> RecordError:
        return RecordError(
            f"{self.path}: samples.attrs[{name!r}]: wanted {wanted}, got {got}; {remedy}"
        )

    def number(self, name: str, default: float | None = None) -> float | None:
        if name not in self.found:
            return default
        try:
            value = np.asarray(self.found[name], float).reshape(-1)
            (number,) = value.tolist()
        except (TypeError, ValueError):
            raise self.wrong(name, "one number", repr(self.found[name]), "write one") from None
        return number

    def text(self, name: str, default: str = "") -> str:
        value = self.found.get(name, default)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        if name not in self.found:
            return ()
        value = np.asarray(self.found[name]).reshape(-1)
        return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in value)

    def numbers(self, name: str) -> np.ndarray | None:
        if name not in self.found:
            return None
        try:
            return np.asarray(self.found[name], float).reshape(-1)
        except (TypeError, ValueError):
            raise self.wrong(name, "numbers", repr(self.found[name]), "write numbers") from None


def _header(path, file, data, attrs) -> tuple[Header, Layout]:
    unit, factor = _unit(attrs)
    axes, ragged = _axes(path, data, attrs)
    interval = attrs.number("sample_interval_s")
    if interval is None or not (np.isfinite(interval) and interval > 0):
        got = "none" if interval is None else f"{interval:g}"
        raise attrs.wrong(
            "sample_interval_s", "a positive time in s", got, "write the digitiser's interval"
        )
    shape = dict(zip(axes, data.shape, strict=False))
    n_shots = shape.get("shot", 1)
    lengths = tuple(len(row) for row in data) if ragged else (shape["time"],) * n_shots
    if n_shots == 0 or min(lengths) == 0:
        raise RecordError(f"{path}: samples: wanted at least one sample, got shape {data.shape}")
    n_channels = shape.get("channel", 1)
    weights, n_samples = None, max(set(lengths), key=lengths.count)
    carrier = attrs.number("carrier_Hz")
    if carrier is not None:
        if n_channels != 1:
            raise attrs.wrong("carrier_Hz", "one raw channel", n_channels, "leave it out")
        weights, interval = _demodulation(path, attrs, carrier, interval)
        n_samples = n_samples // len(weights)
    gain, offset = _scale(attrs, data, ragged, n_channels)
    stages, starts, a = _stages(attrs, n_samples * interval)
    header = Header(
        n_samples=n_samples,
        channels=_channels(attrs, 2 if carrier is not None else n_channels, carrier),
        unit=unit,
        sample_interval=interval,
        stages=stages,
        starts=starts,
        A=None if a is None else tuple((a * factor).tolist()),
        S_SN=None if attrs.number("S_SN") is None else float(attrs.number("S_SN")) * factor**2,
        experiment=attrs.text("experiment"),
        parameters=_parameters(file),
    )
    layout = Layout(
        path=path,
        axes=axes,
        n_shots=n_shots,
        lengths=lengths,
        gain=gain * factor,
        offset=offset * factor,
        limits=_limits(attrs, data, ragged),
        missing=attrs.number("missing_code"),
        weights=weights,
        ragged=ragged,
    )
    return header, layout


def _unit(attrs) -> tuple[str, float]:
    text = attrs.text("units").split()
    if not text or text[0].rstrip(",:;") not in UNITS:
        raise attrs.wrong(
            "units",
            f"a text that begins with one of {', '.join(UNITS)}",
            repr(attrs.text("units")) if text else "none",
            "write the unit that gain and offset give",
        )
    return UNITS[text[0].rstrip(",:;")]


def _axes(path, data, attrs) -> tuple[tuple[str, ...], bool]:
    ragged = h5py.check_vlen_dtype(data.dtype) is not None
    if ragged:
        return ("shot", "time"), True
    default = AXES.get(data.ndim, "")
    axes = tuple(a.strip() for a in attrs.text("axes", default).split(","))
    if len(axes) != data.ndim or "time" not in axes or not set(axes) <= {"shot", "time", "channel"}:
        raise attrs.wrong(
            "axes",
            f"names for the {data.ndim} axes out of shot, time, channel",
            repr(",".join(axes)),
            "write axes such as 'shot,time,channel'",
        )
    if data.dtype.kind not in "iuf":
        raise RecordError(
            f"{path}: samples: wanted integers or floats, got {data.dtype}; convert them"
        )
    return axes, False


def _demodulation(path, attrs, carrier: float, raw: float) -> tuple[np.ndarray, float]:
    interval = attrs.number("demodulated_interval_s", INTERVAL)
    decimation = round(interval / raw)
    if decimation < 1 or abs(interval / raw - decimation) > 1e-6 * decimation:
        raise attrs.wrong(
            "demodulated_interval_s",
            f"a multiple of the raw interval {raw:g} s",
            f"{interval:g}",
            "choose another",
        )
    phase = attrs.number("carrier_phase_rad", 0.0)
    try:
        return quadrature_weights(carrier, raw, decimation, phase), interval
    except ValueError as error:
        raise RecordError(f"{path}: carrier_Hz: {error}") from None


def _scale(attrs, data, ragged: bool, n_channels: int) -> tuple[np.ndarray, np.ndarray]:
    kind = h5py.check_vlen_dtype(data.dtype) if ragged else data.dtype
    made = []
    for name, default in (("gain", 1.0), ("offset", 0.0)):
        value = attrs.numbers(name)
        if value is None and name == "gain" and np.dtype(kind).kind in "iu":
            raise attrs.wrong(
                "gain", "the unit of one count", "none", "write it: value = gain x count - offset"
            )
        value = np.array([default]) if value is None else value
        good = value.size in (1, n_channels) and np.all(np.isfinite(value))
        if not good or (name == "gain" and np.any(value == 0)):
            raise attrs.wrong(
                name, f"1 or {n_channels} finite numbers, a gain not 0", value, "mend it"
            )
        made.append(np.broadcast_to(value, (n_channels,)))
    return made[0], made[1]


def _limits(attrs, data, ragged: bool) -> tuple[float, float]:
    """Return the digitiser's limits, in its own numbers: those given, or those of its integers."""
    kind = np.dtype(h5py.check_vlen_dtype(data.dtype) if ragged else data.dtype)
    low, high = -np.inf, np.inf
    if kind.kind in "iu":
        low, high = float(np.iinfo(kind).min), float(np.iinfo(kind).max)
    low, high = attrs.number("adc_min", low), attrs.number("adc_max", high)
    if not low < high:
        raise attrs.wrong("adc_max", f"more than adc_min, {low:g}", f"{high:g}", "mend it")
    return low, high


def _stages(attrs, length: float):
    names, starts, a = attrs.texts("stage_names"), attrs.numbers("stage_starts_s"), None
    if not names and starts is None:
        return (), (), None
    starts = np.array([]) if starts is None else starts
    ordered = len(starts) == len(names) > 0 and np.all(np.diff(starts) > 0)
    if not ordered or starts[0] < 0 or starts[-1] >= length:
        raise attrs.wrong(
            "stage_starts_s",
            f"one time for each of {len(names)} stage_names, rising from 0 to below {length:g} s",
            starts,
            "mend the marks",
        )
    if "stage_A" in attrs.found:
        a = attrs.numbers("stage_A")
        if len(a) != len(names) or np.any(a <= 0):
            raise attrs.wrong(
                "stage_A",
                f"{len(names)} positive numbers (NaN: unknown), one for each stage",
                a,
                "mend the calibration",
            )
    return names, tuple(starts.tolist()), a


def _channels(attrs, n: int, carrier: float | None) -> tuple[str, ...]:
    names = attrs.texts("channels")
    if carrier is not None:
        return ("I", "Q")
    if names and len(names) != n:
        raise attrs.wrong("channels", f"{n} names", names, "write one for each channel")
    return names or (("signal",) if n == 1 else tuple(f"channel {i}" for i in range(n)))


def _parameters(file: Any) -> tuple[tuple[str, float | str], ...]:
    group = file.get("parameters")
    if group is None:
        return ()
    out = []
    for name, value in sorted(group.attrs.items()):
        number = np.asarray(value)
        plain = float(number) if number.ndim == 0 and number.dtype.kind in "iuf" else str(value)
        out.append((name, plain))
    return tuple(out)
