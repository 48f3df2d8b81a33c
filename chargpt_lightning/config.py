"""The shape of a network, whichever it is."""

from dataclasses import dataclass

from torch import Tensor

from chargpt_lightning.errors import ConfigError, require_at_least_one


@dataclass(frozen=True)
class GPTConfig:
    """The shape of the network.

    Args:
        vocab_size: Number of different ids (V).
        block_size: Longest context, in characters (T at most).
        n_layer: Number of blocks.
        n_head: Attention heads per block (H); must divide n_embd.
        n_embd: Width of the residual stream (C).
        dropout: Ratio of activations dropped in training, 0 up to but without 1.
        bias: Whether linear layers and norms have a bias.

    Raises:
        ConfigError: If a size is below 1, n_head does not divide n_embd, or dropout is no such ratio.
    """

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    bias: bool = False

    def __post_init__(self) -> None:
        require_at_least_one(
            vocab_size=self.vocab_size,
            block_size=self.block_size,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
        )
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd ({self.n_embd}) must be divisible by n_head ({self.n_head})")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout ({self.dropout}) must be at least 0 and below 1")

    def require_fits(self, ids: Tensor) -> None:
        """Checks that ids (B, T) are no longer than the context.

        Raises:
            ConfigError: If T is larger than block_size.
        """
        if ids.size(1) > self.block_size:
            raise ConfigError(f"ids ({ids.size(1)} characters) must not be longer than block_size ({self.block_size})")
