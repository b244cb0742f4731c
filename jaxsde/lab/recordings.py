"""Nouns of laboratory records: headers, blocks of shots, and what was left out."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


class RecordError(ValueError):
    """Say in one line which record is wrong, what was wanted, and the remedy."""


# Units a record may have, and the base unit and factor that they stand for.
UNITS = {
    **{f"{p}{u}": (u, f) for u in "VWA" for p, f in (("", 1.0), ("m", 1e-3), ("n", 1e-9))},
    **{f"{p}{u}": (u, 1e-6) for u in "VWA" for p in ("u", "µ", "μ")},
    "rad/s": ("rad/s", 1.0),
    "1": ("1", 1.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """Hold what is common to all shots of a record, as they are after demodulation.

    n_samples: of a shot.  channels: names.  unit: base unit of the samples.  sample_interval: s.
    stages: names, and starts: s from the first sample; empty where unmarked.
    A: calibration of each stage, unit/(rad/s); None where not given.  S_SN: unit^2/Hz, two-sided,
    all of it in the two quadratures together, as S10; or None.
    experiment: text of an experiment file (TOML), or "".  parameters: others, name to value.
    """

    n_samples: int
    channels: tuple[str, ...]
    unit: str
    sample_interval: float
    stages: tuple[str, ...] = ()
    starts: tuple[float, ...] = ()
    A: tuple[float, ...] | None = None
    S_SN: float | None = None
    experiment: str = ""
    parameters: tuple[tuple[str, float | str], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Hold shots in a row: samples in the header's unit, and which of them can be used.

    missing: not digitised, marked in the file, or not a number.  clipped: at the digitiser's
    limits.  Both are true of a sample if they are of any channel.  rejected: shots that the file
    says are bad.  Samples that are missing hold 0.
    """

    samples: Float[np.ndarray, "shots samples channels"]
    missing: Bool[np.ndarray, "shots samples"]
    clipped: Bool[np.ndarray, "shots samples"]
    rejected: Bool[np.ndarray, "shots"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Losses:
    """Hold how much of a record was not used.

    shots: read, of files that were not left out.  rejected: by the file.  with_missing,
    with_clipped: shots that have such samples, and how many.  skipped: files left out, and why.
    """

    shots: int = 0
    rejected: int = 0
    with_missing: int = 0
    missing: int = 0
    with_clipped: int = 0
    clipped: int = 0
    samples: int = 0
    skipped: tuple[tuple[str, str], ...] = ()

    def plus(self, block: Block, n_shots: int | None = None) -> "Losses":
        """Return the losses with another block counted; of rejected shots nothing else is."""
        kept = ~block.rejected
        missing, clipped = block.missing[kept], block.clipped[kept]
        return dataclasses.replace(
            self,
            shots=self.shots + (block.rejected.size if n_shots is None else n_shots),
            rejected=self.rejected + int(block.rejected.sum()),
            with_missing=self.with_missing + int(missing.any(axis=1).sum()),
            missing=self.missing + int(missing.sum()),
            with_clipped=self.with_clipped + int(clipped.any(axis=1).sum()),
            clipped=self.clipped + int(clipped.sum()),
            samples=self.samples + missing.size,
        )

    def counts(self) -> dict[str, Any]:
        """Return the losses as plain numbers, and the reasons why files were left out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return fields | {"skipped": [reason for _, reason in self.skipped]}

    def lines(self, keep_clipped: bool) -> list[str]:
        """Return the report, a line for every kind of loss; the first says how many were read."""
        out = [f"{self.shots:,} shots read, {self.shots - self.rejected:,} analysed"]
        if self.rejected:
            out.append(f"{self.rejected:,} shots rejected by the file, left out")
        if self.missing:
            out.append(
                f"{self.missing:,} samples missing in {self.with_missing:,} shots: left out of "
                "<D²>, with all that filters mix them into; matched filters leave out such shots"
            )
        if self.clipped:
            share = 100 * self.clipped / max(self.samples, 1)
            what = (
                "kept as they are, which makes powers too small"
                if keep_clipped
                else "treated as missing, which leaves out the largest signals and makes powers "
                "too small: raise the digitiser's range (--keep-clipped takes them as they are)"
            )
            out.append(
                f"{self.clipped:,} samples clipped in {self.with_clipped:,} shots ({share:.2g} %): "
                + what
            )
        out += [f"left out: {reason}" for _, reason in self.skipped]
        return out
