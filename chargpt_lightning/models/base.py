"""What every network here has: its shape, and its face."""

from dataclasses import dataclass

from torch import Tensor, nn

from chargpt_lightning.models.attention import Past
from chargpt_lightning.utils.errors import ConfigError, require_at_least_one

SHAPE = ("block_size", "n_layer", "n_head", "n_embd", "bias")  # fields of GPTConfig that a checkpoint must contain


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


class LanguageModel(nn.Module):
    """What the networks here have in common: a transformer, and a head that reads the next character off it.

    Args:
        config: The shape.
        transformer: Ids (B, T) to what is known of each position, (B, T, C); its blocks are `h`.
    """

    def __init__(self, config: GPTConfig, transformer: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.transformer = transformer
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Predicts the next character at every position.

        Args:
            ids: Token ids (B, T), T at most block_size.

        Returns:
            Logits (B, T, V).

        Raises:
            ConfigError: If T is larger than block_size.
        """
        if ids.size(1) > self.config.block_size:
            raise ConfigError(
                f"ids ({ids.size(1)} characters) must not be longer than block_size ({self.config.block_size})"
            )
        return self.lm_head(self.transformer(ids))

    def new_pasts(self) -> list[Past]:
        """What `next_logits` keeps of texts between two calls, a Past for each block, empty."""
        return [Past(self.config.block_size) for _ in range(self.config.n_layer)]

    def next_logits(self, ids: Tensor, pasts: list[Past]) -> Tensor:
        """Predicts the character that comes next.

        Args:
            ids: The texts so far (B, T), of any length, those of the last call and one character more.
            pasts: What `new_pasts` gave for these texts; it is brought up to date.

        Returns:
            Logits (B, V).
        """
        raise NotImplementedError
