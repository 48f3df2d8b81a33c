"""Mutates valid files inside their structure, for fuzzing: keys, types, shapes, nesting and lengths, or raw bytes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Pick = Callable[[int], int]  # a number from 0 to below its argument


def nested(depth: int) -> Any:
    """Tuples in tuples, whose hash takes 2**depth operations."""
    found: Any = ()
    for _ in range(depth):
        found = (found, found)
    return found


def deep(depth: int) -> list[Any]:
    """Lists in lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


PLAIN = (  # values that JSON and YAML have too
    *(None, True, False, 0, 1, -1, 2, 255, 65_536, 2**31, 2**40, 2**62, -(2**63), 2**63, 10**30),
    *(0.0, -1.0, 0.5, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "step", "\ud800", "\x00", "Ä" * 300, "auto", "gpt2", "modern", "tinyshakespeare", "/dev/zero"),
    *([], {}, [1], ["x"], [[]], {"x": 1}, [None, None], [{}], [{}, {}]),
)
OTHERS = (  # that a pickle has
    *((), (1, 2), nested(3), {0: 1}, {1.5: []}, {(1, 2): 3}, {None: None}, b"x", deep(300)),
    *(torch.zeros(()), torch.zeros(0), torch.ones(3), torch.full((2, 2), math.nan), torch.tensor(math.inf)),
    *(torch.zeros(2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.bool), torch.ones(2, dtype=torch.complex64)),
    *(torch.zeros(2, dtype=torch.float16), torch.zeros(2, 3, dtype=torch.float64), torch.eye(2).to_sparse()),
    *(torch.empty(10**12, device="meta"), torch.zeros(2, 0), torch.zeros([1] * 20), torch.nn.Parameter(torch.ones(1))),
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the paths of all parts of nested dicts, lists and tuples."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, part in items for place in places(part, (*path, key)))]


def part_at(content: Any, path: tuple[Any, ...]) -> Any:
    """Returns the part at a path."""
    for key in path:
        content = content[key]
    return content


def replaced(content: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Returns a copy in which `change` maps the part at a path to another one; None as a key's change deletes it."""
    if not path:
        return change(content)
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = replaced(copy[path[0]], path[1:], change)
    return copy


def mutated(content: Any, pick: Pick, values: tuple[Any, ...] = PLAIN) -> Any:
    """Returns a copy of nested dicts and lists with one to three changes."""
    for _ in range(1 + pick(3)):
        content = _mutated_once(content, pick, values)
    return content


def _mutated_once(content: Any, pick: Pick, values: tuple[Any, ...]) -> Any:
    path = _chosen(content, pick)
    part = part_at(content, path)
    kind = pick(6)
    if kind == 0 and isinstance(part, dict | list) and part:
        key = list(part)[pick(len(part))] if isinstance(part, dict) else pick(len(part))
        return replaced(content, path, lambda old: _without(old, key))
    if kind == 1 and isinstance(part, dict) and part:
        key, new = list(part)[pick(len(part))], values[pick(len(values))]
        new = new if isinstance(new, str | int | float | None) else "new"
        return replaced(content, path, lambda old: {new if name == key else name: at for name, at in old.items()})
    if kind == 2:
        other = part_at(content, _chosen(content, pick))
        return replaced(content, path, lambda old: other)
    if kind == 3 and isinstance(part, int | float | Tensor | str | list):
        return replaced(content, path, lambda old: _altered(old, pick))
    value = values[pick(len(values))]
    return replaced(content, path, lambda old: value)


def _chosen(content: Any, pick: Pick) -> tuple[Any, ...]:
    """Descends to a random part: every level is as likely, however many parts it has."""
    path: tuple[Any, ...] = ()
    while isinstance(content, dict | list) and content and (not path or pick(4)):
        key = list(content)[pick(len(content))] if isinstance(content, dict) else pick(len(content))
        path, content = (*path, key), content[key]
    return path


def _without(part: Any, key: Any) -> Any:
    if isinstance(part, dict):
        return {name: value for name, value in part.items() if name != key}
    return [value for number, value in enumerate(part) if number != key]


def _altered(value: Any, pick: Pick) -> Any:
    """Returns a value like this one: a neighboring number, a longer list, a tensor of another shape or dtype."""
    if isinstance(value, Tensor):
        changes: list[Callable[[Tensor], Tensor]] = [
            *(lambda t: t[:0], lambda t: t.flatten(), lambda t: t[None], lambda t: t.T if t.dim() == 2 else t),
            *(lambda t: t * math.nan, lambda t: t.to(torch.int32), lambda t: t.half(), lambda t: t.to(torch.bool)),
            lambda t: t.repeat(*([2] * t.dim())),
        ]
        return changes[pick(len(changes))](value) if value.dim() else value * math.nan
    if isinstance(value, str | list):
        return [value[: len(value) // 2], value * 2, value[::-1]][pick(3)]
    return [value + 1, -value, value * 1000, float(value), str(value)][pick(5)]


def damaged(raw: bytes, pick: Pick) -> bytes:
    """Returns bytes with one to three changes: cut off, overwritten, repeated or inserted."""
    for _ in range(1 + pick(3)):
        start = pick(len(raw) + 1)
        end = min(len(raw), start + pick(20))
        new = [b"", bytes([pick(256)]), raw[start:end] * 3, b"\xff\xff\xff\xff", b"[" * 3000, b"\n", b'"', b"9" * 50]
        raw = raw[:start] + new[pick(len(new))] + raw[end:] if pick(8) else raw[:start]
    return raw
