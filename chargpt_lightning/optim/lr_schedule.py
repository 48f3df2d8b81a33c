"""The learning rate as a pure function of the step."""

import math
from typing import Literal

Decay = Literal["cosine", "linear"]


def learning_rate_at(
    step: int,
    *,
    learning_rate: float,
    min_lr: float,
    warmup_iters: int,
    lr_decay_iters: int,
    constant_iters: int = 0,
    lr_decay: Decay = "cosine",
) -> float:
    """Rises linearly to `learning_rate`, stays there, falls along half a cosine or a line to `min_lr`, and stays there.

    With w = warmup_iters, c = w + constant_iters, d = lr_decay_iters and p = (step - c) / (d - c):

        step < w        learning_rate * (step + 1) / (w + 1)     never 0, and below the peak until step w
        w <= step < c   learning_rate
        c <= step < d   min_lr + (learning_rate - min_lr) * (1 + cos(pi * p)) / 2, or * (1 - p)
        step >= d       min_lr

    The first line that holds counts: a warmup of d updates or more goes on past d and never reaches the peak, and what
    is left of constant_iters at step d is cut off.

    Args:
        step: Updates made so far; the value is for the next one.
        learning_rate: The peak, reached at step `warmup_iters`.
        min_lr: The end, reached at step `lr_decay_iters`.
        warmup_iters: Updates of warmup.
        lr_decay_iters: The step at which the decay ends, all before it counted in.
        constant_iters: Updates at the peak before the decay.
        lr_decay: The curve of the decay.

    Returns:
        The learning rate of update number `step`, counted from 0.

    The end points are nanoGPT's (its `get_lr`).
    """
    if step < warmup_iters:
        return learning_rate * (step + 1) / (warmup_iters + 1)
    if step >= lr_decay_iters:
        return min_lr
    start = warmup_iters + constant_iters
    if step < start:
        return learning_rate
    progress = (step - start) / (lr_decay_iters - start)  # 0 to 1
    left = (1 + math.cos(math.pi * progress)) / 2 if lr_decay == "cosine" else 1 - progress
    return min_lr + (learning_rate - min_lr) * left
