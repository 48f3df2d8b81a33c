"""Settings that all sections share: training text, working directory and sizes."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults need hours on two cores."""

    rounds: int = 5  # of measurements that take seconds
    long_rounds: int = 3  # of measurements that take minutes
    products: int = 15  # of large matrices, whose median is the rate
    steps: int = 100  # of a loop or a command whose step is timed
    process_steps: int = 2000  # of the recipe, which evaluates after each eighth of them
    changes: int | None = None  # changes to the fast recipe, counting the unchanged recipe; None is all
    seeds: dict[str, int] = field(  # of each recipe of the ladder
        default_factory=lambda: {"shakespeare_char_fast": 20, "shakespeare_char_better": 5, "shakespeare_char_best": 5}
    )
    rung_steps: int | None = None  # of each of these recipes; None is its own
    samples: int = 10
    characters: dict[int, int] = field(default_factory=lambda: {64: 500, 256: 250})  # in a sample, by block size
    written: int = 2000  # characters of a text on the page of `play`, which writes no more
    texts_mb: tuple[int, ...] = (1, 16, 256, 2048)
    doublings: int = 2  # of batch size, width and block size


QUICK = Sizes(
    1, 1, products=2, steps=24, process_steps=16, changes=2,
    seeds={"shakespeare_char_fast": 1, "shakespeare_char_better": 1, "shakespeare_char_best": 1},
    rung_steps=16, samples=2, characters={64: 20, 256: 20}, written=300, texts_mb=(1,), doublings=1,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Files and sizes that all sections use."""

    work: Path  # a directory that is deleted at the end
    text: Path  # the training text, a file in `work`
    nanogpt: Path | None  # a checkout with data/shakespeare_char prepared
    sizes: Sizes
