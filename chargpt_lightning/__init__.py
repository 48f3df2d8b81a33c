"""nanoGPT's character-level GPT as a PyTorch Lightning package."""

from chargpt_lightning.data import windows as windows  # settings of earlier versions refer to chargpt_lightning.windows
from chargpt_lightning.datamodule import CharDataModule
from chargpt_lightning.models.base import GPTConfig
from chargpt_lightning.models.gpt import GPT
from chargpt_lightning.models.modern import ModernGPT
from chargpt_lightning.module import CharGPT
from chargpt_lightning.utils.console import VERSION
from chargpt_lightning.vocab import CharVocab

__all__ = ["GPT", "CharDataModule", "CharGPT", "CharVocab", "GPTConfig", "ModernGPT"]

__version__ = VERSION
