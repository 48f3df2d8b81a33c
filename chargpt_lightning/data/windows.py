"""Windows of a text: pure functions that choose where the windows of each batch start, and code that cuts them."""

import mmap
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

Batch = tuple[Tensor, Tensor]
MAX_SHUFFLED = 2**20  # windows


def random_offsets(seed: int, batch: int, windows: int, size: int) -> np.ndarray:
    """Draws where the windows of a training batch start, as a pure function of the arguments.

    Args:
        seed: Seed of the run.
        batch: Number of the batch, counted from 0 at the start of training.
        windows: Number of positions where a window can start.
        size: Number of windows in the batch, over all devices.

    Returns:
        Offsets (size,) from 0 to `windows` - 1, drawn with replacement.
    """
    return np.random.default_rng((seed, batch)).integers(windows, size=size)


def evaluation_order(seed: int, windows: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the order in which the adjacent windows of a split are evaluated, each once.

    The order is a random permutation. To limit its memory, at most `MAX_SHUFFLED` windows are permuted: of larger
    splits, every second (third, ...) window. The right neighbors of these follow in the same order, then the neighbors
    of those, and last the few windows that remain.

    Args:
        seed: Seed of the run.
        windows: Number of windows.

    Returns:
        Function from indices in this order (n,) to numbers of windows (n,), both counted from 0.
    """
    stride = -(-windows // MAX_SHUFFLED)
    shuffled = np.random.default_rng(seed).permutation(windows // stride)
    number = len(shuffled)

    def window(index: np.ndarray) -> np.ndarray:
        return np.where(index < number * stride, shuffled[index % number] * stride + index // number, index)

    return window


def train_offsets(
    batch: int, *, seed: int, windows: int, repeated: int | None, batch_size: int, rank: int, devices: int
) -> Iterator[np.ndarray]:
    """Yields a device's offsets in each training batch, from number `batch` on, without end.

    If `repeated` is given, the first `repeated` batches of the run are repeated forever.

    Yields:
        Offsets (batch_size,).
    """
    first = rank * batch_size
    for number in count(batch):
        drawn = number if repeated is None else number % repeated
        yield random_offsets(seed, drawn, windows, devices * batch_size)[first : first + batch_size]


def windows_in(batch: Batch) -> int:
    """Returns the number of windows in a batch; for ThroughputMonitor's `batch_size_fn`."""
    return len(batch[0])


def characters_in(batch: Batch) -> int:
    """Returns the number of characters in a batch; for ThroughputMonitor's `length_fn`."""
    return batch[0].numel()


def eval_offsets(
    batch: int, *, seed: int, windows: int, block_size: int, limit: int | None, batch_size: int, rank: int, devices: int
) -> Iterator[np.ndarray]:
    """Yields a device's offsets in each evaluation batch from number `batch` on, up to `limit` batches (None: all).

    All devices get the same number of batches; in the last one, devices may get fewer windows than others, or none.

    Yields:
        Offsets (up to batch_size,).
    """
    size = batch_size * devices
    end = windows if limit is None else min(limit * size, windows)
    window = evaluation_order(seed, windows)
    for first in range(batch * size, end, size):
        yield window(np.arange(first, min(first + size, end))[rank::devices]) * block_size


class MappedIds:
    """Ids in a memory-mapped file. The mapping stays valid if the file is deleted.

    Pages that have been read count as memory of the process, up to the size of the file, so each cut releases them.

    Args:
        path: File with the ids (N,).
        dtype: Dtype of the ids.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path = path
        self.dtype = dtype
        with path.open("rb") as file:
            self.mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __reduce__(self) -> tuple[type["MappedIds"], tuple[Path, np.dtype[Any]]]:
        """Pickles only the arguments, because a spawned worker has to map the file itself."""
        return MappedIds, (self.path, self.dtype)

    def cut(self, offsets: np.ndarray, length: int) -> Tensor:
        """Returns the windows that start at offsets (B,): ids (B, length), int64."""
        ids = np.frombuffer(self.mapping, self.dtype)[offsets[:, None] + np.arange(length)]
        if sys.platform != "win32":  # Windows has no madvise, and reclaims pages itself
            self.mapping.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(ids).long()


def cut_from_tensor(ids: Tensor, offsets: np.ndarray, length: int) -> Tensor:
    """Returns the windows that start at offsets (B,) in ids (N,) on a device: ids (B, length) there, int64."""
    return ids.unfold(0, length, 1)[torch.from_numpy(offsets).to(ids.device)].long()


class WindowBatches(IterableDataset[Batch]):
    """Dataset of batches of windows, cut from a split of a text.

    Args:
        cut: Maps offsets of windows in the text (B,) and their length to their ids (B, length).
        start: Position in the text where the split starts.
        block_size: Length of a window (T), in characters.
        offsets: Maps the number of the first batch to an iterable over batches: for each, the offsets of its windows
            in the split (B,). Called at each iteration over the dataset.
        batches_done: Returns the number of the first batch. Called at each iteration over the dataset.

    Yields:
        Inputs (B, T) and targets (B, T), which are the inputs shifted by one character.
    """

    def __init__(
        self,
        cut: Callable[[np.ndarray, int], Tensor],
        start: int,
        block_size: int,
        offsets: Callable[[int], Iterable[np.ndarray]],
        batches_done: Callable[[], int] = int,
    ) -> None:
        self.cut = cut
        self.start = start
        self.block_size = block_size
        self.offsets = offsets
        self.batches_done = batches_done

    def __getstate__(self) -> dict[str, Any]:
        """Replaces `batches_done` by its value, because the trainer behind it cannot be sent to a spawned worker."""
        return self.__dict__ | {"batches_done": partial(int, self.batches_done())}

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()  # workers take turns, and DataLoader keeps the order
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for offsets in islice(self.offsets(self.batches_done()), first, None, step):
            windows = self.cut(self.start + offsets, self.block_size + 1)  # (B, T + 1)
            yield windows[:, :-1], windows[:, 1:]
