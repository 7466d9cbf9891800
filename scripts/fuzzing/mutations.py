"""Mutations of files: blind ones on bytes, and ones that know containers, JSON, safetensors and templates."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytearray, random.Random], bytearray]

INTEGERS = (0, 1, 2, 127, 128, 255, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**64 - 1)
MAX_BYTES = 1 << 21
"""A mutated media file never grows beyond this."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 10**6, 10**9, 10**18, 2**63, -(2**31), 1e308, 1e-308, float("nan"), float("inf"),
    "", "x", "nonsense", "\x00", "é" * 50, "../../../etc/passwd", "http://127.0.0.1:1/x", [], {}, [[]], [0], [-1, -1],
    [[1, 1]], [[10**9, 10**9]], {"a": {"b": []}}, "a" * 10_000, [1] * 1000,
)  # fmt: skip

# Without templates that never end or fill memory in a loop: transformers' sandbox does not stop these.
TEMPLATES = (
    "{% for i in range(99999) %}x{% endfor %}",
    "{% for i in range(999999) %}{% endfor %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ 'a' * 10 ** 11 }}",
    "{{ 'a' * 99999999999 }}",
    "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(20) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% include '/etc/passwd' %}",
    "{{ messages.__init__.__globals__ }}",
    "{{ raise_exception('no') }}",
    "{{ undefined.attribute.of.nothing }}",
    "{{ messages[0]['role'].format.__globals__ }}",
    "{{ '{0.__class__.__base__}'.format(messages) }}",
    "{% set x = messages.append(1) %}",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ 1 / 0 }}",
    "{{ messages | map('upper') | list }}",
    "{% if %}", "{{", "{% endfor %}", "{{ tojson }}", "<image>" * 50, "{{ messages[99].content }}",
    "{{ range(99999) | list | string | center(999999) }}",
)  # fmt: skip


# -- bytes ---------------------------------------------------------------------------------------------------------


def flip(data: bytearray, rng: random.Random) -> bytearray:
    """Flip one to sixteen bits."""
    for _ in range(rng.choice((1, 2, 4, 16))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def noise(data: bytearray, rng: random.Random) -> bytearray:
    """Overwrite a stretch with random bytes."""
    start, length = _place(data, rng), rng.choice((1, 4, 32, 256))
    data[start : start + length] = rng.randbytes(len(data[start : start + length]))
    return data


def zero(data: bytearray, rng: random.Random) -> bytearray:
    """Overwrite a stretch with zeroes."""
    start, length = _place(data, rng), rng.choice((4, 64, 1024))
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def truncate(data: bytearray, rng: random.Random) -> bytearray:
    """Cut the end off."""
    return data[: rng.randrange(len(data) + 1)]


def behead(data: bytearray, rng: random.Random) -> bytearray:
    """Cut the beginning off."""
    return data[rng.choice((1, 4, 8, rng.randrange(len(data) + 1))) :]


def remove(data: bytearray, rng: random.Random) -> bytearray:
    """Take a stretch out of the middle."""
    start = _place(data, rng)
    del data[start : start + rng.choice((1, 3, 16, 200))]
    return data


def repeat(data: bytearray, rng: random.Random) -> bytearray:
    """Write a stretch several times."""
    start, length = _place(data, rng), rng.choice((1, 8, 64, 4096))
    return data[:start] + data[start : start + length] * rng.choice((2, 3, 30)) + data[start:]


def swap_blocks(data: bytearray, rng: random.Random) -> bytearray:
    """Let two stretches of equal length change places."""
    length = rng.choice((4, 16, 128, 1024))
    a, b = _place(data, rng), _place(data, rng)
    one, other = data[a : a + length], data[b : b + length]
    if len(one) == len(other):
        data[a : a + length], data[b : b + length] = other, one
    return data


def integer(data: bytearray, rng: random.Random) -> bytearray:
    """Write a number that is often a limit, in one to eight bytes of either order."""
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(INTEGERS) & ((1 << 8 * size) - 1)
    start = _place(data, rng) if rng.random() < 0.5 else rng.randrange(min(len(data), 512))
    data[start : start + size] = value.to_bytes(size, rng.choice(("big", "little")))
    return data


BLIND: tuple[Mutation, ...] = (flip, noise, zero, truncate, behead, remove, repeat, swap_blocks, integer)


def _place(data: bytearray, rng: random.Random) -> int:
    return rng.randrange(max(1, len(data)))


# -- containers ------------------------------------------------------------------------------------------------------


def chunks(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of the top-level chunks of MP4, PNG and RIFF files, and of the MP4 boxes inside containers."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _walk(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
    if data[:4] == b"RIFF":
        return _walk(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1 & ~1))
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return _boxes(data, 0, len(data))
    return []


def _walk(data: bytes, start: int, length: Callable[[int], int]) -> list[tuple[int, int]]:
    found = []
    while start + 8 <= len(data) and len(found) < 400:
        end = min(len(data), start + max(8, length(start)))
        found.append((start, end))
        start = end
    return found


def _boxes(data: bytes, start: int, end: int) -> list[tuple[int, int]]:
    found = []
    while start + 8 <= end and len(found) < 400:
        size = int.from_bytes(data[start : start + 4], "big")
        stop = min(end, start + max(8, size))
        found.append((start, stop))
        if data[start + 4 : start + 8] in (
            b"moov",
            b"trak",
            b"mdia",
            b"minf",
            b"stbl",
            b"moof",
            b"traf",
            b"edts",
        ):
            found += _boxes(data, start + 8, stop)
        start = stop
    return found


def swap_chunks(data: bytearray, rng: random.Random) -> bytearray:
    """Let two chunks change places, write one twice, or leave one out."""
    found = chunks(bytes(data))
    if len(found) < 2:
        return swap_blocks(data, rng)
    (a, b), (c, d) = sorted(rng.sample(found, 2))
    how = rng.randrange(3)
    if how == 0 and b <= c:
        return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]
    if how == 1:
        return data[:b] + data[a:b] + data[b:]
    return data[:a] + data[b:]


def chunk_length(data: bytearray, rng: random.Random) -> bytearray:
    """Write another length into the head of a chunk."""
    found = chunks(bytes(data))
    if not found:
        return integer(data, rng)
    start, end = rng.choice(found)
    at, order = (start + 4, "little") if data[:4] == b"RIFF" else (start, "big")
    near = (end - start + rng.choice((-9, -8, -1, 1, 8, 100))) & 0xFFFFFFFF
    value = rng.choice((*(n & 0xFFFFFFFF for n in INTEGERS), near, near, near))
    data[at : at + 4] = value.to_bytes(4, "little" if order == "little" else "big")
    return data


def field(data: bytearray, rng: random.Random) -> bytearray:
    """Write a limit into the payload of one chunk; of PNG with a checksum that fits, so that it is believed."""
    found = chunks(bytes(data))
    if not found:
        return integer(data, rng)
    start, end = rng.choice(found)
    first, last = start + 8, max(start + 9, min(end, start + 8 + 200))
    at, size = rng.randrange(first, last), rng.choice((1, 2, 4))
    data[at : at + size] = (rng.choice(INTEGERS) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    if data[:4] == b"\x89PNG" and end - start >= 12 and end <= len(data):
        data[end - 4 : end] = struct.pack(">I", zlib.crc32(bytes(data[start + 4 : end - 4])))
    return data


def mutate_bytes(
    data: bytes, rng: random.Random, others: list[bytes], special: tuple[Mutation, ...] = ()
) -> tuple[bytes, list[str]]:
    """Apply one to three mutations.

    Args:
        data: a valid file.
        rng: decides everything.
        others: further valid files, for splices.
        special: mutations that know this kind of file; every fourth is one of them.

    Returns:
        The broken file, at most `MAX_BYTES` long, and the names of what was done.
    """
    broken, done = bytearray(data), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not broken:
            break
        if rng.random() < 0.07:
            other = rng.choice(others)
            cut, to = rng.randrange(len(broken)), rng.randrange(len(other))
            broken, name = broken[:cut] + bytearray(other[to:]), "splice"
        else:
            general = (*BLIND, swap_chunks, chunk_length, field, field, flip)
            mutation = rng.choice(special if special and rng.random() < 0.25 else general)
            broken, name = mutation(broken, rng), mutation.__name__
        done.append(name)
        broken = broken[:MAX_BYTES]
    return bytes(broken), done


# -- texts -----------------------------------------------------------------------------------------------------------


def mutate_json(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """Change, drop, add or rename one to three entries anywhere in a JSON file."""
    tree = json.loads(data)
    done = [_mutate_tree(tree, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    return json.dumps(tree).encode("utf-8", "surrogatepass"), done


def _mutate_tree(tree: Any, rng: random.Random) -> str:
    places = [(node, key) for node in _nodes(tree) for key in _keys(node)]
    if not places:
        return "nothing"
    node, key = rng.choice(places)
    how = rng.choice(("value", "value", "value", "drop", "scale", "copy", "deep"))
    if how == "drop":
        del node[key]
    elif how == "scale" and isinstance(node[key], (int, float)):
        node[key] = node[key] * rng.choice((-1, 0, 2, 3, 0.5, 1000))
    elif how == "copy":
        other, where = rng.choice(places)
        node[key] = json.loads(json.dumps(other[where]))
    elif how == "deep":
        node[key] = _nested(rng.choice((5, 60, 200)))
    else:
        node[key] = json.loads(json.dumps(rng.choice(VALUES)))  # a copy: it may be mutated in its turn
    return f"{how} {key}"[:60]


def _keys(node: Any) -> list[Any]:
    return list(node) if isinstance(node, dict) else list(range(len(node)))


def _nodes(tree: Any, depth: int = 0) -> list[Any]:
    if not isinstance(tree, (dict, list)) or depth > 12:
        return []
    below = tree.values() if isinstance(tree, dict) else tree[:60]
    return [tree, *(node for child in below for node in _nodes(child, depth + 1))]


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def mutate_template(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """Put something hostile into a template, or break its text."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng, [data])
    text, hostile = data.decode(), rng.choice(TEMPLATES)
    at = rng.choice((0, len(text), rng.randrange(len(text))))
    return (text[:at] + hostile + text[at:]).encode(), [f"template {TEMPLATES.index(hostile)}"]


def mutate_safetensors(data: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """Change the length of the header, an entry of it, or the tensors behind it."""
    length = int.from_bytes(data[:8], "little")
    how = rng.choice(("length", "header", "header", "entry", "tensors", "truncate", "bytes"))
    if how == "length":
        value = rng.choice((*INTEGERS, length - 1, length + 1, length * 2)) & ((1 << 64) - 1)
        return value.to_bytes(8, "little") + data[8:], [how]
    if how == "truncate":
        return data[: rng.choice((0, 4, 8, 100, length, rng.randrange(len(data))))], [how]
    if how == "tensors":
        broken = bytearray(data)
        at = rng.randrange(8 + length, len(data))
        broken[at : at + 4096] = rng.randbytes(len(broken[at : at + 4096]))
        return bytes(broken), [how]
    if how == "bytes":
        head, done = mutate_bytes(data[: 8 + length], rng, [data[: 8 + length]])
        return head + data[8 + length :], done
    header = json.loads(data[8 : 8 + length])
    done = []
    if how == "entry":
        name = rng.choice(list(header))
        header[rng.choice(("other.weight", name + "x", ""))] = header.pop(name)
        done = [f"rename {name}"]
    else:
        done = [_mutate_tree(header, rng)]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :], done
