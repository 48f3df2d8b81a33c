"""Windows of a text: where those of each batch start, as pure functions, and the cutting."""

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
MOST_SHUFFLED = 2**20  # places


def random_offsets(seed: int, batch: int, windows: int, size: int) -> np.ndarray:
    """Where the windows of a training batch start: a pure function of its arguments.

    Args:
        seed: The run's seed.
        batch: Number of the batch since the start of training.
        windows: Number of places where a window can start.
        size: Windows in the batch, over all devices.

    Returns:
        Offsets (size,), each at least 0 and below `windows`, drawn with replacement.
    """
    return np.random.default_rng((seed, batch)).integers(windows, size=size)


def fixed_windows(seed: int, windows: int) -> Callable[[np.ndarray], np.ndarray]:
    """An order in which to evaluate windows that lie side by side, each once.

    It is a permutation by the seed; of more windows than `MOST_SHUFFLED`, which would take memory as they grow, every
    second, third, ... is permuted, then come their neighbours in the same order, then the neighbours' neighbours, and
    at last the few that are left over.

    Args:
        seed: The run's seed.
        windows: Number of windows.

    Returns:
        A function from places in the order (n,) to windows (n,), both counted from 0.
    """
    stride = -(-windows // MOST_SHUFFLED)
    shuffled = np.random.default_rng(seed).permutation(windows // stride)
    number = len(shuffled)

    def window(place: np.ndarray) -> np.ndarray:
        return np.where(place < number * stride, shuffled[place % number] * stride + place // number, place)

    return window


def train_offsets(
    batch: int, *, seed: int, windows: int, repeated: int | None, batch_size: int, rank: int, devices: int
) -> Iterator[np.ndarray]:
    """A device's share of every batch from number `batch` on, or of the first `repeated` again and again.

    Yields:
        Offsets (batch_size,), without end.
    """
    first = rank * batch_size
    for number in count(batch):
        drawn = number if repeated is None else number % repeated
        yield random_offsets(seed, drawn, windows, devices * batch_size)[first : first + batch_size]


def windows_in(batch: Batch) -> int:
    """How many windows a batch has; for ThroughputMonitor."""
    return len(batch[0])


def characters_in(batch: Batch) -> int:
    """How many characters a batch trains on; for ThroughputMonitor."""
    return batch[0].numel()


def eval_offsets(
    batch: int, *, seed: int, windows: int, block_size: int, limit: int | None, batch_size: int, rank: int, devices: int
) -> Iterator[np.ndarray]:
    """A device's share of the first `limit` batches, or of all, from number `batch` on.

    Every device has as many batches; in the last the shares may differ, and be empty.
    """
    size = batch_size * devices
    taken = windows if limit is None else min(limit * size, windows)
    window = fixed_windows(seed, windows)
    for first in range(batch * size, taken, size):
        yield window(np.arange(first, min(first + size, taken))[rank::devices]) * block_size


class MappedIds:
    """Ids in a file, which stays mapped: whoever deletes it takes nothing away from a run.

    Pages that were touched would count as the process's memory, up to the whole file's, so each cut lets them go.

    Args:
        path: The file (N,).
        dtype: The type of its ids.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path = path
        self.dtype = dtype
        with path.open("rb") as file:
            self.mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __reduce__(self) -> tuple[type["MappedIds"], tuple[Path, np.dtype[Any]]]:
        """For a worker that is spawned: it maps the file itself."""
        return MappedIds, (self.path, self.dtype)

    def cut(self, offsets: np.ndarray, length: int) -> Tensor:
        """The windows that start at offsets (B,): ids (B, length), int64."""
        ids = np.frombuffer(self.mapping, self.dtype)[offsets[:, None] + np.arange(length)]
        if sys.platform != "win32":  # which takes pages back by itself
            self.mapping.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(ids).long()


def cut_from_tensor(ids: Tensor, offsets: np.ndarray, length: int) -> Tensor:
    """Cuts windows out of ids (N,) on a device, to which only the offsets (B,) go: ids (B, T) there, int64."""
    return ids.unfold(0, length, 1)[torch.from_numpy(offsets).to(ids.device)].long()


class WindowBatches(IterableDataset[Batch]):
    """Cuts windows out of a split of a text, a whole batch at a time.

    Args:
        cut: Called with where in the text windows start (B,), and with their length; gives their ids (B, length).
        start: Where in the text the split starts.
        block_size: Length of a window (T).
        offsets: Called at each iteration with the number of the first batch; gives where the windows of each batch
            start in the split, (B,).
        batches_done: Called at each iteration; gives that number.

    Yields:
        Inputs (B, T) and targets (B, T), the targets one character ahead.
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
        """For a worker that is spawned: the number itself, because the trainer that tells it cannot be sent there."""
        return self.__dict__ | {"batches_done": partial(int, self.batches_done())}

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()  # each takes its turn, and the loader keeps the order
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for offsets in islice(self.offsets(self.batches_done()), first, None, step):
            windows = self.cut(self.start + offsets, self.block_size + 1)  # (B, T + 1)
            yield windows[:, :-1], windows[:, 1:]
