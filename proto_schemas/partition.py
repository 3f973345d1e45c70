"""Which of `count` instances of a pipeline owns a key: rendezvous hashing.

Each instance has a score for each key, and the highest wins. So the answer depends on the key and on `count`
alone: it is the same in every process, on every machine, after every restart (Python's own `hash` is not),
and an n-th instance takes over about one key in n, each from whoever had it, and no other key moves.

What is one key follows the language (`vpl.values.equal`), or a pipeline would see half of what it joins:

- numbers are equal by value: `1`, `1.0` and `1e0` are one key, `-0.0` is `0`;
- all else only with its own type: `1`, `"1"` and `true` are three keys;
- lists and maps item by item, a map in whatever order its keys came;
- null is a key, and a field that is missing counts as null, so keyless events have an owner too.
"""

from functools import cache
from hashlib import blake2b
from typing import Any, Final

from proto_schemas.subjects import ID_LENGTH

_BITS: Final = (1 << 64) - 1
_CACHED: Final = 65_536
"""Keys an `Owners` remembers; beyond that it begins anew."""


def instance_names(name: str, count: int) -> tuple[str, ...]:
    """The names of the instances of a pipeline: its own when there is one, else `{name}-0` and so on."""
    return (name,) if count == 1 else tuple(f"{name}-{number}" for number in range(count))


def share_name(name: str, share: int, shares: int) -> str:
    """What a share of a pipeline's events is called, which were cut into `shares`: as the instance was whose
    it was then. A number beyond them is that of an instance that came later."""
    return name if shares == 1 and share == 0 else f"{name}-{share}"


def longest_name(count: int) -> int:
    """How long the name of a pipeline with `count` instances may be."""
    return ID_LENGTH if count == 1 else ID_LENGTH - len(f"-{count - 1}")


class Owners:
    """The owners among `count` instances, with a memory for texts and integers that come again."""

    __slots__ = ("_known", "_seeds")

    def __init__(self, count: int) -> None:
        self._seeds = _seeds(count)
        self._known: dict[str | int, int] = {}

    def of(self, value: Any) -> int:
        """The number of the instance that owns the key `value`, from 0."""
        if value.__class__ is not str and value.__class__ is not int:
            return self._owner(value)
        known = self._known.get(value)
        if known is None:
            known = self._owner(value)
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[value] = known
        return known

    def _owner(self, value: Any) -> int:
        digest = int.from_bytes(blake2b(canonical(value), digest_size=8).digest(), "big")
        best, highest = 0, -1
        for number, seed in enumerate(self._seeds):
            score = _mixed(digest ^ seed)
            if score > highest:
                best, highest = number, score
        return best


@cache
def _seeds(count: int) -> tuple[int, ...]:
    return tuple(_mixed((number + 1) * 0x9E3779B97F4A7C15 & _BITS) for number in range(count))


def _mixed(bits: int) -> int:
    """The finalizer of splitmix64: every bit of the input moves half of the output."""
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & _BITS
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & _BITS
    return bits ^ (bits >> 31)


def canonical(value: Any) -> bytes:
    """The same bytes for equal keys, others for unlike ones; `value` is plain JSON data."""
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, float):
        if not value.is_integer():
            return b"d" + value.hex().encode()
        value = int(value)
    if isinstance(value, int):
        return b"i%x" % value
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(text), text)
    if isinstance(value, list):
        return b"[%b]" % b"".join(map(_sized, value))
    return b"{%b}" % b"".join(_sized(key) + _sized(value[key]) for key in sorted(value))


def _sized(value: Any) -> bytes:
    data = canonical(value)
    return b"%d:%b" % (len(data), data)
