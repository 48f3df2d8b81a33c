"""How much is measured."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sizes:
    """The defaults take about 70 minutes on two cores."""

    rounds: int = 5  # of what takes seconds
    long_rounds: int = 3  # of what takes minutes
    steps: int = 100  # of a loop or a command whose step is timed
    process_steps: int = 2000  # of the whole recipe, which evaluates eight times on its way
    fast_steps: int = 100  # of the fast recipe
    changes: int | None = None  # of it that are tried, the first of which is none; None is all
    seeds: int = 10  # whose exact losses are shown
    samples: int = 10
    characters: dict[int, int] = field(default_factory=lambda: {64: 500, 256: 250})  # of a sample, by block size
    texts_mb: tuple[int, ...] = (1, 16, 256, 2048)
    doublings: int = 2  # of batch, width and block size


QUICK = Sizes(
    1, 1, steps=40, process_steps=24, fast_steps=24, changes=2, seeds=1,
    samples=2, characters={64: 20, 256: 20}, texts_mb=(1,), doublings=1,
)  # fmt: skip
