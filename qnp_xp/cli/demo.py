"""Classify the simulated coadd that ships with the package.

It uses the network that ships with the package. It prints what was found beside what
was simulated, and draws a picture, which needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .._data import DEMO_COADD, EMBEDDED_NETWORK, data_file
from .._printing import count, say
from ..errors import MissingLibraryError
from ._shared import DEVICE, adder


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = adder(p)
    default = "qn-demo-coadd.fits"
    add("-o --output OUT", "table to write (default: %(default)s)", default=default)
    add("--keep-coadd", f"also write the coadd, as {DEMO_COADD} beside OUT")
    add("--overwrite", "replace older files")
    add(*DEVICE, default="cpu")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import numpy as np

    from .._classify import as_model, classify_source
    from .._options import Options
    from .._xp.backend import permitted
    from ..io._files import atomic_write, ensure_apart, ensure_writable, file_stamp
    from ..io.open import open_spectra
    from ..io.tables import header_cards, identity_cards, write_catalog
    from ..lines import column_names
    from ..plot import png, spectrum

    inputs = [data_file(DEMO_COADD), data_file(EMBEDDED_NETWORK)]
    output = Path(args.output)
    picture, coadd = output.with_suffix(".png"), output.with_name(DEMO_COADD)
    ensure_writable(output, args.overwrite, inputs)
    ensure_writable(picture, args.overwrite, inputs)
    ensure_apart([output, picture, coadd][: 3 if args.keep_coadd else 2])
    if args.keep_coadd:
        ensure_writable(coadd, args.overwrite, inputs)
        atomic_write(coadd, inputs[0].read_bytes())
    model = as_model(inputs[1], permitted(args.device))
    options = Options()
    c_thresh = options.threshold(model.c_thresh).value
    identity = identity_cards(model, options, file_stamp(inputs[:1]), None, None)
    with open_spectra(inputs[0]) as source:
        result = classify_source(source, model, options)
        truth = source.columns(["TRUE_SPECTYPE", "TRUE_Z"])
    table, cards = result.table, header_cards(model, identity, result.name, result.arms)
    write_catalog(output, table, cards, overwrite=args.overwrite)
    say(f"{'':>20}   simulated           found")
    say(f"{'TARGETID':>20}   {'class':<10} {'z':>6}   {'quasar':<6} {'Z_QN':>6} conf")
    kinds = np.char.strip(truth["TRUE_SPECTYPE"].astype("U"))
    for row, kind, z in zip(table, kinds, truth["TRUE_Z"], strict=True):
        known = f"{z:.3f}" if z >= 0 else ""  # NaN for a sky fiber
        quasar = "yes" if row["IS_QSO_QN"] else "no"
        redshift = f"{row['Z_QN']:.3f}" if row["IS_QSO_QN"] else ""
        confidence = f"{row['Z_QN_CONF']:.2f}" if row["Z_QN_CONF"] >= 0 else ""
        found = f"{quasar:<6} {redshift:>6} {confidence}"
        say(f"{row['TARGETID']:>20}   {kind:<10} {known:>6}   {found}".rstrip())
    say(f"{table.size} spectra, {count(result.quasars, 'quasar')} -> {output}")
    if args.keep_coadd:
        say(f"spectra -> {coadd}")
    say(f"network: {model.weights_name}, trained on simulations")
    # The quasar with the most lines is drawn.
    lines = [table[f"C_{name}"] > c_thresh for name in column_names(model.lines)]
    index = int(np.argmax(np.sum(lines, axis=0)))
    try:
        axes = spectrum(inputs[0], model, row=index)
    except MissingLibraryError as err:
        say(f"no picture: {err}")
    else:
        atomic_write(picture, png(axes[0].figure))
        say(f"picture of row {index} -> {picture}")
    return 0
