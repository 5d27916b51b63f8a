"""Broad Balmer lines of the shapes that templates lack: displaced, double, boxy."""

import numpy as np
import numpy.typing as npt
from absorption import CENTRE, column
from templates import C_KMS, GRID_STEP, Array, Generator

Names = npt.NDArray[np.str_]

# Rest wavelength and equivalent width over that of H alpha; Mg II is broad with them.
BALMER = ((6564.6, 1.0), (4862.7, 0.28), (4341.7, 0.12), (4102.9, 0.06), (2799.1, 0.2))
# Shapes and how often each is drawn.
SHAPES = ("displaced", "double", "boxy", "shouldered", "narrow core")
SHARES = (0.2, 0.35, 0.15, 0.2, 0.1)
# A box is a row of this many Gaussians, and no shape needs more.
PARTS = 5

_HALF_BIN = 0.5 * GRID_STEP * np.log(10) * C_KMS


def _components(rng: Generator, shape: Names) -> tuple[Array, ...]:
    """Velocity, width (km/s) and share of the light of each part, ``(n, PARTS)``."""
    n = shape.size
    velocity = np.zeros((n, PARTS))
    width = np.repeat(rng.uniform(900, 2500, (n, 1)), PARTS, axis=1)
    light = np.zeros((n, PARTS))
    light[:, 0] = 1
    shift = rng.normal(0, 700, n)

    rows = shape == "displaced"
    sign = rng.choice([-1.0, 1.0], n)
    velocity[rows, 0] = (sign * rng.uniform(1500, 6000, n))[rows]
    width[rows] *= 1.3

    rows = shape == "double"
    apart = rng.uniform(1800, 8000, n)
    velocity[rows, 0] = (shift - apart)[rows]
    velocity[rows, 1] = (shift + apart * rng.uniform(0.7, 1.3, n))[rows]
    # The gap between the peaks shows where they are narrower than they are apart.
    width[rows] = (apart * rng.uniform(0.25, 0.6, n))[rows, None]
    light[rows, 1] = rng.uniform(0.4, 1.3, n)[rows]
    velocity[rows, 2] = shift[rows]
    light[rows, 2] = (rng.uniform(0, 0.8, n) * (rng.random(n) < 0.5))[rows]

    rows = shape == "boxy"
    half = rng.uniform(2500, 8000, (n, 1))
    velocity[rows] = (shift[:, None] + half * np.linspace(-1, 1, PARTS))[rows]
    width[rows] = (half * 0.3)[rows]
    light[rows] = 1

    rows = shape == "shouldered"
    velocity[rows, 0] = 0.3 * shift[rows]
    velocity[rows, 1] = (sign * rng.uniform(2500, 7000, n))[rows]
    light[rows, 1] = rng.uniform(0.3, 1.0, n)[rows]

    rows = shape == "narrow core"
    width[rows] = rng.uniform(300, 900, (n, 1))[rows]
    light /= light.sum(axis=1, keepdims=True)
    return tuple(part.astype(np.float32) for part in (velocity, width, light))


def broad_lines(rng: Generator, z: npt.ArrayLike, shape: Names | None = None) -> Array:
    """Draw what broad lines add to a continuum of 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the shapes.
    z : array_like, shape (n,)
        Redshifts.
    shape : ndarray of str, shape (n,), optional
        Which of `SHAPES`. By default they are drawn.

    Returns
    -------
    ndarray, shape (n, nbins), float32
    """
    zp1 = 1 + column(z)
    n = len(zp1)
    if shape is None:
        shape = rng.choice(SHAPES, n, p=SHARES)
    velocity, width, light = _components(rng, shape)
    width = np.hypot(width, _HALF_BIN)
    strength = np.exp(rng.normal(np.log(220), 0.5, n))
    strength[shape == "narrow core"] *= 0.4
    added = np.zeros((n, CENTRE.size), dtype=np.float32)
    for rest, ratio in BALMER:
        own = strength * ratio * np.exp(rng.normal(0, 0.25, n))
        # Mg II keeps its usual shape in most objects with odd Balmer lines.
        own *= 1 if rest != BALMER[-1][0] else rng.random(n) < 0.3
        speed = C_KMS * np.log(CENTRE / (rest * zp1))
        near = np.abs(speed) < 25_000
        for part in range(PARTS):
            some = light[:, part] > 0
            if not some.any():
                continue
            off = (speed[some] - velocity[some, part, None]) / width[some, part, None]
            sigma = width[some, part] * rest / C_KMS
            peak = own[some] * light[some, part] / (sigma * np.sqrt(2 * np.pi))
            added[some] += np.where(near[some], column(peak) * np.exp(-0.5 * off**2), 0)
    return added
