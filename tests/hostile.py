"""Ways to make a weights file lead elsewhere, or claim more than there is memory.

And a process that reads such files, for what is not to be done to the tests' own.
"""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from helpers import layer, peak_memory

SECONDS = 20  # for one file

GROUP = "model_weights/conv_2/conv_2"
KERNEL = f"{GROUP}/kernel"  # of shape (10, 4, 4)
MEMBER_KERNEL = "layers/conv1d_1/vars/0"

Edit = Callable[[h5py.File], None]


def replaced(place: str, make: Callable[[h5py.Group, str, np.ndarray], Any]) -> Edit:
    """Put something else where an array is."""

    def edit(f: h5py.File) -> None:
        parent, _, name = place.rpartition("/")
        values = np.asarray(f[place])
        del f[place]
        make(f[parent or "/"], name, values)

    return edit


def as_soft_link(group: h5py.Group, name: str, values: np.ndarray) -> None:
    group.file["elsewhere"] = values
    group[name] = h5py.SoftLink("/elsewhere")


def as_dangling_link(group: h5py.Group, name: str, _: np.ndarray) -> None:
    group[name] = h5py.SoftLink("/nowhere")


def as_external_link(group: h5py.Group, name: str, values: np.ndarray) -> None:
    other = Path(group.file.filename if isinstance(group.file.filename, str) else "/")
    with h5py.File(other.with_name("other.h5"), "w") as f:
        f["kernel"] = values
    group[name] = h5py.ExternalLink(str(other.with_name("other.h5")), "/kernel")


def in_another_file(group: h5py.Group, name: str, values: np.ndarray) -> None:
    raw = Path(group.file.filename).with_name("kernel.raw")
    raw.write_bytes(values.tobytes())
    external = [(str(raw), 0, values.nbytes)]
    group.create_dataset(name, values.shape, values.dtype, external=external)


def in_another_dataset(group: h5py.Group, name: str, values: np.ndarray) -> None:
    group.file["elsewhere"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource(group.file["elsewhere"])
    group.create_virtual_dataset(name, layout)


def of_type(dtype: Any) -> Callable[[h5py.Group, str, np.ndarray], None]:
    def make(group: h5py.Group, name: str, values: np.ndarray) -> None:
        group.create_dataset(name, values.shape, dtype)

    return make


def within_its_header(group: h5py.Group, name: str, values: np.ndarray) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    kind, space = h5py.h5t.py_create(values.dtype), h5py.h5s.create_simple(values.shape)
    dataset = h5py.h5d.create(group.id, name.encode(), kind, space, properties)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(values))


HUGE = 1 << 26


def zeros(size: int, start: bytes = b"", fill: bytes = b"\0") -> bytes:
    """Something short that deflates to a great length."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = fill * (1 << 22)
    parts = [packer.compress(start)]
    parts += [packer.compress(block) for _ in range(size // len(block))]
    return b"".join([*parts, packer.flush()])


def bomb(source: Path, target: Path, member: str, fill: bytes) -> Path:
    """Copy an archive with a member that has become huge."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
        info = zipfile.ZipInfo(member)
        info.compress_type = zipfile.ZIP_DEFLATED
        with new.open(info, "w", force_zip64=True) as f:
            for _ in range(HUGE >> 22):
                f.write(fill * (1 << 22))
    return target


def without_storage(group: h5py.Group, name: str, _: np.ndarray) -> None:
    group.create_dataset(name, (10**9,), "f8")


def packed_zeros(group: h5py.Group, name: str, _: np.ndarray) -> None:
    group.create_dataset(
        name, data=np.zeros(HUGE >> 3), chunks=(1 << 22,), compression="gzip"
    )


def packed_bomb(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """The right shape, and a chunk that unpacks to much more."""
    options = {"chunks": values.shape, "compression": "gzip"}
    dataset = group.create_dataset(name, values.shape, values.dtype, **options)
    content = b"\x78\x9c" + zeros(HUGE)
    dataset.id.write_direct_chunk((0,) * values.ndim, content)


def short_bomb(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """The same, as short as what it should be."""
    options = {"chunks": values.shape, "compression": "gzip"}
    dataset = group.create_dataset(name, values.shape, values.dtype, **options)
    content = b"\x78\x9c" + zeros(1 << 22)
    dataset.id.write_direct_chunk((0,) * values.ndim, content[:1000])


def huge_chunks(group: h5py.Group, name: str, values: np.ndarray) -> None:
    dataset = group.create_dataset(
        name,
        values.shape,
        values.dtype,
        maxshape=(None,) * values.ndim,
        chunks=(1 << 25,) + (1,) * (values.ndim - 1),
        compression="gzip",
    )
    dataset.id.write_direct_chunk((0,) * values.ndim, b"\x78\x9c" + zeros(HUGE))


def many_chunks(group: h5py.Group, name: str, values: np.ndarray) -> None:
    group.create_dataset(name, (1 << 20,), "f4", chunks=(1,))


def absurd(model: dict[str, Any]) -> None:
    layer(model, "fc_common")["config"]["units"] = 10**9


def in_small_chunks(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """An array in so few chunks that their tree has one level."""
    chunks = tuple(-(-size // 2) for size in values.shape)
    group.create_dataset(name, data=values, chunks=chunks, compression="gzip")


def in_single_numbers(group: h5py.Group, name: str, values: np.ndarray) -> None:
    group.create_dataset(name, data=values, chunks=(1,) * values.ndim)


def of_bins(number: int) -> Callable[[dict[str, Any]], None]:
    """Let a network take a number of bins, and its first layer as few as before."""

    def edit(model: dict[str, Any]) -> None:
        layer(model, "input_layer")["config"]["batch_shape"][1] = number
        layer(model, "conv_1")["config"]["strides"] = [-(-number // 222)]

    return edit


class Loader:
    """Another process, which loads one file after the other.

    What libhdf5 does with some files is to go round in a circle, or to take all the
    memory there is. A process that does is gone, and the next file has a new one.
    """

    def __init__(self, sound: Path) -> None:
        self.sound = sound
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, path: Path) -> tuple[str, int]:
        """What is said of a file, and the most MiB that were taken by any so far."""
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = subprocess.Popen(
                [sys.executable, __file__, self.sound],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the process that loads {path} hangs or died"
        what, megabytes = json.loads(line)
        return what, megabytes

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.communicate()


def main(sound: str) -> None:
    """Load the files whose names come in, and say what came of each."""
    from qnp_xp import WeightsError, load_model

    load_model(sound)
    before = peak_memory()
    for line in sys.stdin:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            load_model(line.rstrip("\n"))
            what = ""
        except WeightsError as err:
            what = str(err)
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.write(json.dumps([what, peak_memory() - before]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
