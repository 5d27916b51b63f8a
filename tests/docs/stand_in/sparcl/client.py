"""A client that answers with simulated spectra, in the form of sparclclient 1.3.1.

Whatever is asked for, the spectra are those of the demo that ships with the package,
joined over the arms as SPARCL joins those of DESI. No number is a measurement. A test
in `tests/test_arrays.py` compares names and arguments with those of the real client.
"""

from __future__ import annotations

from collections import UserList
from typing import Any

import fitsio
import numpy as np

from qnp_xp._data import DEMO_COADD, data_file


class AttrDict(dict[str, Any]):
    """A record, whose fields are attributes too."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.__dict__ = self


class Results(UserList[Any]):
    """A header and records."""

    def __init__(self, answer: list[Any]) -> None:
        super().__init__(answer)
        self.hdr, self.recs = answer[0], answer[1:]

    @property
    def records(self) -> list[AttrDict]:
        return self.recs

    @property
    def count(self) -> int:
        return len(self.recs)

    @property
    def ids(self) -> list[str]:
        return [record["sparcl_id"] for record in self.recs]


class SparclClient:
    """The methods that the pages call."""

    def __init__(self, *, announcement: bool = True) -> None:
        self._records = simulated_records()

    def find(
        self,
        outfields: list[str] | None = None,
        *,
        constraints: dict[str, Any] = {},  # noqa: B006, as the client has it
        limit: int = 500,
    ) -> Results:
        names = outfields or ["sparcl_id"]
        records = self._records[:limit]
        (release,) = constraints.get("data_release", ["DESI-DR1"])
        return answer(records, names, [release] * len(records))

    def retrieve(
        self,
        uuid_list: list[str],
        *,
        include: Any = "DEFAULT",
        dataset_list: list[str] | None = None,
    ) -> Results:
        records = [r for r in self._records if r["sparcl_id"] in uuid_list]
        (release,) = dataset_list or ["DESI-DR1"]
        return answer(records, include, [release] * len(records))

    def retrieve_by_specid(
        self,
        specid_list: list[int],
        *,
        include: Any = "DEFAULT",
        dataset_list: list[str] | None = None,
    ) -> Results:
        named = zip(self._records, specid_list, strict=False)
        records = [{**record, "specid": specid} for record, specid in named]
        (release,) = dataset_list or ["DESI-DR1"]
        return answer(records, include, [release] * len(records))


def answer(records: list[Any], names: Any, releases: list[str]) -> Results:
    """Give the named fields of records, and those that every record has."""
    names = ["flux", "wavelength"] if names == "DEFAULT" else list(names)
    names = list(dict.fromkeys([*names, "sparcl_id", "specid"]))
    found = [
        AttrDict({**{name: record[name] for name in names}, "_dr": release})
        for record, release in zip(records, releases, strict=True)
    ]
    status = {"success": True, "info": [f"{len(found)} records"], "warnings": []}
    return Results([{"status": status}, *found])


def simulated_records() -> list[dict[str, Any]]:
    """Make a record of each spectrum of the demo, its arms joined."""
    with fitsio.FITS(str(data_file(DEMO_COADD))) as coadd:
        targets = coadd["FIBERMAP"].read()
        arms = [
            [coadd[f"{arm}_{name}"].read() for name in ("WAVELENGTH", "FLUX", "IVAR")]
            for arm in "BRZ"
        ]
    wave = np.concatenate([arm[0] for arm in arms])
    flux, ivar = (np.concatenate([arm[i] for arm in arms], axis=1) for i in (1, 2))
    wave, first = np.unique(np.round(wave, 1), return_inverse=True)
    weight, product = (np.zeros((len(targets), wave.size)) for _ in range(2))
    np.add.at(weight.T, first, ivar.T)
    np.add.at(product.T, first, (flux * ivar).T)
    mean = np.divide(product, weight, out=np.zeros_like(weight), where=weight > 0)
    return [
        {
            "sparcl_id": f"simulated-{row}",
            "specid": int(target["TARGETID"]),
            "ra": float(target["TARGET_RA"]),
            "dec": float(target["TARGET_DEC"]),
            "redshift": float(target["TRUE_Z"]),
            "redshift_warning": 0,
            "spectype": target["TRUE_SPECTYPE"],
            "wavelength": wave,
            "flux": mean[row].astype("f4"),
            "ivar": weight[row].astype("f4"),
        }
        for row, target in enumerate(targets)
        if target["TRUE_SPECTYPE"] != "SKY"
    ]
