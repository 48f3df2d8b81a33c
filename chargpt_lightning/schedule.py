"""The learning rate as a pure function of the step."""

import math


def learning_rate_at(
    step: int, *, learning_rate: float, min_lr: float, warmup_iters: int, lr_decay_iters: int
) -> float:
    """Rises linearly to `learning_rate`, falls along half a cosine to `min_lr`, and stays there.

    With w = warmup_iters and d = lr_decay_iters:

        step < w        learning_rate * (step + 1) / (w + 1)     never 0, and below the peak until step w
        w <= step <= d  min_lr + (learning_rate - min_lr) * (1 + cos(pi * (step - w) / (d - w))) / 2
        step > d        min_lr

    Args:
        step: Updates made so far; the value is for the next one.
        learning_rate: The peak, reached at step `warmup_iters`.
        min_lr: The end, reached at step `lr_decay_iters`.
        warmup_iters: Updates of warmup.
        lr_decay_iters: The step at which the decay ends, the warmup counted in.

    Returns:
        The learning rate of update number `step`, counted from 0.

    The end points are nanoGPT's (its `get_lr`).
    """
    if step < warmup_iters:
        return learning_rate * (step + 1) / (warmup_iters + 1)
    if step >= lr_decay_iters:
        return min_lr
    progress = (step - warmup_iters) / (lr_decay_iters - warmup_iters)  # 0 to 1
    return min_lr + (learning_rate - min_lr) * (1 + math.cos(math.pi * progress)) / 2
