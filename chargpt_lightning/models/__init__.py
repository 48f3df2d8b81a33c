"""Neural networks, in plain torch."""

from typing import Literal, get_args

from chargpt_lightning.models.base import GPTConfig, LanguageModel
from chargpt_lightning.models.gpt import GPT
from chargpt_lightning.models.modern import ModernGPT
from chargpt_lightning.utils.errors import ConfigError

Architecture = Literal["gpt2", "modern"]


def build_network(architecture: Architecture, config: GPTConfig) -> LanguageModel:
    """Builds a network of an architecture.

    Raises:
        ConfigError: If there is no such architecture.
    """
    if architecture not in get_args(Architecture):
        raise ConfigError(f"architecture ({architecture}) must be one of {', '.join(get_args(Architecture))}")
    return GPT(config) if architecture == "gpt2" else ModernGPT(config)
