"""Records of every dataset of the gallery, made up of closed forms: drawing them is quick."""

import dataclasses

import numpy as np

from jaxsde.lab.gallery import run
from jaxsde.lab.gallery.record import Record
from jaxsde.lab.gallery.settings import BLUE, DELTA_PRINTED, DELTA_THEORY, KHZ, experiment, facts_of
from jaxsde.lab.gallery.state import ABSOLUTE, DRAWS, UNCERTAIN
from jaxsde.lab.gallery.traces import EDGE
from jaxsde.lab.spec import StageSpec, build_sequence
from jaxsde.physics.params import Params


def put(monkeypatch) -> list[tuple]:
    """Put made-up records in place of simulated ones; list what will be asked for."""
    asked = []

    def make(name):
        def maker(settings, tell):
            asked.append((name, settings.shots, settings.seed))
            tell(1, 1)
            return RECORDS[name]()

        maker.__module__ = run.MAKERS[name].__module__
        return maker

    monkeypatch.setattr(run, "MAKERS", {name: make(name) for name in run.MAKERS})
    return asked


D_0 = 5e10  # (rad/s)^2
RNG = np.random.default_rng(11)


def _noisy(exact: np.ndarray, error: float) -> np.ndarray:
    return exact + error * RNG.normal(size=exact.shape)


def modes() -> Record:
    made = experiment(shots=40)
    stage = StageSpec(name="coupled", duration=200e-6, nbar=4.0)
    made = dataclasses.replace(made, stages=(stage,))
    delta, spring = np.linspace(-20, 20, 5) * KHZ, 7.5 * KHZ
    root = np.sqrt(delta[None] ** 2 + np.array([[1], [-1]]) * spring**2 + 0j) / 2
    omega = np.stack([root, -root], axis=-1)
    parts = dict(real=omega.real, imag=omega.imag)
    return Record(
        arrays=dict(delta=delta, fine_delta=delta)
        | {k: _noisy(v, 10.0) for k, v in parts.items()}
        | {f"{k}_error": np.full(v.shape, 10.0) for k, v in parts.items()}
        | {f"{p}_{k}": v for k, v in parts.items() for p in ("theory", "fine")},
        facts=facts_of(made, omega_0=120 * KHZ, spring=spring, lag=14e-6),
    )


def pulse() -> Record:
    made = experiment(nbar=15.0, delta_pc=BLUE, shots=40)
    sequence = build_sequence(made)
    t, f = sequence.time, np.linspace(80e3, 160e3, 9)
    arrays = dict(time=t, frame_time=t[::40], frame_frequency=f, frequency=f)
    arrays |= dict(frame_power=np.full((9, t[::40].size), 1e-21), spectrum=np.full(9, 1e-21))
    arrays |= dict(spectrum_expected=np.full(9, 1e-21), spectrum_stderr=np.full(9, 1e-22))
    for name in ("with", "without"):
        exact = D_0 * (1 + np.sin(t * 25 * KHZ) ** 2)
        arrays |= {f"{name}_mean": _noisy(exact, 1e9), f"{name}_stderr": np.full(t.size, 1e9)}
        arrays |= {f"{name}_expected": exact, f"{name}_optical": np.full(t.size, 7 * KHZ)}
        arrays |= {f"{name}_static": t * KHZ, f"{name}_omega_m": np.full(t.size, 95 * KHZ)}
    return Record(arrays=arrays, facts=facts_of(made, window=60e-6, spectrum=512))


def _traces(t_c: float, gains: np.ndarray) -> dict[str, np.ndarray]:
    time = np.arange(-70e-6, t_c + 40e-6, 0.5e-6)
    exact = D_0 * np.exp(gains[..., None] * np.clip(time, 0.0, t_c))
    error = np.full(exact.shape, 0.1 * D_0)
    return dict(time=time, expected=exact, mean=_noisy(exact, 0.1 * D_0), stderr=error)


def onset() -> Record:
    gains = np.linspace(1, 40, 4).reshape(2, 2) * 1e3
    arrays = _traces(100e-6, gains)
    arrays |= dict(delta=np.array([DELTA_PRINTED, DELTA_THEORY]), gain=gains)
    arrays |= dict(delta_pc=np.array([0.0, -2e3 * KHZ]), spring=np.array([2.4, 7.5]) * KHZ)
    return Record(arrays=arrays, facts=facts_of(experiment(t_c=100e-6, shots=30)))


def scan(delta_pc: float = -2e3 * KHZ, t_c: float = 140e-6) -> Record:
    delta = np.linspace(-5, 15, 5) * KHZ
    gains = np.array([3, 25, 40, 30, 4]) * 1e3
    arrays = _traces(t_c, gains) | dict(delta=delta, fine_delta=delta)
    arrays |= dict(theory=gains, fine_theory=gains)
    facts = facts_of(
        experiment(delta_pc=delta_pc, t_c=t_c, shots=30), window=[12e-6, t_c - 8e-6], many=1000
    )
    for prefix in ("", "many_", "exact_"):
        arrays |= {f"{prefix}gain": gains + 500.0, f"{prefix}diffusion": np.zeros(5)}
        arrays |= {f"{prefix}{k}": np.full(5, 3e3) for k in ("gain_stat", "gain_sys")}
        arrays |= {f"{prefix}D_0": np.full(5, D_0), f"{prefix}D_0_stat": np.full(5, D_0)}
        arrays |= {f"{prefix}closed": np.array([False, True, True, True, True])}
        facts |= {f"{prefix}p_value": 0.4, f"{prefix}converged": True, f"{prefix}bins": 6}
    return Record(arrays=arrays, facts=facts)


def _moments(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, scale in (("n_m", 10.0), ("n_s", 12.0), ("abs_ab", 11.0), ("arg_ab", -1.5)):
        exact = np.linspace(0.5, 1.0, int(np.prod(shape))).reshape(shape) * scale
        arrays |= {f"{name}_exact": exact, f"{name}_value": _noisy(exact, 0.2)}
        arrays |= {f"{name}_stat": np.full(shape, 0.2), f"{name}_sys": np.full(shape, 0.1)}
    return arrays


def growth() -> Record:
    t_c = np.arange(0, 101, 50) * 1e-6
    arrays = _moments((2, 3)) | dict(t_c=t_c, delta=np.array([DELTA_PRINTED, DELTA_THEORY]))
    arrays |= dict(predicted=np.array([0.2, 5.0, 60.0]), predicted_error=np.array([0.1, 1.0, 9.0]))
    return Record(arrays=arrays, facts=_filtered())


def detuning() -> Record:
    delta = np.linspace(-10, 20, 4) * KHZ
    arrays = _moments((4,)) | dict(delta=delta, fine_delta=delta)
    arrays |= dict(fine_abs=np.array([1.0, 9.0, 11.0, 3.0]), fine_arg=np.array([0, -0.5, -1.5, -3]))
    return Record(arrays=arrays, facts=_filtered())


def _filtered():
    return facts_of(
        experiment(shots=200), draws=DRAWS, uncertain=UNCERTAIN, absolute=list(ABSOLUTE)
    )


def beat() -> Record:
    made = experiment(shots=200)
    t = np.arange(0, 500e-6, 0.5e-6)
    arrays = dict(time=t, line_time=t)
    c = np.diag([21.0, 21.0, 25.0, 25.0])
    c[0, 3] = c[3, 0] = c[1, 2] = c[2, 1] = -20.0
    for name in ("with", "without"):
        exact = D_0 * (2 + np.sin(t * 25 * KHZ))
        for part in ("mean", "expected", "line", "lower", "upper"):
            arrays[f"{name}_{part}"] = exact
        arrays |= {f"{name}_{k}": np.full(t.size, 1e9) for k in ("stderr", "line_stderr")}
        arrays |= {f"{name}_C": c, f"{name}_C_cov": np.eye(10), f"{name}_bound": np.array(11.0)}
        arrays |= {f"{name}_{k}": np.array([10.0, 1.0]) for k in ("n_m", "n_s", "abs_ab")}
    return Record(arrays=arrays, facts=facts_of(made))


def diffusion() -> Record:
    made = experiment(params=Params.kohler2018(omega_s=110 * KHZ), t_c=0.0, shots=1000)
    made = dataclasses.replace(made, stages=(made.stages[0], made.stages[-1]), delta=None)
    t = np.arange(-60e-6, 500e-6, 0.5e-6)
    exact = D_0 + 1e15 * np.clip(t, 0.0, None)
    fit = dict(B_s=3.1e4, B_s_stderr=0.4e4, slope=1e15, slope_stderr=1e14, without=2e14)
    fit |= dict(per_quantum=2e10, start=80e-6, stop=540e-6)
    return Record(
        arrays=dict(
            time=t, mean=exact, expected=exact, without=0.5 * exact, stderr=np.full(t.size, 1e9)
        ),
        facts=facts_of(made, fit=fit, origin=60e-6, backaction=0.9e4),
    )


def positive() -> Record:
    made = experiment(params=Params.kohler2018(epsilon=1.0), t_c=140e-6, shots=30)
    arrays = _traces(140e-6, np.zeros(3)) | dict(delta=np.array([-5, 5, 15]) * KHZ)
    for prefix, grown in (("", 1e9), ("negative_", 9e12)):
        arrays |= {f"{prefix}grown": np.full(3, grown), f"{prefix}grown_error": np.full(3, 2e9)}
        arrays |= {f"{prefix}grown_expected": np.full(3, grown)}
        arrays |= {f"{prefix}theory": np.full(3, -4e3)}
    return Record(arrays=arrays, facts=facts_of(made, window=[12e-6, 132e-6], edge=EDGE))


RECORDS = dict(
    modes=modes,
    pulse=pulse,
    onset=onset,
    resonance=scan,
    inverted=lambda: scan(BLUE, 300e-6),
    growth=growth,
    detuning=detuning,
    beat=beat,
    diffusion=diffusion,
    positive=positive,
)
