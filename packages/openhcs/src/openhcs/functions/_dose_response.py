"""How a response changes with dose: its trend, and the four-parameter logistic curve through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from openhcs.functions._plate_statistics import Trend

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DoseResponse", "DoseVerdict", "dose_response"]

_FEWEST_DOSES = 4
_BEYOND = 10.0
"""How far from the tested doses a half-maximal dose is looked for, as a factor."""
_HILL = (0.1, 10.0)
_OVERSHOOT = 10.0
"""How far beyond the responses the two levels may lie, in ranges of the responses."""
_SURE = 0.05
"""Greatest probability with which a curve that is believed could be chance."""
_TRIED_DOSES, _TRIED_SLOPES = 25, 9


class DoseVerdict(StrEnum):
    """Whether the curve may be believed."""

    FITTED = "fitted"
    """It explains the responses, and its half-maximal dose lies within the doses tested."""
    OUTSIDE = "outside"
    """It explains them, but half of the effect is reached outside the doses tested."""
    FLAT = "flat"
    """It explains no more than a constant would by chance."""
    TOO_FEW = "too-few"
    """Fewer than four doses, or no more responses than parameters."""
    FAILED = "failed"
    """The fit did not converge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseResponse:
    """What `dose_response` gives.

    Attributes
    ----------
    trend
        Spearman's rank correlation of response and dose.
    verdict
        Only with ``fitted`` the curve may be believed as a whole.
    low, high
        Responses without any dose and with an infinite one, in the units of the response; NaN, as
        all that follow, where there is no curve.
    half_dose_um
        Dose of half the effect, µmol/l.
    half_dose_interval_um
        Its 95 % confidence interval, as far as the fit is linear in its logarithm.
    hill
        Steepness, 0.1 to 10.
    r_squared
        Share of the responses' variance that the curve explains.
    p
        Probability that a constant response would be explained as well (F test).
    """

    trend: Trend
    verdict: DoseVerdict
    low: float = math.nan
    high: float = math.nan
    half_dose_um: float = math.nan
    half_dose_interval_um: tuple[float, float] = (math.nan, math.nan)
    hill: float = math.nan
    r_squared: float = math.nan
    p: float = math.nan

    def at(self, dose_um: ArrayLike) -> NDArray[np.float64]:
        """Give the response of the curve to doses in µmol/l, any shape; NaN without a curve."""
        doses = np.asarray(dose_um, np.float64)
        parameters = np.array([self.low, self.high, math.log(self.half_dose_um), self.hill])
        return _curve(parameters, doses)


def dose_response(dose_um: ArrayLike, response: ArrayLike) -> DoseResponse:
    """Fit a curve to the responses to one compound, and say whether to believe it.

    Parameters
    ----------
    dose_um
        µmol/l of each well, 0 or more; shape (wells,). Wells with dose 0 count as not treated.
        NaN is left out.
    response
        One value per well, in the units of the feature; shape (wells,). NaN is left out.

    Raises
    ------
    ValueError
        If the shapes differ or are not one-dimensional, or a dose is below 0.

    Notes
    -----
    ``low + (high - low) / (1 + (half / dose) ** hill)`` by least squares with bounds: half between
    a tenth of the lowest dose and ten times the highest; low and high ten ranges beyond the
    responses; trust region reflective (Branch, Coleman & Li, SIAM J. Sci. Comput. 21 (1999) 1-23)
    from the best of 225 half doses and slopes. Falling responses have high below low. A few ms.
    """
    doses, values = (np.asarray(each, np.float64) for each in (dose_um, response))
    if doses.ndim != 1 or doses.shape != values.shape:
        raise ValueError(
            f"doses and responses have one value per well; these have shapes {doses.shape} and "
            f"{values.shape}"
        )
    known = np.isfinite(doses) & np.isfinite(values)
    doses, values = doses[known], values[known]
    if np.any(doses < 0):
        raise ValueError(f"a dose is {doses.min():g} µmol/l; doses are 0 or more")
    trend = _rank_trend(doses, values)
    distinct = np.unique(doses[doses > 0])
    if distinct.size < _FEWEST_DOSES or values.size <= 4:
        return DoseResponse(trend=trend, verdict=DoseVerdict.TOO_FEW)
    spread = float(np.ptp(values))
    if spread <= 1e-12 * float(np.abs(values).max()):
        return DoseResponse(trend=trend, verdict=DoseVerdict.FLAT)
    fit = _fitted(doses, values, distinct)
    if fit is None:
        return DoseResponse(trend=trend, verdict=DoseVerdict.FAILED)
    return _judged(trend, fit, values, distinct)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Low, high, logarithm of the half dose and Hill's slope; derivatives and misfit there."""

    parameters: NDArray[np.float64]
    slopes: NDArray[np.float64]
    misfit: float


def _curve(parameters: NDArray[np.float64], doses: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high, half, hill = parameters
    with np.errstate(divide="ignore", over="ignore"):
        steps = 1 / (1 + np.exp(hill * (half - np.log(doses))))
    return np.asarray(low + (high - low) * steps)


def _fitted(
    doses: NDArray[np.float64], values: NDArray[np.float64], distinct: NDArray[np.float64]
) -> _Fit | None:
    from scipy.optimize import least_squares

    least, most = float(values.min()), float(values.max())
    beyond = _OVERSHOOT * (most - least)
    first, last = (math.log(float(distinct[n])) for n in (0, -1))
    away = math.log(_BEYOND)
    lower = np.array([least - beyond, least - beyond, first - away, _HILL[0]])
    upper = np.array([most + beyond, most + beyond, last + away, _HILL[1]])

    def misfits(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return _curve(parameters, doses) - values

    def slopes(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return _slopes(parameters, doses)

    found = least_squares(
        misfits,
        np.clip(_start(doses, values, first - away, last + away), lower, upper),
        jac=slopes,
        bounds=(lower, upper),
        x_scale=[most - least, most - least, 1.0, 1.0],
        ftol=1e-10,
        xtol=1e-10,
        gtol=1e-10,
    )
    if not found.success:
        return None
    return _Fit(np.asarray(found.x), np.asarray(found.jac), 2 * float(found.cost))


def _start(
    doses: NDArray[np.float64], values: NDArray[np.float64], first: float, last: float
) -> NDArray[np.float64]:
    """Try half doses and slopes; low and high that fit best follow from each of them."""
    tried = [
        (half, hill)
        for half in np.linspace(first, last, _TRIED_DOSES)
        for hill in np.geomspace(_HILL[0], _HILL[1], _TRIED_SLOPES)
    ]
    steps = np.array([_curve(np.array([0.0, 1.0, *each]), doses) for each in tried])
    middle = values.mean()
    centred = steps - steps.mean(axis=1, keepdims=True)
    spread = np.square(centred).sum(axis=1)
    effects = np.divide(
        centred @ (values - middle), spread, out=np.zeros_like(spread), where=spread > 1e-9
    )
    best = int(np.argmax(np.square(effects) * spread))
    low = middle - effects[best] * steps[best].mean()
    return np.array([low, low + effects[best], *tried[best]])


def _slopes(parameters: NDArray[np.float64], doses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the derivative of the curve by each parameter, shape (wells, 4)."""
    low, high, half, hill = parameters
    steps = _curve(np.array([0.0, 1.0, half, hill]), doses)
    turn = steps * (1 - steps) * (high - low)
    beyond = np.where(doses > 0, np.log(np.where(doses > 0, doses, 1.0)) - half, 0.0)
    return np.stack([1 - steps, steps, -turn * hill, turn * beyond], axis=1)


def _judged(
    trend: Trend,
    fit: _Fit,
    values: NDArray[np.float64],
    distinct: NDArray[np.float64],
) -> DoseResponse:
    from scipy import stats

    free = values.size - 4
    total = float(np.sum(np.square(values - values.mean())))
    explained = max(total - fit.misfit, 0.0)
    exact = fit.misfit <= 1e-20 * total
    p = 0.0 if exact else float(stats.f.sf(explained / 3 / (fit.misfit / free), 3, free))
    low, high, half, hill = (float(value) for value in fit.parameters)
    # The variance of the logarithm of the half dose, from the curvature of the misfit.
    curvature = fit.slopes.T @ fit.slopes
    variance = float(np.linalg.pinv(curvature, hermitian=True)[2, 2]) * fit.misfit / free
    reach = float(stats.t.ppf(0.975, free)) * math.sqrt(max(variance, 0.0))
    with np.errstate(over="ignore"):
        interval = (float(np.exp(half - reach)), float(np.exp(half + reach)))
    if p > _SURE:
        verdict = DoseVerdict.FLAT
    elif not distinct[0] <= math.exp(half) <= distinct[-1]:
        verdict = DoseVerdict.OUTSIDE
    else:
        verdict = DoseVerdict.FITTED
    return DoseResponse(
        trend=trend,
        verdict=verdict,
        low=low,
        high=high,
        half_dose_um=math.exp(half),
        half_dose_interval_um=interval,
        hill=hill,
        r_squared=explained / total,
        p=p,
    )


def _rank_trend(doses: NDArray[np.float64], values: NDArray[np.float64]) -> Trend:
    from scipy import stats

    if min(np.unique(doses).size, np.unique(values).size) < 2 or values.size < 3:
        return Trend(math.nan, math.nan)
    found = stats.spearmanr(doses, values)
    return Trend(float(found.statistic), float(found.pvalue))
