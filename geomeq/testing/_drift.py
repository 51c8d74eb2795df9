"""Is energy conserved? The drift of a trajectory at constant energy, against its kinetic energy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class NVEDrift:
    """What :func:`nve_drift` found. Ratios are to the mean kinetic energy of the run.

    Attributes:
        drift: Size of the linear trend of the total energy, from the first sample to the last: slope times duration.
        deviation: Largest distance of the total energy from its first value.
        fluctuation: Root mean square of what the trend leaves of the total energy.
        slope: Of the trend, in units of energy per unit of time, with its sign.
        kinetic: Mean kinetic energy, in units of energy.
        duration: From the first sample to the last, in units of time.
    """

    drift: float
    deviation: float
    fluctuation: float
    slope: float
    kinetic: float
    duration: float

    def __str__(self) -> str:
        return (
            f"drift {self.drift:.1e}, largest deviation {self.deviation:.1e}, fluctuation {self.fluctuation:.1e} "
            f"of the kinetic energy ({self.kinetic:.3g})"
        )


def nve_drift(time: Any, total: Any, kinetic: Any) -> NVEDrift:
    r"""Measures how well a trajectory in the microcanonical ensemble (NVE) conserves its total energy.

    .. math:: \text{drift} = \frac{|b|\,(t_K - t_1)}{\langle E_\text{kin} \rangle}, \qquad
        E_\text{tot}(t) \approx a + b\,t \text{ by least squares}

    A symplectic integrator lets the total energy swing with the motion of the atoms, the less the smaller its step,
    but gives it no trend while forces are the gradient of an energy. So the trend judges the forces, and the swing
    (``fluctuation``, ``deviation``) the step.

    Args:
        time: Of each sample, growing, in any unit, ``[K]``.
        total: Total energy of each sample, ``[K]``: in float64, since in float32 the energy of a molecule is rounded to
            more than it drifts.
        kinetic: Kinetic energy of each sample, same unit, ``[K]``.

    Returns:
        The drift and what belongs to it. A trajectory that blew up (NaN or infinity) has an infinite drift.

    Raises:
        ValueError: If there are fewer than three samples, lengths differ, time does not grow, or kinetic energies are
            negative or all zero.

    Example:
        >>> time = torch.linspace(0, 5, 101, dtype=torch.float64)
        >>> kinetic = 1 + 0.5 * torch.sin(20 * time)
        >>> print(nve_drift(time, 7 - 0.002 * time, kinetic))
        drift 1.0e-02, largest deviation 1.0e-02, fluctuation ... of the kinetic energy (0.999)
    """
    t, e, k = (_series(name, values) for name, values in (("time", time), ("total", total), ("kinetic", kinetic)))
    if not t.size == e.size == k.size:
        raise ValueError(f"time, total and kinetic must be equally long, got {t.size}, {e.size} and {k.size}")
    if t.size < 3:
        raise ValueError(f"a trend needs at least 3 samples, got {t.size}")
    if not (np.isfinite(t).all() and (np.diff(t) > 0).all()):
        raise ValueError("time must grow from sample to sample")
    if (k < 0).any() or not (k > 0).any():
        raise ValueError("kinetic energies must not be negative, nor all zero: there is nothing to compare with")
    duration = float(t[-1] - t[0])
    if not (np.isfinite(e).all() and np.isfinite(k).all()):
        return NVEDrift(np.inf, np.inf, np.inf, np.nan, float(np.nanmean(k)), duration)
    own, centred = e - e.mean(), t - t.mean()
    slope = float(centred @ own / (centred @ centred))
    mean = float(k.mean())
    left = own - slope * centred
    return NVEDrift(
        drift=abs(slope) * duration / mean,
        deviation=float(np.abs(e - e[0]).max()) / mean,
        fluctuation=float(np.sqrt(np.mean(left**2))) / mean,
        slope=slope,
        kinetic=mean,
        duration=duration,
    )


def _series(name: str, values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().double().cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one number for each sample, [K], got {list(array.shape)}")
    return array
