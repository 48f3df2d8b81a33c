"""Names of the metrics that a run logs: keys of Lightning's metrics, and columns of metrics.csv."""

TRAIN_LOSS = "train/loss"
"""Mean loss of an update's batches on all devices, in nats per character."""
LR = "lr"
"""Learning rate of an update."""
GRAD_NORM = "grad_norm"
"""Norm of all gradients of an update, before clipping."""

EVALUATION_PREFIXES = ("val/", "train_eval/")
"""Prefixes of the metrics of an evaluation, one for each split."""
VAL_LOSS = "val/loss"
"""Mean loss on the val split, in nats per character."""
VAL_PERPLEXITY = "val/perplexity"
"""The exponential of the val loss."""
VAL_CHARACTERS = "val/characters"
"""Number of characters over which the val loss is a mean."""
TRAIN_EVAL_LOSS = "train_eval/loss"
"""Mean loss on windows of the train split, evaluated like the val split, in nats per character."""

TOKENS_PER_SECOND = "tokens_per_second"
"""Training speed of all devices together, in characters per second, without evaluations."""
MFU = "mfu"
"""Model FLOPs utilization: the fraction of a device's measured matmul rate that training reaches, 0 to 1."""
TIMING = (TOKENS_PER_SECOND, MFU)
"""The metrics that differ even between identical runs."""
