"""Windows of a text: where those of each batch start, as pure functions, and the cutting."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

Batch = tuple[Tensor, Tensor]


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


def fixed_offsets(seed: int, windows: int, block_size: int) -> np.ndarray:
    """Where windows that lie side by side start, in an order of the seed's: offsets (windows,)."""
    return np.random.default_rng(seed).permutation(windows) * block_size


def train_offsets(
    batch: int, *, seed: int, windows: int, batch_size: int, rank: int, devices: int
) -> Iterator[np.ndarray]:
    """A device's share of every batch from number `batch` on: offsets (batch_size,) each, without end."""
    first = rank * batch_size
    for number in count(batch):
        yield random_offsets(seed, number, windows, devices * batch_size)[first : first + batch_size]


def eval_offsets(
    batch: int, *, seed: int, windows: int, block_size: int, limit: int | None, batch_size: int, rank: int, devices: int
) -> Iterator[np.ndarray]:
    """A device's share of the first `limit` batches, or of all, from number `batch` on.

    Every device has as many batches; in the last the shares may differ, and be empty.
    """
    size = batch_size * devices
    offsets = fixed_offsets(seed, windows, block_size)[: None if limit is None else limit * size]
    for first in range(batch * size, len(offsets), size):
        yield offsets[first : first + size][rank::devices]


class WindowBatches(IterableDataset[Batch]):
    """Cuts windows out of a text, a whole batch at a time.

    Args:
        ids: The text (N,).
        block_size: Length of a window (T).
        offsets: Called at each iteration with the number of the first batch; gives where the windows of each batch
            start, (B,).
        batches_done: Called at each iteration; gives that number.

    Yields:
        Inputs (B, T) and targets (B, T), the targets one character ahead.
    """

    def __init__(
        self,
        ids: Tensor,
        block_size: int,
        offsets: Callable[[int], Iterable[np.ndarray]],
        batches_done: Callable[[], int] = int,
    ) -> None:
        self.ids = ids
        self.offsets = offsets
        self.batches_done = batches_done
        self.span = torch.arange(block_size + 1)

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is spawned: the number itself, because the trainer that tells it cannot be sent there."""
        return self.__dict__ | {"batches_done": partial(int, self.batches_done())}

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()  # each takes its turn, and the loader keeps the order
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for offsets in islice(self.offsets(self.batches_done()), first, None, step):
            windows = self.ids[torch.from_numpy(offsets)[:, None] + self.span]  # (B, T + 1)
            yield windows[:, :-1], windows[:, 1:]
