"""Ways to damage a file, each drawn from a random generator."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

__all__ = ["mutate"]

#: What a field that counts or points says when something is wrong with it.
EXTREMES = (0, 1, 2, 3, 8, 0x7F, 0xFF, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, 1 << 31)
EXTREMES += ((1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
CARD_VALUES = ("-1", "0", "1", "2", "3", "7", "999", "65536", "2147483647", "1E30", "T")
CARD_VALUES += ("4294967296", "9223372036854775807", "-9223372036854775808", "'X'", "")

Mutation = Callable[[bytearray, random.Random], None]


def _place(content: bytearray, rng: random.Random) -> int:
    """A place in a file, the first part of which is more often where it is decided."""
    end = len(content) if rng.random() < 0.7 else min(len(content), 4096)
    return rng.randrange(end)


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[_place(content, rng) :]


def _flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        content[_place(content, rng)] ^= 1 << rng.randrange(8)


def _set_bytes(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        content[_place(content, rng)] = rng.randrange(256)


def _block(content: bytearray, rng: random.Random) -> slice:
    start = _place(content, rng)
    return slice(start, start + rng.choice((1, 4, 8, 16, 80, 512, 2880)))


def _zero(content: bytearray, rng: random.Random) -> None:
    block = _block(content, rng)
    content[block] = bytes(len(content[block]))


def _duplicate(content: bytearray, rng: random.Random) -> None:
    block = _block(content, rng)
    content[block.start : block.start] = content[block]


def _remove(content: bytearray, rng: random.Random) -> None:
    del content[_block(content, rng)]


def _swap(content: bytearray, rng: random.Random) -> None:
    first, second = _block(content, rng), _block(content, rng)
    size = min(len(content[first]), len(content[second]))
    one = slice(first.start, first.start + size)
    other = slice(second.start, second.start + size)
    content[one], content[other] = content[other], content[one]


def _copy_field(content: bytearray, rng: random.Random) -> None:
    """Put an aligned field where another is: addresses then lead into circles."""
    source, target = (_place(content, rng) // 8 * 8 for _ in range(2))
    field = bytes(content[source : source + 8])
    content[target : target + len(field)] = field


def _set_field(content: bytearray, rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8))
    place = _place(content, rng) // size * size
    values = (*EXTREMES, len(content), len(content) - 8, rng.randrange(len(content)))
    value = rng.choice(values) % (1 << 8 * size)
    field = value.to_bytes(size, rng.choice(("little", "big")))
    content[place : place + size] = field


def _set_card(content: bytearray, rng: random.Random) -> None:
    """Give a keyword of a FITS header another value; any field, where there is none."""
    cards = [m.start() for m in re.finditer(rb"[A-Z0-9_ -]{8}= ", content)]
    if not cards:
        _set_field(content, rng)
        return
    place = rng.choice(cards) + 10
    content[place : place + 20] = f"{rng.choice(CARD_VALUES):>20}".encode()


def _claim_much(content: bytearray, rng: random.Random) -> None:
    """Let a header of FITS claim more pixels, rows or bytes than there are."""
    pattern = rb"(?:Z?NAXIS[1-9] |ZTILE[1-9] |PCOUNT |THEAP  ) = "
    cards = [m.end() for m in re.finditer(pattern, content)]
    if cards:
        place = rng.choice(cards)
        size = rng.choice((10**5, 10**7, 10**9 - 1, 1 << 31, 1 << 40))
        content[place : place + 20] = f"{size:>20}".encode()
    else:
        _set_field(content, rng)


def _break_text(content: bytearray, rng: random.Random) -> None:
    """Put what is no ASCII into a text of a header, which messages then hold."""
    texts = [m.end() for m in re.finditer(rb"[A-Z0-9_-]{1,8} *= '", content)]
    place = rng.choice(texts) if texts else _place(content, rng)
    content[place + 1 : place + 3] = rng.choice((b"\xff\xfe", b"\xc3(", b"\x1b["))


def _set_stream(content: bytearray, rng: random.Random) -> None:
    """Let a tile of HCOMPRESS or PLIO say that it has another size than it has."""
    starts = [
        m.start() for m in re.finditer(rb"\xdd\x99\0\0|\0\0\0\x07\xff\x9c", content)
    ]
    if starts:
        place = rng.choice(starts) + rng.choice((2, 2, 4, 6, 10, 22))
        size = rng.choice((1, 2, 4, 8))
        value = rng.choice(EXTREMES) % (1 << 8 * size)
        content[place : place + size] = value.to_bytes(size, "big")
    else:
        _set_field(content, rng)


def _append(content: bytearray, rng: random.Random) -> None:
    size = rng.choice((1, 512, 2880, 10_000, 28_800, 100_000))
    content += bytes(size) if rng.random() < 0.5 else content[-size:]


MUTATIONS: tuple[Mutation, ...] = (
    _cut,
    _flip_bits,
    _set_bytes,
    _zero,
    _duplicate,
    _remove,
    _swap,
    _copy_field,
    _set_field,
    _set_field,
    _set_card,
    _claim_much,
    _break_text,
    _set_stream,
    _append,
)


def mutate(bases: Sequence[bytes], rng: random.Random) -> bytes:
    """One of some files, damaged; or the beginning of one and the end of another."""
    content = bytearray(rng.choice(bases))
    if rng.random() < 0.05:
        other, place = rng.choice(bases), _place(content, rng)
        content[place:] = other[place:]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if content:
            rng.choice(MUTATIONS)(content, rng)
    return bytes(content)
