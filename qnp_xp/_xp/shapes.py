"""Shapes of the arguments of array functions."""

from __future__ import annotations

from .backend import Array


def check_shapes(**arguments: tuple[Array, str]) -> None:
    """Refuse arrays whose shapes are not what their axes say.

    Axes are names such as ``"n nbins"``; axes of one name have one length, and ``...``
    stands for any number of others.
    """
    lengths: dict[str, int] = {}
    for name, (array, axes) in arguments.items():
        shape, wanted = tuple(array.shape), axes.split()
        expected = ", ".join(
            f"{axis}={lengths[axis]}" if axis in lengths else axis for axis in wanted
        )
        if "..." in wanted:
            at = wanted.index("...")
            others = len(shape) - len(wanted) + 1
            # No item is set: torch.compile cannot trace that.
            wanted = [*wanted[:at], *["..."] * others, *wanted[at + 1 :]]
        fits = len(shape) == len(wanted) and all(
            axis == "..." or lengths.setdefault(axis, length) == length
            for axis, length in zip(wanted, shape, strict=True)
        )
        if not fits:
            msg = f"{name} has shape {shape}, expected ({expected})"
            raise ValueError(msg)
