"""The kernel against the scan: same seed, same numbers, whatever the lengths and what is asked."""

import ctypes
import dataclasses
import pathlib
import shlex
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsde
from jaxsde.engine import backends, fused, native
from jaxsde.engine.noise import seed_words
from jaxsde.engine.outputs import GROUP, Asked
from jaxsde.engine.records import signal_covariance
from jaxsde.engine.resolution import choose_resolution
from jaxsde.engine.tables import StepTable
from jaxsde.physics.params import TWO_PI, Params
from jaxsde.physics.sequence import Controls, Sequence, Stage
from light import MIXED, SWITCHED

PARAMS = Params.kohler2018()
DT = 0.5e-6
IQ, IDEAL = jaxsde.Detector(), jaxsde.Detector.ideal(DT)
SEED = seed_words(jax.random.key(3))
BOTH = Asked()
SHOTS = 531
PULSE = Controls(nbar=10.0, delta_pc=TWO_PI * -2.0e6, omega_m=TWO_PI * 125.5e3)


def sequence_of(*lengths, dt=DT):
    """Return a pulse, a ramp down and a ringdown of these lengths."""
    ramp = Controls(nbar=(10.0, 4.0), delta_pc=0.0, omega_m=(TWO_PI * 125.5e3, TWO_PI * 95e3))
    controls = (PULSE, ramp, Controls(nbar=4.0))
    stages = [
        Stage(name=f"stage {i}", n_samples=n, controls=c)
        for i, (n, c) in enumerate(zip(lengths, controls, strict=True))
        if n
    ]
    return Sequence(stages=tuple(stages), sample_interval=dt)


def outputs(
    backend, shots, sequence, detector=IQ, params=PARAMS, dtype="float64", first=0, method="exact",
    substeps=1, asked=BOTH, weights=None,
):  # fmt: skip
    resolution = choose_resolution(params, sequence, method=method, substeps=substeps)
    chosen = backends.choose_backend(backend, resolution, dtype)
    assert chosen.name == backend
    prepared = backends.prepare(chosen, params, sequence, detector, resolution)
    ids = jnp.uint32(first) + jnp.arange(shots, dtype=jnp.uint32)
    return backends.run(
        chosen, prepared, SEED, params, sequence, detector, ids, resolution, dtype,
        asked=asked, weights=weights,
    )  # fmt: skip


def assert_near(got, expected, dtype="float64", far=1.0, of=None):
    """Assert equality to rounding, in units of each variable's spread over the shots `of`.

    In float32 the maps themselves are rounded, and their errors add up along a shot.
    """
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    assert got.shape == expected.shape
    of = expected if of is None else np.asarray(of, float)
    scale = np.sqrt(np.mean(of**2, axis=(0, 1)))
    limit = {"float64": 1e-10, "float32": 1e-5}[dtype] * far
    assert np.abs((got - expected) / scale).max() < limit


# --- agreement ------------------------------------------------------------------------------------


DTYPES = ("float32", "float64")


@pytest.fixture(scope="module")
def scanned():
    """Return what the scan makes of 531 shots, two tasks of 256 and a part of one."""
    return {d: outputs("scan", SHOTS, sequence_of(20, 0, 0), dtype=d) for d in DTYPES}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 16, 17, 20])
def test_records_are_the_scans_at_every_length(scanned, n, dtype):
    """A record leaves in tiles of 64 bytes: 8 samples of two numbers, or 4."""
    got = outputs("fused", 40, sequence_of(n, 0, 0), dtype=dtype)
    assert_near(got.record, scanned[dtype].record[:40, :n], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stages_follow_each_other(dtype):
    sequence = sequence_of(9, 4, 20)
    got, expected = (outputs(b, 40, sequence, dtype=dtype) for b in ("fused", "scan"))
    assert_near(got.record, expected.record, dtype)
    assert_near(got.states, expected.states, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shots", [1, 7, 8, 9, 15, 16, 17, 255, 256, 257, 531])
def test_records_are_the_scans_for_any_number_of_shots(scanned, shots, dtype):
    sequence = sequence_of(20, 0, 0)
    got = outputs("fused", shots, sequence, dtype=dtype)
    whole = scanned[dtype]
    assert_near(got.record, whole.record[:shots], dtype, of=whole.record)
    assert_near(got.states, whole.states[:shots], dtype, of=whole.states)
    # Which shots are its neighbours does not change a single bit of a shot.
    last = outputs("fused", 1, sequence, dtype=dtype, first=shots - 1)
    np.testing.assert_array_equal(last.record[0], got.record[-1])


@pytest.mark.parametrize(
    "method, detector",
    [
        ("interaction_euler", IQ),
        ("euler_maruyama", IQ),
        ("euler_maruyama", IDEAL),
        ("exact", IDEAL),
        ("exact", dataclasses.replace(IQ, model="input_output")),
        ("exact", jaxsde.Detector.homodyne(0.7, efficiency=0.8, collection=1.0)),
    ],
)
def test_every_method_and_receiver(method, detector):
    substeps = 1 if method == "exact" else 60
    options = dict(detector=detector, method=method, substeps=substeps)
    got, expected = (outputs(b, 24, sequence_of(3, 0, 0), **options) for b in ("fused", "scan"))
    assert_near(got.record, expected.record)
    assert_near(got.states, expected.states)


@pytest.mark.parametrize(
    "sequence, params, far",
    [
        (MIXED, PARAMS, 1),
        (SWITCHED, PARAMS, 1),
        (sequence_of(3, 0, 0), Params.kohler2018(sigma_m=0.0, sigma_s=0.0), 1),
        # Offsets of half the frequency: both interpolations err by 1e-9.
        (sequence_of(3, 0, 0), Params.kohler2018(sigma_m=TWO_PI * 2e4, sigma_s=TWO_PI * 1e4), 50),
        # One noise for all: the factor of a matrix of rank one and rounding is known to 1e-5; its
        # law far better (test_tables.py).
        (sequence_of(3, 0, 0), Params.kohler2018(B_s=0.0, gamma_m=0.0, epsilon=1.0), 1e6),
    ],
    ids=["ramps and dark", "switched", "no jitter", "strong jitter", "little noise"],
)
def test_whatever_moves_jitters_or_is_silent(sequence, params, far):
    got, expected = (outputs(b, 24, sequence, params=params) for b in ("fused", "scan"))
    assert_near(got.record, expected.record, far=far)
    assert_near(got.states, expected.states, far=far)


def test_a_long_shot_keeps_to_the_scan():
    """The paper's 1,280 samples: the rounding of float32 adds up over them."""
    sequence = jaxsde.Sequence.kohler2018()
    got, expected = (outputs(b, 40, sequence, dtype="float32") for b in ("fused", "scan"))
    off = np.asarray(got.states, float) - np.asarray(expected.states, float)
    spread = np.asarray(expected.states, float).std(axis=0)
    assert np.abs(off / spread).max() < 1e-4


def test_a_thread_of_a_gpu_does_the_same(tmp_path):
    """The scalar arithmetic that cuda.cu runs, compiled for this CPU."""
    source, library = pathlib.Path(__file__).with_name("scalar_shot.cc"), tmp_path / "scalar.so"
    compiler = native.compilers("cpu")[0]
    flags = [*native.CPU_FLAGS, f"-I{native.source_folder()}"]
    subprocess.run([*shlex.split(compiler), *flags, str(source), "-o", str(library)], check=True)
    sequence, shots = sequence_of(9, 4, 20), 21
    resolution = choose_resolution(PARAMS, sequence)
    table = backends.prepare(
        backends.choose_backend("fused", resolution, "float32"), PARAMS, sequence, IQ, resolution
    )
    assert isinstance(table, StepTable)
    tables, used = fused._operands(table.maps[None], jnp.dtype("float32"))
    live = np.asarray(fused._live_pairs(used, table.n, table.k), np.int32)
    record = np.zeros((shots, sequence.n_samples, 2), np.float32)
    arrays = [
        np.asarray(SEED), np.arange(shots, dtype=np.uint32), np.array(table.program, np.int32),
        live, np.asarray(tables), np.asarray(table.start, np.float32),
    ]  # fmt: skip
    seed, ids, program, live, tables, start = (a.ctypes.data_as(ctypes.c_void_p) for a in arrays)
    ctypes.CDLL(str(library)).scalar_record(
        seed, ids, ctypes.c_int64(shots), program, len(table.program), live, tables,
        table.maps.shape[0], table.nodes, start, sequence.n_samples,
        record.ctypes.data_as(ctypes.c_void_p),
    )  # fmt: skip
    expected = outputs("fused", shots, sequence, dtype="float32").record
    assert_near(record, expected, "float32", far=0.1)


# --- what leaves the loop -------------------------------------------------------------------------


def test_nothing_that_is_not_asked_for_has_elements():
    sequence, weights = sequence_of(3, 2, 3), jnp.ones((3, 8, 2))
    nothing = Asked(record=False, states=False)
    got = outputs("fused", 5, sequence, asked=nothing, weights=weights)
    assert got.filters.shape == (5, 3)
    assert (got.record.size, got.states.size, got.sums.size) == (0, 0, 0)
    alone = outputs("fused", 5, sequence, asked=Asked(record=False))
    assert alone.states.shape == (5, 3, 6) and alone.filters.size == 0


@pytest.mark.parametrize("count", [1, 4, 5, 16])
def test_filters_are_sums_over_the_record(count):
    sequence = sequence_of(3, 2, 3)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(count, 8, 2)) * 1e9)
    got = outputs("fused", 19, sequence, weights=weights)
    expected = np.einsum("ftk,stk->sf", weights, got.record)
    np.testing.assert_allclose(got.filters, expected, rtol=1e-12, atol=1e-12 * expected.std())
    twin = outputs("scan", 19, sequence, weights=weights)
    np.testing.assert_allclose(got.filters, twin.filters, rtol=0, atol=1e-10 * expected.std())


@pytest.mark.parametrize("shots", [3, GROUP, GROUP + 5])
def test_sums_over_shots_are_those_of_the_trajectories(shots):
    sequence, asked = sequence_of(2, 0, 2), Asked(record=False, moments=True)
    got, twin = (outputs(b, shots, sequence, asked=asked) for b in ("fused", "scan"))
    assert got.sums.shape == twin.sums.shape == (-(-shots // GROUP), 4, 2 + 21)
    np.testing.assert_allclose(got.sums, twin.sums, rtol=1e-9, atol=1e-9 * shots)
    # The last sample's products are those of the final states.
    x = np.asarray(got.states)[:, -1]
    rows, columns = np.tril_indices(6)
    np.testing.assert_allclose(
        np.asarray(got.sums)[:, -1, 2:].sum(axis=0),
        (x[:, rows] * x[:, columns]).sum(axis=0),
        rtol=1e-9, atol=1e-9 * shots,
    )  # fmt: skip
    few = outputs("fused", shots, sequence, asked=Asked(record=False, displacement=True))
    np.testing.assert_array_equal(few.sums, got.sums[..., :2])


def test_sums_have_the_expectation_of_theory():
    """<D^2> at the end of every sample of 40,000 shots, as z-scores."""
    sequence, shots = jaxsde.Sequence.kohler2018(t_ringdown=20e-6), 40_000
    got = outputs(
        "fused", shots, sequence, dtype="float32", asked=Asked(record=False, displacement=True)
    )
    square, fourth = np.asarray(got.sums, float).sum(axis=0).T / shots
    _, exact = signal_covariance(PARAMS, sequence, choose_resolution(PARAMS, sequence))
    z = (square - np.asarray(exact)) / np.sqrt((fourth - square**2) / shots)
    assert np.abs(z).max() < 4 and np.abs(z).max() > 0.5


# --- derivatives ----------------------------------------------------------------------------------

FREE = ("g_m", "g_s", "B_s", "kappa", "omega_s", "gamma_m", "n_m0", "sigma_m", "n_bath")


def moved_by(u):
    """Return PARAMS with the free ones times exp(u)."""
    factors = dict(zip(FREE, jnp.exp(u), strict=True))
    return dataclasses.replace(PARAMS, **{n: getattr(PARAMS, n) * f for n, f in factors.items()})


def jacobian_of(backend, mode):
    sequence = sequence_of(3, 0, 2)
    resolution = choose_resolution(PARAMS, sequence)
    chosen = backends.choose_backend(backend, resolution, "float64")
    ids = jnp.arange(7, dtype=jnp.uint32)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5, 2)) * 1e9)

    def of(u):
        params = moved_by(u)
        prepared = backends.prepare(chosen, params, sequence, IQ, resolution)
        out = backends.run(
            chosen, prepared, SEED, params, sequence, IQ, ids, resolution, "float64",
            asked=Asked(record=False), weights=weights,
        )  # fmt: skip
        return out.filters, out.states

    return of, mode(of)


def test_tangents_are_those_of_the_scan_and_of_differences():
    """Nine parameters at once: one call of eight tangents, and one of the ninth."""
    at = jnp.linspace(-0.1, 0.1, len(FREE))
    of, jacobian = jacobian_of("fused", jax.jacfwd)
    got = jacobian(at)
    _, forward = jacobian_of("scan", jax.jacfwd)
    for mine, twin in zip(got, forward(at), strict=True):
        np.testing.assert_allclose(mine, twin, rtol=0, atol=1e-8 * np.abs(twin).max())
    for i in range(len(FREE)):
        move = 1e-5 * jnp.eye(len(FREE))[i]
        for mine, high, low in zip(got, of(at + move), of(at - move), strict=True):
            slope = (np.asarray(high) - np.asarray(low)) / 2e-5
            np.testing.assert_allclose(mine[..., i], slope, atol=1e-6 * np.abs(slope).max())


def test_the_scan_in_reverse_has_the_kernels_tangents():
    at = jnp.zeros(len(FREE))
    forward, reverse = (
        jacobian_of(backend, mode)[1](at)[0]
        for backend, mode in (("fused", jax.jacfwd), ("scan", jax.jacrev))
    )
    np.testing.assert_allclose(forward, reverse, rtol=0, atol=1e-8 * np.abs(reverse).max())


def test_many_parameters_at_once_run_one_after_another():
    """vmap over parameters: each has a table of its own."""
    of, _ = jacobian_of("fused", jax.jacfwd)
    both = jnp.stack([jnp.zeros(len(FREE)), jnp.full(len(FREE), 0.1)])
    each = of(both[0]), of(both[1])
    for together, *one in zip(jax.vmap(of)(both), *each, strict=True):
        np.testing.assert_allclose(together, jnp.stack(one), rtol=1e-9, atol=1e-9)


def test_tangents_of_records_are_those_that_the_filters_gather():
    sequence = sequence_of(3, 2, 3)
    resolution = choose_resolution(PARAMS, sequence)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(3, 8, 2)) * 1e9)
    ids = jnp.arange(21, dtype=jnp.uint32)
    for dtype, limit in (("float64", 1e-12), ("float32", 1e-4)):
        chosen = backends.choose_backend("fused", resolution, dtype)

        def of(u, dtype=dtype, chosen=chosen):
            params = moved_by(u)
            prepared = backends.prepare(chosen, params, sequence, IQ, resolution)
            out = backends.run(
                chosen, prepared, SEED, params, sequence, IQ, ids, resolution, dtype,
                asked=BOTH, weights=weights,
            )  # fmt: skip
            return out.record, out.filters

        move = jnp.ones(len(FREE))
        _, (record, filters) = jax.jvp(of, (jnp.zeros(len(FREE)),), (move,))
        expected = np.einsum("ftk,stk->sf", weights, np.asarray(record, float))
        np.testing.assert_allclose(filters, expected, atol=limit * np.abs(expected).max())


def test_derivatives_that_the_kernel_has_not_are_refused():
    sequence = sequence_of(3, 0, 0)
    weights = jnp.ones((1, 3, 2))
    with pytest.raises(TypeError, match=r"^backend: wanted derivatives of records.*'scan'"):
        jax.jvp(lambda w: outputs("fused", 2, sequence, weights=w).filters, (weights,), (weights,))


def test_a_technical_layer_is_the_same_on_both():
    imperfect = dict(lo_offset=TWO_PI * 3e3, phase_drift=100.0, adc_range=100e-9, adc_bits=12)
    detector = dataclasses.replace(IQ, technical=jaxsde.Technical(**imperfect))
    got, expected = (
        outputs(b, 24, sequence_of(3, 2, 3), detector=detector) for b in ("fused", "scan")
    )
    # A sample on the edge between two codes may fall on either side.
    off = np.abs(np.asarray(got.record) - np.asarray(expected.record)) / (100e-9 / 2048)
    assert np.mean(off > 0.5) < 0.01 and off.max() < 1.5
    np.testing.assert_array_equal(got.clipped, expected.clipped)


def test_the_receivers_map_is_shared():
    """Both backends read one function: a homodyne angle that wanders needs both quadratures."""
    technical = jaxsde.Technical(phase_drift=100.0)
    detector = dataclasses.replace(jaxsde.Detector.homodyne(0.3), technical=technical)
    resolution = choose_resolution(PARAMS, sequence_of(3, 0, 0))
    chosen = backends.choose_backend("fused", resolution, "float64")
    table = backends.prepare(chosen, PARAMS, sequence_of(3, 0, 0), detector, resolution)
    assert isinstance(table, StepTable) and table.k == 2
