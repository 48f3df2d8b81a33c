"""Checks that loading a checkpoint's archive runs no code, and takes no more memory and time than its size requires."""

import io
import math
import pickle
import pickletools
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

NAMES = re.compile(  # that plain values and tensors need; others can expand a few bytes to any size
    r"collections (OrderedDict|Counter)|__builtin__ (complex|set)|torch (Size|device|bool|[a-z]+\d+\w*|\w+Storage)|"
    r"torch\._utils _rebuild_(tensor_v2|parameter)"
)
MAX_DEPTH = 100  # of containers in containers; Python's recursion is limited to 1000
MAX_PARTS = 2_000_000  # counted each time they occur; a checkpoint has a few thousand


def is_harmless(path: Path) -> bool:
    """Whether an archive's checksums match, and loading it needs neither code nor more memory than the file's size.

    torch.load checks neither checksums nor whether a member is a directory. torch.save compresses nothing, and does
    not write objects that a few bytes can expand to any size: bytearrays, tensors given by their size, encoded strings.

    Raises:
        Exception: If the file is damaged; the type depends on where.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        plain = all(member.compress_type == zipfile.ZIP_STORED and not member.external_attr for member in members)
        if not plain or sum(member.file_size for member in members) > path.stat().st_size or archive.testzip():
            return False
    return _is_harmless_pickle(_pickle_in(path))


def archive_of(content: Any) -> io.BytesIO | None:
    """Returns content as torch.save writes it; None if it has objects that is_harmless or is_plain would refuse."""
    archive = io.BytesIO()
    try:
        torch.save(content, archive)
    except (AttributeError, TypeError, pickle.PicklingError):  # a lambda, a lock, ...
        return None
    return archive if _is_harmless_pickle(_pickle_in(archive)) and is_plain(content) else None


def _pickle_in(archive: Path | IO[bytes]) -> bytes:
    with zipfile.ZipFile(archive) as members:
        (name,) = (name for name in members.namelist() if name.endswith("/data.pkl"))
        return members.read(name)


def is_plain(content: Any) -> bool:
    """Whether content is of limited depth and number of parts, and its tensors are as large as their storage."""
    level, parts = [content], 0
    for _ in range(MAX_DEPTH):
        parts += len(level)
        if parts > MAX_PARTS or not all(_is_plain_tensor(part) for part in level if isinstance(part, Tensor)):
            return False
        containers = (part for part in level if isinstance(part, dict | list | tuple | set))
        level = [item for part in containers for item in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return True
    return False


def _is_plain_tensor(tensor: Tensor) -> bool:
    return (
        tensor.layout == torch.strided
        and not tensor.is_meta
        and tensor.numel() * tensor.itemsize <= tensor.untyped_storage().nbytes()
    )


@dataclass(eq=False)
class _Part:
    """An object on a pickle's stack, with everything in it.

    Args:
        size: Number of objects and characters, counted each time they occur.
        depth: Levels of containers.
    """

    size: float = 0.0
    depth: int = 0


MARK = _Part()  # below the arguments of an opcode that takes any number of them


def _is_harmless_pickle(pickled: bytes) -> bool:
    """Whether a pickle uses only NAMES, and neither hashes nor copies more than MAX_PARTS.

    Follows the pickle's stack: an object that is pickled once can occur in itself millions of times.
    """
    stack: list[_Part] = []
    memo: dict[Any, _Part] = {}
    work = 0.0
    for code, arg, _ in pickletools.genops(pickled):
        taken = _take(stack, [kind.name for kind in code.stack_before])
        work += sum(part.size for part in _hashed_or_copied(code.name, taken))
        if (code.name == "GLOBAL" and not NAMES.fullmatch(str(arg))) or work > MAX_PARTS:
            return False
        if code.name in ("BINPUT", "LONG_BINPUT"):
            memo[arg] = stack[-1]
        elif code.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif code.stack_after:
            stack.append(_made(code.name, arg, taken))
        if stack and stack[-1].depth > MAX_DEPTH:
            return False
    return True


def _take(stack: list[_Part], kinds: list[str]) -> list[_Part]:
    """Removes an opcode's arguments from the stack and returns them; `mark` stands for all above the last MARK."""
    start = len(stack) - len(kinds)
    if "mark" in kinds:
        start = len(stack) - 1 - stack[::-1].index(MARK) - kinds.index("mark")
    taken = stack[start:]
    del stack[start:]
    return taken


def _hashed_or_copied(name: str, taken: list[_Part]) -> list[_Part]:
    """Returns those arguments of an opcode that it hashes, as keys, or copies."""
    match name:
        case "SETITEM":
            return taken[1:2]
        case "SETITEMS":
            return taken[2::2]
        case "REDUCE" | "BUILD":
            return taken[1:]
    return []


def _made(name: str, arg: Any, taken: list[_Part]) -> _Part:
    """Returns the object that an opcode makes of its arguments, or changes: its first one."""
    if name == "MARK":
        return MARK
    if not taken:
        endless = name == "LONG1" and abs(arg) >= 2**64  # a million larger numbers can have the same hash
        return _Part(math.inf if endless else len(arg) if name == "BINUNICODE" else 1)
    changes = name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD")
    made = taken[0] if changes else _Part()
    made.size = 1 + sum(part.size for part in taken)
    made.depth = max(made.depth, 1 + max(part.depth for part in taken[changes:]))
    return made
