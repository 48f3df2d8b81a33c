"""Checks that loading a checkpoint's archive runs no code, and takes no more memory and time than its size requires."""

import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAMES = re.compile(  # that plain values and tensors need; others can expand a few bytes to any size
    r"collections OrderedDict|__builtin__ complex|torch (device|bool|[a-z]+\d+\w*|\w+Storage)|torch\._utils "
    r"_rebuild_(tensor_v2|parameter)"
)
SCALARS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
SHORT_TUPLE = "TUPLE of scalars"
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
        (pickled,) = (member for member in members if member.filename.endswith("/data.pkl"))
        return _is_harmless_pickle(archive.read(pickled))


def is_plain(content: Any) -> bool:
    """Whether content is of limited depth and number of parts, and its tensors are as large as their storage."""
    level, parts = [content], 0
    for _ in range(MAX_DEPTH):
        parts += len(level)
        if parts > MAX_PARTS or not all(_is_plain_tensor(part) for part in level if isinstance(part, Tensor)):
            return False
        containers = (part for part in level if isinstance(part, dict | list | tuple))
        level = [item for part in containers for item in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return True
    return False


def _is_plain_tensor(tensor: Tensor) -> bool:
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.numel() * tensor.itemsize <= tensor.untyped_storage().nbytes()
    )


def _is_harmless_pickle(pickled: bytes) -> bool:
    """Whether a pickle uses only NAMES, and expands and hashes nothing large many times.

    Follows the pickle's stack, on which each object is represented by the opcode that made it. As keys only scalars and
    short tuples of these are accepted: a nested tuple can take forever to hash.
    """
    stack: list[str] = []
    memo: dict[Any, str] = {}
    before = ""
    for code, arg, _ in pickletools.genops(pickled):
        taken = _take(stack, [kind.name for kind in code.stack_before])
        if not _is_harmless_opcode(code.name, arg, taken, before):
            return False
        if code.name in ("BINPUT", "LONG_BINPUT"):
            memo[arg] = stack[-1]
        elif code.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif code.stack_after:
            short = code.name in ("TUPLE1", "TUPLE2", "TUPLE3") and SCALARS.issuperset(taken)
            stack.append(SHORT_TUPLE if short else f"GLOBAL {arg}" if code.name == "GLOBAL" else code.name)
        before = code.name
    return True


def _take(stack: list[str], kinds: list[str]) -> list[str]:
    """Removes an opcode's arguments from the stack and returns them; `mark` stands for all above the last MARK."""
    start = len(stack) - len(kinds)
    if "mark" in kinds:
        start = len(stack) - 1 - stack[::-1].index("MARK") - kinds.index("mark")
    taken = stack[start:]
    del stack[start:]
    return taken


def _is_harmless_opcode(name: str, arg: Any, taken: list[str], before: str) -> bool:
    """Whether an opcode is harmless with these arguments, after the opcode `before`."""
    match name:
        case "GLOBAL":
            return NAMES.fullmatch(arg) is not None
        case "LONG1":  # a million larger numbers can have the same hash
            return abs(arg) < 2**64
        case "SETITEM" | "SETITEMS":
            return {*SCALARS, SHORT_TUPLE}.issuperset(taken[1:2] if name == "SETITEM" else taken[2::2])
        case "REDUCE":  # copying one list into many dicts would expand it
            return taken[0] != "GLOBAL collections OrderedDict" or taken[1] == "EMPTY_TUPLE"
        case "BUILD":
            return before not in ("BINGET", "LONG_BINGET")
    return True
