"""Make the demo network and the demo coadd that the package ships.

Simulates spectra from formulas, trains a small QuasarNET on them, writes
``demo-network.h5`` and ``demo-coadd.fits``, and prints how well one does on
held-out simulations and on the other::

    nice python training/make_demo.py
"""

import argparse
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

# Keras reads it once, when it is first imported.
os.environ["KERAS_BACKEND"] = "torch"

import demo_network
import keras
import numpy as np
import torch
from demo_coadd import TARGETS, simulate_coadd, write_coadd
from demo_instrument import (
    arm_wave,
    coarse_bins,
    noise_shapes,
    normalise,
    observe,
    rebin,
)
from demo_network import BAL_ZMIN, NLINES, Ensemble, predict, simulate
from demo_spectra import C_KMS, Array, Generator

SEED = 20240611
THRESHOLD = 0.5
# A redshift is right within this many times 1 + z.
CLOSE = 0.02
SNR_EDGES = (0.5, 1, 2, 4, 8, 16, 40)


def report_held_out(
    model: keras.Model, rng: Generator, objects: Ensemble, shapes: Array
) -> None:
    """Print recall and redshift errors by S/N, and false positives by kind.

    Parameters
    ----------
    model : keras.Model
        The network.
    rng : numpy.random.Generator
        Source of the noise.
    objects : Ensemble
        Spectra that the network was not trained on.
    shapes : ndarray, shape (m, 443), float32
        Inverse variances that it was not trained on.
    """
    n = len(objects.z)
    low, high = np.log(SNR_EDGES[0]), np.log(SNR_EDGES[-1])
    snr = np.exp(rng.uniform(low, high, n)).astype(np.float32)
    spectra = normalise(*observe(rng, objects.flux, shapes, snr))
    confidence, redshift = predict(model, spectra)
    best = confidence[:, :NLINES].argmax(axis=1)
    found = confidence[:, :NLINES].max(axis=1) > THRESHOLD
    dv = C_KMS * (redshift[np.arange(n), best] - objects.z) / (1 + objects.z)
    quasar = objects.kind == "QSO"
    print("Held-out simulations, threshold 0.5")
    print("  S/N per bin  recall  z right  median |dv|   galaxies  stars  neither")
    for low, high in pairwise(SNR_EDGES):
        within = (snr >= low) & (snr < high)
        error = np.abs(dv[within & found & quasar])
        false = [
            found[within & np.isin(objects.kind, kinds)].mean()
            for kinds in (["GALAXY"], ["STAR"], ["POWERLAW", "SKY"])
        ]
        print(
            f"  {low:4g} to {high:3g}   {found[within & quasar].mean():5.3f}"
            f"    {np.mean(error < CLOSE * C_KMS):5.3f}   {np.median(error):6.0f} km/s"
            f"      {false[0]:5.3f}  {false[1]:5.3f}    {false[2]:5.3f}"
        )
    print(f"  (z right: within {CLOSE} (1 + z), of those found; then false positives)")
    absorbed = confidence[:, NLINES] > THRESHOLD
    bright = quasar & (snr > 4)
    print(
        f"  BAL at S/N > 4: found {absorbed[bright & objects.bal].mean():.3f}, false "
        f"{absorbed[bright & ~objects.bal & (objects.z > BAL_ZMIN)].mean():.3f}"
    )


def check_coadd(model: keras.Model, arms: dict[str, tuple[Array, Array]]) -> bool:
    """Print what the network says of the demo coadd, row by row.

    Parameters
    ----------
    model : keras.Model
        The network.
    arms : dict of str to (flux, ivar)
        The coadd.

    Returns
    -------
    bool
        Whether all quasars and nothing else were found, at the right redshifts.
    """
    flux, ivar = rebin([(arm_wave(arm), *data) for arm, data in arms.items()])
    good = np.flatnonzero(ivar.sum(axis=1) > 0)
    confidence, redshift = predict(model, normalise(flux[good], ivar[good]))
    all_right = True
    print("Demo coadd\n  row kind         z   S/N  conf      z_qn   BAL")
    for row, said, z_said in zip(good, confidence, redshift.astype(float), strict=True):
        target = TARGETS[row]
        best = said[:NLINES].argmax()
        called = said[best] > THRESHOLD
        close = abs(z_said[best] - target.z) < CLOSE * (1 + target.z)
        right = (called and close) if target.spectype == "QSO" else not called
        all_right &= bool(right)
        used = ivar[row] > 0
        snr = np.median(flux[row, used] * np.sqrt(ivar[row, used]))
        print(
            f"  {row:3} {target.spectype:6} {target.subtype:3} {target.z:5.2f}"
            f" {snr:5.1f} {said[best]:5.3f} {z_said[best]:9.4f} {said[NLINES]:5.2f}"
            f"{'' if right else '   WRONG'}"
        )
    return all_right


def main() -> int:
    """Run it all; the exit status tells whether the demo coadd comes out right."""
    package_data = Path(__file__).resolve().parents[1] / "qnp_xp" / "data"
    parser = argparse.ArgumentParser(description="Make the demo network and coadd.")
    parser.add_argument("--outdir", type=Path, default=package_data)
    parser.add_argument("--steps", type=int, default=4000, help="batches of 512")
    parser.add_argument("--objects", type=int, default=120_000, help="simulated")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    started = time.monotonic()
    torch.set_num_threads(args.threads)
    keras.utils.set_random_seed(SEED)
    # One stream a task: a longer training leaves the coadd as it is.
    for_objects, for_training, for_test, for_coadd = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(SEED).spawn(4)
    )
    args.outdir.mkdir(parents=True, exist_ok=True)

    arms = simulate_coadd(for_coadd)
    coadd_path = args.outdir / "demo-coadd.fits"
    write_coadd(coadd_path, arms, SEED)

    bins = coarse_bins()
    objects = simulate(for_objects, bins, args.objects)
    shapes = noise_shapes(for_objects, 64)
    print(f"Simulated {args.objects} in {time.monotonic() - started:.0f} s", flush=True)

    model = demo_network.build()
    demo_network.train(model, for_training, objects, shapes, args.steps)
    network_path = args.outdir / "demo-network.h5"
    demo_network.save(model, network_path)
    print(f"Trained: {(time.monotonic() - started) / 60:.1f} min", flush=True)

    test = simulate(for_test, bins, 20_000)
    report_held_out(model, for_test, test, noise_shapes(for_test, 64))
    right = check_coadd(keras.models.load_model(network_path), arms)
    for path in (network_path, coadd_path):
        print(f"{path}: {path.stat().st_size} bytes")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
