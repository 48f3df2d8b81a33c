"""Learning rate schedule, a pure function of the step."""

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
    """Returns the learning rate of an update: linear warmup, constant phase, cosine or linear decay, then `min_lr`.

    With w = warmup_iters, c = w + constant_iters, d = lr_decay_iters and p = (step - c) / (d - c):

        step < w        learning_rate * (step + 1) / (w + 1)     never 0; the peak is reached at step w
        w <= step < c   learning_rate
        c <= step < d   min_lr + (learning_rate - min_lr) * (1 + cos(pi * p)) / 2, or * (1 - p)
        step >= d       min_lr

    The first matching line applies: if w >= d, the warmup continues past d and never reaches the peak; a constant phase
    is cut off at step d.

    Args:
        step: Number of updates made before this one.
        learning_rate: Peak learning rate, reached at step `warmup_iters`.
        min_lr: Final learning rate, reached at step `lr_decay_iters`.
        warmup_iters: Number of warmup updates.
        lr_decay_iters: Step at which the decay ends, counted from the start of training.
        constant_iters: Number of updates at the peak, between warmup and decay.
        lr_decay: Shape of the decay.

    Returns:
        Learning rate of update number `step`, counted from 0. The end points are those of nanoGPT's `get_lr`.
    """
    if step < warmup_iters:
        return learning_rate * (step + 1) / (warmup_iters + 1)
    if step >= lr_decay_iters:
        return min_lr
    start = warmup_iters + constant_iters
    if step < start:
        return learning_rate
    progress = (step - start) / (lr_decay_iters - start)  # 0 to 1
    remaining = (1 + math.cos(math.pi * progress)) / 2 if lr_decay == "cosine" else 1 - progress
    return min_lr + (learning_rate - min_lr) * remaining
