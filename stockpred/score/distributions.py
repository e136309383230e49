"""Predictive distributions of simple returns, M at a time, and their proper scores.

Shape suffixes: M forecasts, Q support points or levels, K knots of a density. Scores are those of one outcome
for each forecast: CRPS in the unit of the return, log density in nats per unit of return. A NaN in a forecast
gives NaN scores in its row. A normal and a Student-t give returns below -1 a chance, which for the returns of
a bar is less than any score notices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np

from stockpred.data.arrays import Bools, Floats, Ints
from stockpred.score import metrics

NUM_SUPPORT_POINTS = 1001
TAIL_EXPONENT = 4.0  # of a density of returns far out: the "cubic law" of Gopikrishnan et al. (1999)
_STEPS_PER_POINT = 2
_WIDTH_OF_T3 = 0.618  # that smooths as much as a normal kernel of width 1 (Marron and Nolan 1988)
_MIN_BANDWIDTH = 1e-3  # of a shape without spread, in units of the scale


class Distribution(Protocol):
    """M forecasts of one return each."""

    def mean(self) -> Floats: ...

    def quantiles(self, levels: Sequence[float]) -> Floats:
        """Return the quantile at each level, [M, Q]."""
        ...

    def crps(self, outcome_M: Floats) -> Floats: ...

    def log_density(self, outcome_M: Floats) -> Floats | None:
        """Return the log score, higher is better; None for a distribution without a density."""
        ...

    def pit(self, outcome_M: Floats) -> Floats:
        """Return the probability below the outcome, counting half of an atom that it hits."""
        ...

    def at(self, rows: Ints | Bools) -> Self:
        """Return the forecasts of some rows."""
        ...


@dataclass(frozen=True, eq=False)
class PointMass:
    """The one value that will be, for sure; its CRPS is the absolute error."""

    value: Floats

    def mean(self) -> Floats:
        return self.value

    def quantiles(self, levels: Sequence[float]) -> Floats:
        return np.repeat(self.value[:, None], len(levels), axis=1)

    def crps(self, outcome_M: Floats) -> Floats:
        return np.abs(outcome_M - self.value)

    def log_density(self, outcome_M: Floats) -> None:
        """Return None: a point has no density."""

    def pit(self, outcome_M: Floats) -> Floats:
        return np.asarray(np.heaviside(outcome_M - self.value, 0.5))

    def at(self, rows: Ints | Bools) -> Self:
        return type(self)(self.value[rows])


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal distributions of mean and standard deviation [M]."""

    location: Floats
    deviation: Floats

    @classmethod
    def around_zero(cls, deviation: Floats) -> Self:
        return cls(np.zeros_like(deviation), deviation)

    def mean(self) -> Floats:
        return self.location

    def quantiles(self, levels: Sequence[float]) -> Floats:
        from scipy.special import ndtri  # here and below: only a test needs it, so a start does not pay

        z_Q = np.asarray(ndtri(np.asarray(levels, np.float64)))
        return np.asarray(self.location[:, None] + self.deviation[:, None] * z_Q)

    def crps(self, outcome_M: Floats) -> Floats:
        return metrics.crps_normal(self.location, self.deviation, outcome_M)

    def log_density(self, outcome_M: Floats) -> Floats:
        z_M = (outcome_M - self.location) / self.deviation
        return np.asarray(-0.5 * z_M * z_M - np.log(self.deviation) - 0.5 * math.log(2.0 * math.pi))

    def pit(self, outcome_M: Floats) -> Floats:
        return metrics.normal_cdf((outcome_M - self.location) / self.deviation)

    def at(self, rows: Ints | Bools) -> Self:
        return type(self)(self.location[rows], self.deviation[rows])


@dataclass(frozen=True, eq=False)
class StudentT:
    """Student-t distributions with ``degrees`` of freedom above 1, location and scale, [M] each.

    The standard deviation is scale sqrt(degrees / (degrees - 2)) where degrees are above 2.
    """

    degrees: Floats
    location: Floats
    scale: Floats

    @classmethod
    def around_zero(cls, degrees: float | Floats, scale: Floats) -> Self:
        return cls(np.broadcast_to(np.asarray(degrees, np.float64), scale.shape), np.zeros_like(scale), scale)

    def mean(self) -> Floats:
        return self.location

    def quantiles(self, levels: Sequence[float]) -> Floats:
        from scipy.special import stdtrit

        degrees_U, place_M = np.unique(
            self.degrees, return_inverse=True
        )  # the inverse is slow, and few differ
        z_UQ = np.asarray(stdtrit(degrees_U[:, None], np.asarray(levels, np.float64)))
        return np.asarray(self.location[:, None] + self.scale[:, None] * z_UQ[place_M])

    def crps(self, outcome_M: Floats) -> Floats:
        """Return the closed form of Jordan, Krueger and Lerch (2019, appendix A)."""
        from scipy.special import betaln

        nu = self.degrees
        z_M = self._z(outcome_M)
        density_M = np.exp(self._standard_log_density(z_M))
        beta_ratio = np.exp(betaln(0.5, nu - 0.5) - 2.0 * betaln(0.5, 0.5 * nu))
        centre_M = z_M * (2.0 * self._standard_cdf(z_M) - 1.0) + 2.0 * density_M * (nu + z_M**2) / (nu - 1.0)
        return np.asarray(self.scale * (centre_M - 2.0 * np.sqrt(nu) / (nu - 1.0) * beta_ratio))

    def log_density(self, outcome_M: Floats) -> Floats:
        return self._standard_log_density(self._z(outcome_M)) - np.log(self.scale)

    def pit(self, outcome_M: Floats) -> Floats:
        return self._standard_cdf(self._z(outcome_M))

    def at(self, rows: Ints | Bools) -> Self:
        return type(self)(self.degrees[rows], self.location[rows], self.scale[rows])

    def _z(self, outcome_M: Floats) -> Floats:
        return (outcome_M - self.location) / self.scale

    def _standard_cdf(self, z_M: Floats) -> Floats:
        from scipy.special import stdtr

        return np.asarray(stdtr(self.degrees, z_M))

    def _standard_log_density(self, z_M: Floats) -> Floats:
        from scipy.special import betaln

        nu = self.degrees
        log_norm = -betaln(0.5, 0.5 * nu) - 0.5 * np.log(nu)
        return np.asarray(log_norm - 0.5 * (nu + 1.0) * np.log1p(z_M**2 / nu))


@dataclass(frozen=True, eq=False)
class Density:
    """A density that integrates to 1: log-linear between the knots, a power of the distance beyond them.

    The tails fall with the power ``TAIL_EXPONENT``, on either side over the length ``reach``.
    """

    knots_K: Floats
    log_density_K: Floats
    reach: float

    @classmethod
    def of(cls, support_Q: Floats) -> Density:
        """Smooth equally likely points by adaptive kernels.

        Kernels as wide as Silverman (1986, eq. 3.31) advises, each then widened or narrowed by the square
        root of the density there (Abramson 1982), so that sparse tails are smoother than the centre.
        """
        bandwidth = max(_silverman(support_Q), _MIN_BANDWIDTH)
        pilot_Q = _kernel_density(support_Q, support_Q, np.full(len(support_Q), bandwidth))
        bandwidth_Q = bandwidth * np.sqrt(np.exp(np.mean(np.log(pilot_Q))) / pilot_Q)
        knots_K = _knots(support_Q, bandwidth_Q)
        log_density_K = np.log(_kernel_density(knots_K, support_Q, bandwidth_Q))
        reach = 0.5 * float(knots_K[-1] - knots_K[0])
        mass = _mass(knots_K, log_density_K, reach)
        return cls(knots_K, log_density_K - math.log(mass), reach)

    def log_at(self, z_M: Floats) -> Floats:
        beyond_M = np.maximum(self.knots_K[0] - z_M, 0.0) + np.maximum(z_M - self.knots_K[-1], 0.0)
        inside_M = np.interp(z_M, self.knots_K, self.log_density_K)
        return np.asarray(inside_M - TAIL_EXPONENT * np.log1p(beyond_M / self.reach))


@dataclass(frozen=True, eq=False)
class Shape:
    """One distribution in units of a scale: Q equally likely points, and a smooth density of them."""

    support_Q: Floats

    @classmethod
    def of(cls, sample: Floats) -> Shape:
        """Take the shape of a sample, by its quantiles."""
        levels_Q = (np.arange(NUM_SUPPORT_POINTS) + 0.5) / NUM_SUPPORT_POINTS
        return cls(np.asarray(np.quantile(sample, levels_Q), np.float64))

    @cached_property
    def density(self) -> Density:
        return Density.of(self.support_Q)

    @property
    def weights_Q(self) -> Floats:
        return np.full(len(self.support_Q), 1.0 / len(self.support_Q))


@dataclass(frozen=True, eq=False)
class ScaledShape:
    """One shape times the scales [M] of the forecasts.

    CRPS, quantiles and probabilities are exactly those of the shape's points; the log score is that of its
    smooth density.
    """

    shape: Shape
    scale: Floats

    def mean(self) -> Floats:
        return self.scale * float(self.shape.support_Q.mean())

    def quantiles(self, levels: Sequence[float]) -> Floats:
        cumulative_Q = np.cumsum(self.shape.weights_Q)[None]
        z_Q = metrics.quantiles_discrete(cumulative_Q, self.shape.support_Q, levels)[0]
        return np.asarray(self.scale[:, None] * z_Q)

    def crps(self, outcome_M: Floats) -> Floats:
        score_M = metrics.crps_fixed(self.shape.weights_Q, self.shape.support_Q, outcome_M / self.scale)
        return self.scale * score_M

    def log_density(self, outcome_M: Floats) -> Floats:
        return np.asarray(self.shape.density.log_at(outcome_M / self.scale) - np.log(self.scale))

    def pit(self, outcome_M: Floats) -> Floats:
        z_M = outcome_M / self.scale
        pit_M = metrics.pit_fixed(self.shape.weights_Q, self.shape.support_Q, z_M)
        return np.where(np.isnan(z_M), np.nan, pit_M)

    def at(self, rows: Ints | Bools) -> Self:
        return type(self)(self.shape, self.scale[rows])


def _silverman(support_Q: Floats) -> float:
    lower, upper = np.quantile(support_Q, (0.25, 0.75))
    spread = min(float(support_Q.std()), float(upper - lower) / 1.34)
    return 0.9 * spread * math.pow(len(support_Q), -0.2)


def _kernel_density(at_K: Floats, centre_Q: Floats, bandwidth_Q: Floats) -> Floats:
    """Return the mean of Student-t kernels with 3 degrees of freedom around the centres, [K].

    They fall off as slowly as returns do: a gap between two outliers is unlikely, not impossible.
    """
    width_Q = _WIDTH_OF_T3 * bandwidth_Q
    z_KQ = (at_K[:, None] - centre_Q) / width_Q
    norm_Q = 2.0 / (math.pi * math.sqrt(3.0) * len(centre_Q) * width_Q)
    core_KQ = 1.0 / (1.0 + z_KQ * z_KQ / 3.0)
    return np.asarray((core_KQ * core_KQ) @ norm_Q)


def _knots(support_Q: Floats, bandwidth_Q: Floats) -> Floats:
    """Return points as dense as the support, from one bandwidth below it to one above."""
    num = len(support_Q)
    ends = support_Q[0] - bandwidth_Q[0], support_Q[-1] + bandwidth_Q[-1]
    wide = np.r_[ends[0], support_Q, ends[1]]
    places = np.linspace(0.0, num + 1.0, _STEPS_PER_POINT * (num + 1) + 1)
    return np.unique(np.interp(places, np.arange(num + 2.0), wide))


def _mass(knots_K: Floats, log_density_K: Floats, reach: float) -> float:
    """Return the integral of the log-linear density between the knots and of both power tails."""
    rise = np.diff(log_density_K)
    is_level = np.abs(rise) < 1e-6
    mean_over_start = np.where(is_level, 1.0 + 0.5 * rise, np.expm1(rise) / np.where(is_level, 1.0, rise))
    inside = float(np.sum(np.exp(log_density_K[:-1]) * mean_over_start * np.diff(knots_K)))
    tails = math.exp(log_density_K[0]) + math.exp(log_density_K[-1])
    return inside + tails * reach / (TAIL_EXPONENT - 1.0)
