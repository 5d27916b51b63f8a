"""Give the thresholds 0.5 and 0.8 a meaning, after the training."""

import numpy as np
import torch
from ensemble import KINDS, Ensemble
from noise import draw_snr, normalise, observe
from templates import Array, Generator
from world import World

from qnp_xp._train._network import QuasarNet, run

# The confidence above which the network calls an object a quasar.
C_THRESH = 0.8
# Share of objects that are no quasars which may reach a confidence of 0.5 and of that.
LINE_RATES = (0.03, 0.003)
# The same of quasars without broad absorption where it would be seen.
BAL_RATES = (0.031, 0.0027)
LOGITS = (0.0, float(np.log(C_THRESH / (1 - C_THRESH))))


def _straight(values: Array, rates: tuple[float, float]) -> tuple[float, float]:
    """Slope and zero of the line that gives the thresholds these rates."""
    low, high = np.quantile(values, [1 - rate for rate in rates])
    return float((LOGITS[1] - LOGITS[0]) / (high - low)), float(low)


def calibrate(
    model: QuasarNet, world: World, objects: Ensemble, rng: Generator, zmin: float
) -> None:
    """Stretch and shift what the sigmoids of the boxes get.

    The order of spectra and lines stays as it is; all line heads get the same change.

    Parameters
    ----------
    model : QuasarNet
        Changed in place.
    world : World
        For the noise.
    objects : Ensemble
        Simulations that were not trained on.
    rng : numpy.random.Generator
        Source of the noise.
    zmin : float
        Redshift above which broad absorption would be seen.
    """
    snr = draw_snr(rng, objects.kind, KINDS.index("SKY"))
    spectra = normalise(*observe(rng, objects.flux, world.shapes, snr))
    nlines = model.layout.nlines
    best = run(model, spectra)[:, :, 0].numpy().max(axis=2)
    others = best[objects.kind != 0, :nlines].max(axis=1)
    plain = best[(objects.z > zmin) & ~objects.bal, nlines:].max(axis=1)
    heads = model.heads
    shape = (best.shape[1], 2, -1)
    with torch.no_grad():
        weight = heads.weight.view(*shape, heads.in_features)
        bias = heads.bias.view(shape)
        for values, rates, which in (
            (others, LINE_RATES, slice(nlines)),
            (plain, BAL_RATES, slice(nlines, None)),
        ):
            slope, zero = _straight(values, rates)
            weight[which, 0] *= slope
            bias[which, 0] = slope * (bias[which, 0] - zero)
            print(f"confidences: logits less {zero:.3f}, times {slope:.3f}")
