"""How well a network does on simulations that it has not seen, and on real spectra.

::

    nice python training/evaluate.py

reads ``qnp_xp/data/embedded-network.h5``, prints what it finds, and writes
``training/results.json`` and the tables and pictures of ``docs/embedded-network.md``.
It needs neither torch nor Keras.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from absorption import BAL_ZMIN
from blind_spots import CLOSE, at_edges, blind_spots
from card import fill
from curves import draw_curves
from ensemble import EVALUATION, KINDS, Ensemble, simulate
from fits import fits
from noise import draw_snr, normalise, observe
from parents import Observed
from templates import C_KMS
from world import ROOT, World, read_world, reference_folder

from qnp_xp import load_model
from qnp_xp.decode import Decoded, decode
from qnp_xp.io import load_desi_coadd
from qnp_xp.spectra import normalize

SEED = 918273
CARD = ROOT / "docs" / "embedded-network.md"
THRESHOLDS = (0.5, 0.8)
SNRS = (1, 2, 4, 8, 20)
REDSHIFTS = {"z<1": (0.0, 1.0), "1<z<2.1": (1.0, 2.1), "z>2.1": (2.1, 9.0)}
SNR_EDGES = (0.4, 0.8, 1.5, 3, 6, 12, 60)
Z_EDGES = (0.05, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.5, 3.0, 3.5, 4.0, 4.5, 5.1)


@dataclass(frozen=True)
class Judge:
    """A network as the package runs it.

    Parameters
    ----------
    model : QuasarNP
        From `qnp_xp.load_model`.
    """

    model: Any

    def __call__(self, spectra: np.ndarray) -> Decoded:
        """Decode what the network says of normalised spectra."""
        preds = self.model.predict(spectra.astype(np.float32))
        model = self.model
        return decode(preds, model.lines, model.lines_bal, model.wave)


def rate(condition: np.ndarray, among: np.ndarray) -> float | None:
    """Share of `among` for which a condition holds; None of nothing."""
    return round(float(condition[among].mean()), 4) if among.any() else None


def recall_by_snr(
    judge: Judge, world: World, objects: Ensemble, rng: np.random.Generator
) -> dict[str, Any]:
    """Recall and redshifts of simulated quasars at fixed signal-to-noise ratios.

    Parameters
    ----------
    judge : Judge
        The network.
    world : World
        For the noise.
    objects : Ensemble
        Spectra without noise, of which the quasars are used.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    dict
        By S/N the recall at each threshold, by redshift and by bins of redshift.
    """
    rows = np.flatnonzero(objects.kind == 0)
    z, bal = objects.z[rows], objects.bal[rows]
    every = np.ones(z.size, dtype=bool)
    results: dict[str, Any] = {}
    for snr in SNRS:
        fixed = np.full(z.size, snr, dtype=np.float32)
        said = judge(normalise(*observe(rng, objects.flux[rows], world.shapes, fixed)))
        dz = np.abs(said.zbest - z) / (1 + z)
        good = dz < CLOSE
        one: dict[str, Any] = {}
        for threshold in THRESHOLDS:
            found = said.cbest > threshold
            one[f"recall at {threshold}"] = {"all": rate(found, every)} | {
                name: rate(found, (z > low) & (z < high))
                for name, (low, high) in REDSHIFTS.items()
            }
            one[f"found with a good redshift at {threshold}"] = {
                "all": rate(found & good, every)
            } | {
                name: rate(found & good, (z > low) & (z < high))
                for name, (low, high) in REDSHIFTS.items()
            }
            one[f"recall by redshift at {threshold}"] = [
                rate(found, (z >= low) & (z < high)) for low, high in pairwise(Z_EDGES)
            ]
            one[f"good redshifts of those found at {threshold}"] = rate(good, found)
            absorbed = said.c_line_bal[0] > threshold
            visible = z > BAL_ZMIN
            one[f"BAL recall at {threshold}"] = rate(absorbed, bal)
            one[f"BAL false at {threshold}"] = rate(absorbed, visible & ~bal)
        found = said.cbest > THRESHOLDS[0]
        one["median |dv| km/s"] = round(float(np.median(dz[found & good]) * C_KMS))
        results[str(snr)] = one
    return results


def mixed(
    judge: Judge, world: World, objects: Ensemble, rng: np.random.Generator
) -> dict[str, Any]:
    """Count false positives and more on a mixture of all kinds and brightnesses.

    Parameters
    ----------
    judge, world, objects, rng
        As for `recall_by_snr`; all objects are used.

    Returns
    -------
    dict
        Shares of objects that are no quasars but called so, by kind and by S/N.
    """
    kind, z = objects.kind, objects.z
    snr = draw_snr(rng, kind, KINDS.index("SKY"))
    said = judge(normalise(*observe(rng, objects.flux, world.shapes, snr)))
    quasar, other = kind == 0, kind != 0
    results: dict[str, Any] = {"objects": int(kind.size)}
    for threshold in THRESHOLDS:
        found = said.cbest > threshold
        absorbed = said.c_line_bal[0] > threshold
        false = {"all": rate(found, other)} | {
            name: rate(found, kind == i) for i, name in enumerate(KINDS) if i
        }
        results[f"false positives at {threshold}"] = false
        results[f"false positives by S/N at {threshold}"] = [
            rate(found, other & (snr >= low) & (snr < high))
            for low, high in pairwise(SNR_EDGES)
        ]
        results[f"recall at {threshold}"] = rate(found, quasar)
        results[f"recall by S/N at {threshold}"] = [
            rate(found, quasar & (snr >= low) & (snr < high))
            for low, high in pairwise(SNR_EDGES)
        ]
        visible = quasar & (z > BAL_ZMIN)
        results[f"BAL recall at {threshold}"] = rate(absorbed, objects.bal)
        results[f"BAL false at {threshold}"] = rate(absorbed, visible & ~objects.bal)
    return results


def calibration(judge: Judge, observed: Observed) -> dict[str, Any]:
    """Test on the real quasars whose templates set the simulations.

    Parameters
    ----------
    judge : Judge
        The network.
    observed : Observed
        The spectra of data/boss.

    Returns
    -------
    dict
    """
    said = judge(normalize(observed.flux, observed.ivar)[0])
    quasar, z = observed.quasar, observed.z
    dz = np.abs(said.zbest - z) / (1 + z)
    results: dict[str, Any] = {"quasars": int(quasar.sum())}
    for threshold in THRESHOLDS:
        found = (said.cbest > threshold) & quasar
        results[f"found at {threshold}"] = int(found.sum())
        results[f"good redshifts at {threshold}"] = int((found & (dz < CLOSE)).sum())
    found = (said.cbest > THRESHOLDS[1]) & quasar
    results["median |dv| km/s"] = round(float(np.median(dz[found]) * C_KMS))
    results["missed or wrong at 0.8"] = [
        {"z": round(float(z[i]), 3), "z found": round(float(said.zbest[i]), 3)}
        | {"confidence": round(float(said.cbest[i]), 3)}
        for i in np.flatnonzero(quasar & ~(found & (dz < CLOSE)))
    ]
    return results


def desi(judge: Judge, folder: Path) -> dict[str, Any]:
    """24 real DESI spectra beside what another trained network says of them.

    Parameters
    ----------
    judge : Judge
        The network.
    folder : Path
        Of QuasarNP's test files.

    Returns
    -------
    dict
    """
    spectra, _ = load_desi_coadd(folder / "test_coadd.fits")
    ours = judge(spectra)
    theirs = Judge(load_model(folder / "test_weights_6_layer.h5"))(spectra)
    results: dict[str, Any] = {"spectra": len(spectra)}
    for threshold in THRESHOLDS:
        one, two = ours.cbest > threshold, theirs.cbest > threshold
        close = np.abs(ours.zbest - theirs.zbest) / (1 + theirs.zbest) < CLOSE
        results[f"at {threshold}"] = {
            "ours": int(one.sum()),
            "theirs": int(two.sum()),
            "both": int((one & two).sum()),
            "both, with redshifts that agree": int((one & two & close).sum()),
        }
    return results


def evaluate(network: Path, world: World, n: int) -> dict[str, Any]:
    """All figures of one network.

    Parameters
    ----------
    network : Path
        Weights file.
    world : World
        Templates, noise, calibration spectra.
    n : int
        Simulated objects.

    Returns
    -------
    dict
    """
    judge = Judge(load_model(network))
    seeds = np.random.SeedSequence(SEED).spawn(5)
    for_objects, for_noise, for_spots, for_fits, for_fit_noise = seeds
    objects = simulate(for_objects, world.library, n, EVALUATION)
    rng = np.random.default_rng(for_noise)
    rng_spots = np.random.default_rng(for_spots)
    other = Judge(load_model(reference_folder() / "quasarnp" / "test_weights.h5"))
    judges = {"this": (judge, THRESHOLDS[1]), "QuasarNP's test": (other, THRESHOLDS[0])}
    return {
        "weights_sha256": judge.model.weights_sha256,
        "objects": n,
        "edges": {"S/N": SNR_EDGES, "z": Z_EDGES},
        "quasars by S/N": recall_by_snr(judge, world, objects, rng),
        "mixed": mixed(judge, world, objects, rng),
        "blind spots": blind_spots(judge, world, rng_spots, THRESHOLDS[1]),
        "at edges": at_edges(judge, world, rng_spots),
        "fits": fits(judges, world, for_fits, np.random.default_rng(for_fit_noise)),
        "calibration": calibration(judge, world.observed),
        "desi": desi(judge, reference_folder() / "quasarnp"),
    }


def main() -> None:
    """Evaluate, write figures and pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT / "qnp_xp" / "data" / "embedded-network.h5"
    parser.add_argument("--network", type=Path, default=default)
    parser.add_argument("--objects", type=int, default=40_000)
    parser.add_argument("--results", type=Path, default=ROOT / "training/results.json")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "_static")
    parser.add_argument("--card", type=Path, default=CARD, help="to write, with tables")
    args = parser.parse_args()
    results = evaluate(args.network, read_world(), args.objects)
    args.results.write_text(json.dumps(results, indent=1) + "\n")
    draw_curves(results, args.pictures)
    args.card.write_text(fill(CARD.read_text(), results))
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
