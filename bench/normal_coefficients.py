"""Find the polynomials of kernels/normals.h and jaxsde/engine/noise.py, by Remez's exchange.

    python bench/normal_coefficients.py

It needs mpmath.  Errors are relative, in exact arithmetic: those of float32 or float64 come on top.
"""

import mpmath as mp

GRID = 800


def minimax(f, low, high, degree, weight):
    """Return the best polynomial, lowest coefficient first, and its largest weighted error."""
    middle, half = (low + high) / 2, (high - low) / 2
    points = [middle - half * mp.cos(mp.pi * i / (degree + 1)) for i in range(degree + 2)]
    grid = [low + (high - low) * mp.mpf(k) / GRID for k in range(GRID + 1)]
    for _ in range(12):
        system, values = mp.matrix(degree + 2, degree + 2), mp.matrix(degree + 2, 1)
        for i, x in enumerate(points):
            for j in range(degree + 1):
                system[i, j] = x**j
            system[i, degree + 1], values[i] = (-1) ** i / weight(x), f(x)
        solution = mp.lu_solve(system, values)
        coefficients = [solution[j] for j in range(degree + 1)]
        errors = [(mp.polyval(coefficients[::-1], x) - f(x)) * weight(x) for x in grid]
        found = alternating(grid, errors)
        if len(found) < degree + 2:
            break
        points = found[: degree + 2]
    return coefficients, max(abs(e) for e in errors)


def alternating(grid, errors):
    """Return the extrema of the error, one for each change of its sign."""
    best = []
    for x, e in zip(grid, errors, strict=True):
        if best and best[-1][1] * e > 0:
            best[-1] = max(best[-1], (x, e), key=lambda pair: abs(pair[1]))
        else:
            best.append((x, e))
    return [x for x, _ in best]


def log_ratio(f):
    """Return -2 ln(1 + f)/f."""
    return -2 * mp.log(1 + f) / f if f else mp.mpf(-2)


def sine_ratio(w):
    """Return -sin(2 pi x)/x for w = x^2."""
    x = mp.sqrt(w)
    return -mp.sin(2 * mp.pi * x) / x if w else -2 * mp.pi


def root_ratio(e):
    """Return (1 - e)^(-1/2)."""
    return 1 / mp.sqrt(1 - e)


def main():
    """Print all series."""
    mp.mp.dps = 60
    half, edge = mp.mpf(1) / 2, mp.mpf("0.0682")
    for name, f, low, high, degrees in (
        ("-2 ln(1 + f)/f on [-1/2, 0]", log_ratio, -half, mp.mpf(0), (8, 19)),
        ("-sin(2 pi x)/x in x^2 on [-1/4, 1/4]", sine_ratio, mp.mpf(0), half**4, (4, 8)),
        ("(1 - e)^(-1/2) on [-0.0682, 0.0682]", root_ratio, -edge, edge, (4,)),
    ):
        for degree in degrees:
            coefficients, error = minimax(f, low, high, degree, lambda x, f=f: 1 / f(x))
            print(f"{name}, degree {degree}, relative error {mp.nstr(error, 3)}")
            for c in coefficients:
                print("   ", mp.nstr(c, 20))


if __name__ == "__main__":
    main()
