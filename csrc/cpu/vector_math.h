// Functions of vectors, to a few units in the last place of float32. NaN stays NaN.
#pragma once

#include "cpu/simd.h"

namespace basinvol {
namespace cpu {
namespace BASINVOL_ISA {

inline Float relu(Float x) { return select(x < Float{}, Float{}, x); }  // keeps NaN, as torch does

inline Float smaller(Float a, Float b) { return select(b < a, b, a); }
inline Float larger(Float a, Float b) { return select(a < b, b, a); }

inline Float power_of_two(Float n) { return (Float)((__builtin_convertvector(n, Int) + 127) << 23); }

// p with exp(x) = p 2^n for |x| below 89, relative error 1e-7.
inline Float exp_parts(Float x, Float& n) {
  n = nearest(x * 1.44269504f);
  const Float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Float p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * r * r + r + 1.0f;
}

// exp(x); 0 below -87, infinite above 88.72.
inline Float exp_all(Float x) {
  const Int vanishes = x < -87.0f, overflows = x > 88.7228394f, is_nan = x != x;
  Float n;
  const Float p = exp_parts(select(vanishes | is_nan, Float{}, smaller(x, all(88.7228394f))), n);
  const Float half = nearest(n * 0.5f);  // in two steps: 2^128 alone is infinite
  Float y = p * power_of_two(half) * power_of_two(n - half);
  y = select(vanishes, Float{}, y);
  y = select(overflows, all(__builtin_inff()), y);
  return select(is_nan, x, y);
}

// A quotient of polynomials in x^2; the fit is that of Eigen's ptanh (Jacob and Guennebaud), to 3e-7.
inline Float tanh_all(Float x) {
  const Float given = x;
  x = larger(smaller(x, all(7.90531110763549805f)), all(-7.90531110763549805f));
  const Float z = x * x;
  Float p = all(-2.76076847742355e-16f);
  p = p * z + 2.00018790482477e-13f;
  p = p * z + -8.60467152213735e-11f;
  p = p * z + 5.12229709037114e-08f;
  p = p * z + 1.48572235717979e-05f;
  p = p * z + 6.37261928875436e-04f;
  p = p * z + 4.89352455891786e-03f;
  Float q = all(1.19825839466702e-06f);
  q = q * z + 1.18534705686654e-04f;
  q = q * z + 2.26843463243900e-03f;
  q = q * z + 4.89352518554385e-03f;
  return select(given != given, given, x * p / q);
}

// The same for the error function.
inline Float erf_all(Float x) {
  const Float given = x;
  x = larger(smaller(x, all(4.0f)), all(-4.0f));
  const Float z = x * x;
  Float p = all(-2.72614225801306e-10f);
  p = p * z + 2.77068142495902e-08f;
  p = p * z + -2.10102402082508e-06f;
  p = p * z + -5.69250639462346e-05f;
  p = p * z + -7.34990630326855e-04f;
  p = p * z + -2.95459980854025e-03f;
  p = p * z + -1.60960333262415e-02f;
  Float q = all(-1.45660718464996e-05f);
  q = q * z + -2.13374055278905e-04f;
  q = q * z + -1.68282697438203e-03f;
  q = q * z + -7.37332916720468e-03f;
  q = q * z + -1.42647390514189e-02f;
  return select(given != given, given, x * p / q);
}

inline Float sigmoid(Float x) { return 1.0f / (1.0f + exp_all(-x)); }

}  // namespace BASINVOL_ISA
}  // namespace cpu
}  // namespace basinvol
