"""nanoGPT's character-level GPT as a PyTorch Lightning package."""

from importlib.metadata import PackageNotFoundError, version

from chargpt_lightning.data import CharDataModule
from chargpt_lightning.gpt import GPT
from chargpt_lightning.modern import ModernGPT
from chargpt_lightning.module import CharGPT
from chargpt_lightning.network import GPTConfig
from chargpt_lightning.vocab import CharVocab

__all__ = ["GPT", "CharDataModule", "CharGPT", "CharVocab", "GPTConfig", "ModernGPT"]

try:
    __version__ = version("chargpt_lightning")
except PackageNotFoundError:  # a clone on the path, not installed
    __version__ = "0+unknown"
