// Nonlinear truncated-Wigner shots of S1: N atoms in sin^2 trap and probe, spins, one cavity mode.
//
// Every atom has (Z, P) with [Z, P] = 2i and a spin (x, y, z) of length near 2.  Per hbar,
//   H = sum_i [ w_ref P^2/4 + w^2/(4 w_ref) T(Z) + omega_s f_x + |a|^2 (G0 + G1 f_z) u(Z) ]
//   T = sin^2(eta_t Z)/eta_t^2  (Z^2 if harmonic),   u = -sin(2 eta Z)/2 + 1/2  (1/2 - eta Z if flat)
//   a' = (-kappa + i (Delta - D)) a + E + sqrt(2 kappa) xi,   D = sum_i (G0 + G1 f_z) u - N G0/2
// One thread takes one shot.  Built and called by detuning_atoms.py.
#include <cmath>
#include <cstdint>
#include <vector>

namespace {
struct Random {  // xoshiro256++, seeded by splitmix64
  uint64_t s[4];
  double spare = 0;
  bool has = false;
  explicit Random(uint64_t seed) {
    for (auto& v : s) {
      uint64_t z = (seed += 0x9e3779b97f4a7c15ull);
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
      v = z ^ (z >> 31);
    }
  }
  uint64_t next() {
    auto rot = [](uint64_t x, int k) { return (x << k) | (x >> (64 - k)); };
    uint64_t r = rot(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0]; s[3] ^= s[1]; s[1] ^= s[2]; s[0] ^= s[3]; s[2] ^= t; s[3] = rot(s[3], 45);
    return r;
  }
  double normal() {
    if (has) { has = false; return spare; }
    double u = ((next() >> 11) + 0.5) * 0x1p-53, v = (next() >> 11) * 0x1p-53;
    double r = std::sqrt(-2 * std::log(u)), a = 6.283185307179586 * v;
    spare = r * std::sin(a); has = true;
    return r * std::cos(a);
  }
};
// sin and cos by polynomials within a turn, to 5e-4 at its ends and 1e-6 for |x| < 2; an atom that is
// hotter than the trap is deep leaves its well.
inline float turn(float x) { return x - 6.2831853f * std::nearbyint(x * 0.15915494f); }
inline float sine(float x) {
  x = turn(x);
  float y = x * x;
  return x * (1 + y * (-1 / 6.f + y * (1 / 120.f + y * (-1 / 5040.f + y * (1 / 362880.f - y / 39916800.f)))));
}
inline float cosine(float x) {
  x = turn(x);
  float y = x * x;
  return 1 + y * (-.5f + y * (1 / 24.f + y * (-1 / 720.f + y * (1 / 40320.f + y * (-1 / 3628800.f + y / 479001600.f)))));
}
}  // namespace

extern "C" {
struct Model {
  int32_t atoms, flat, softens, harmonic, n_samples, per;  // per: steps in a sample
  double h, w_ref, eta, eta_t, G0, G1, omega_s, kappa, sigma_m, sigma_s, gamma, n_bath;
  double n_atom, n_m0, n_s0, length;    // length: f_x of an atom at the start; var f_y = length/2
  double mean_u;                        // of the cloud, subtracted from D: u of the start
};
// w, drive, delta: trap (rad/s), |E| (1/s) and Delta (rad/s) of every step.  out: (shots, 8, samples):
// D and photons averaged over the sample; at its end f_x and (Z^2 + P^2)/4 of the mean atom, and the
// collective Z_m, P_m, f_y and f_z, each a sum over sqrt(atoms).
void shots(const Model* m, const double* w, const double* drive, const double* delta, int64_t first,
           int32_t n_shots, uint64_t seed, float* out) {
#pragma omp parallel for schedule(dynamic)
  for (int32_t k = 0; k < n_shots; ++k) {
    Random rng(seed * 1000003ull + uint64_t(first + k));
    int n = m->atoms;
    std::vector<float> Z(n), P(n), X(n), Y(n), S(n);
    double root = std::sqrt(double(n));
    double extra = std::sqrt(std::fmax(2 * (m->n_m0 - m->n_atom), 0.0)) / root;
    double tilt = std::sqrt(2 * m->n_s0) * std::sqrt(m->length / 2) / root;
    double cz = extra * rng.normal(), cp = extra * rng.normal();
    double sy = tilt * rng.normal(), sz = tilt * rng.normal();
    double sd = std::sqrt(2 * m->n_atom + 1), ss = std::sqrt(m->length / 2);
    for (int i = 0; i < n; ++i) {
      // Z belongs to w_ref, the cloud to the trap at its start.
      double squeeze = std::sqrt(m->w_ref / w[0]);
      Z[i] = float((sd * rng.normal() + cz) * squeeze);
      P[i] = float((sd * rng.normal() + cp) / squeeze);
      X[i] = float(m->length);
      Y[i] = float(ss * rng.normal() + sy);
      S[i] = float(ss * rng.normal() + sz);
    }
    double jm = 1 + m->sigma_m / w[0] * rng.normal(), js = m->omega_s + m->sigma_s * rng.normal();
    double h = m->h, ar = drive[0] / std::hypot(m->kappa, delta[0]), ai = 0;
    double keep = std::exp(-m->kappa * h), kick = std::sqrt((1 - keep * keep) / 4);
    float cs = float(std::cos(js * h)), sn = float(std::sin(js * h));
    double fade = std::exp(-m->gamma * h * m->per / 2), pull_back = 1;
    double heat = std::sqrt((1 - fade * fade) * (2 * m->n_bath + 1));
    float* o = out + int64_t(k) * 8 * m->n_samples;
    int64_t step = 0;
    for (int t = 0; t < m->n_samples; ++t) {
      double sums[2] = {0, 0};
      for (int r = 0; r < m->per; ++r, ++step) {
        float drift = float(m->w_ref * h), wt = float(w[step] * jm);
        float force = float(-double(wt) * wt * pull_back / m->w_ref * h), g0 = float(m->G0), g1 = float(m->G1);
        float photons = float(ar * ar + ai * ai - 0.5), eta = float(m->eta), et = float(m->eta_t);
        float push = float(2 * eta * photons * h), lit = float(photons * h);
        float shift = 0, base = float(m->mean_u);
        bool flat = m->flat, soft = !m->harmonic;
#pragma omp simd reduction(+ : shift)
        for (int i = 0; i < n; ++i) {
          float z = Z[i] + 0.5f * drift * P[i];  // drift, kick, drift
          float c = flat ? 1.f : cosine(2 * eta * z);
          float u = flat ? .5f - eta * z : .5f - .5f * sine(2 * eta * z);
          float pull = soft ? sine(2 * et * z) / (2 * et) : z;
          // Spin: half a Larmor turn, the light's turn about z, half again; coefficients of a whole turn.
          float a = lit * g1 * u, x = X[i] - a * Y[i], y = Y[i] + a * x;
          float p = P[i] + force * pull + push * (g0 + g1 * S[i]) * c;
          shift += (g0 + g1 * S[i]) * u - g0 * base;
          Z[i] = z + 0.5f * drift * p;
          P[i] = p;
          X[i] = x;
          Y[i] = cs * y - sn * S[i];
          S[i] = sn * y + cs * S[i];
        }
        // Cavity: exact for the D and drive of this step.
        double d = delta[step] - shift, c = std::cos(d * h) * keep, s = std::sin(d * h) * keep;
        double e = drive[step], q = e / (m->kappa * m->kappa + d * d), fr = q * m->kappa, fi = q * d;
        double br = ar - fr, bi = ai - fi;
        ar = fr + c * br - s * bi + kick * rng.normal();
        ai = fi + s * br + c * bi + kick * rng.normal();
        sums[0] += shift;
        sums[1] += photons;
      }
      double fx = 0, energy = 0, zm = 0, pm = 0, fy = 0, fz = 0;
      for (int i = 0; i < n; ++i) {
        fx += X[i];
        energy += (double(Z[i]) * Z[i] + double(P[i]) * P[i]) / 4;
        zm += Z[i];
        pm += P[i];
        fy += Y[i];
        fz += S[i];
      }
      double row[8] = {sums[0] / m->per, sums[1] / m->per, fx / n, energy / n,
                       zm / root, pm / root, fy / root, fz / root};
      // The bath takes and gives centre-of-mass motion alone; a hotter cloud feels a softer trap.
      float dz = float(((fade - 1) * zm / root + heat * rng.normal()) / root);
      float dp = float(((fade - 1) * pm / root + heat * rng.normal()) / root);
      if (m->gamma > 0)
        for (int i = 0; i < n; ++i) { Z[i] += dz; P[i] += dp; }
      if (m->softens) pull_back = std::exp(-4 * m->eta_t * m->eta_t * (energy / n - m->n_atom - 0.5));
      for (int j = 0; j < 8; ++j) o[int64_t(j) * m->n_samples + t] = float(row[j]);
    }
  }
}
}
