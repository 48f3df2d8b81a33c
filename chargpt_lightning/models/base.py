"""Configuration and interface of all networks: ids (B, T) to logits (B, T, V)."""

from dataclasses import dataclass

from torch import Tensor, nn

from chargpt_lightning.models.attention import KVCache
from chargpt_lightning.utils.errors import ConfigError, require_at_most, require_positive

# Fields of GPTConfig that a checkpoint must contain, with their types.
SHAPE = {"block_size": int, "n_layer": int, "n_head": int, "n_embd": int, "bias": bool, "n_gram": int}

MAX_LAYERS = 10_000  # GPT-3 has 96
MAX_N_GRAM = 32  # longer ones hardly ever occur twice


@dataclass(frozen=True)
class GPTConfig:
    """Shape of the network.

    Args:
        vocab_size: Number of token ids (V).
        block_size: Maximum context length, in characters (largest T).
        n_layer: Number of blocks.
        n_head: Attention heads per block (H); must divide n_embd.
        n_embd: Width of the residual stream (C).
        dropout: Fraction of activations dropped in training, from 0 to below 1.
        bias: Whether linear layers and norms have biases.
        n_gram: Longest n-gram that is embedded, in characters; 1 embeds none.
        n_gram_dropout: Fraction of n-grams dropped in training, from 0 to below 1.

    Raises:
        ConfigError: If a size is below 1, n_layer is above 10,000, n_gram is above 32, n_head does not divide n_embd,
            or a dropout is out of range.
    """

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    bias: bool = False
    n_gram: int = 1
    n_gram_dropout: float = 0.0

    def __post_init__(self) -> None:
        require_positive(
            vocab_size=self.vocab_size,
            block_size=self.block_size,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            n_gram=self.n_gram,
        )
        require_at_most(MAX_LAYERS, n_layer=self.n_layer)
        require_at_most(MAX_N_GRAM, n_gram=self.n_gram)
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd ({self.n_embd}) must be divisible by n_head ({self.n_head})")
        for name in ("dropout", "n_gram_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} ({getattr(self, name)}) must be at least 0 and below 1")


class LanguageModel(nn.Module):
    """Base class of the networks: a transformer and a linear head that predicts the next character.

    Args:
        config: Shape of the network.
        transformer: Maps ids (B, T) to hidden states (B, T, C); its blocks are in `h`.
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

    def new_caches(self) -> list[KVCache]:
        """Returns empty caches for `next_logits`, one per block."""
        return [KVCache(self.config.block_size) for _ in range(self.config.n_layer)]

    def next_logits(self, ids: Tensor, caches: list[KVCache]) -> Tensor:
        """Predicts the next character of each text.

        Args:
            ids: The texts so far (B, T), of any length; at each further call, one character longer.
            caches: The texts' caches, from `new_caches`; updated in place.

        Returns:
            Logits (B, V).
        """
        raise NotImplementedError

    def flop_per_token(self) -> int:
        """Returns the floating-point operations per character in training, forward and backward: 6 N + 12 L C T.

        N is the number of weights of the linear layers: embeddings are looked up, not multiplied. Attention counts in
        full although half of it is masked, as in PaLM (Chowdhery et al. 2022, appendix B).
        """
        linear_weights = sum(part.weight.numel() for part in self.modules() if isinstance(part, nn.Linear))
        attention = self.config.n_layer * self.config.n_embd * self.config.block_size
        return 6 * linear_weights + 12 * attention
