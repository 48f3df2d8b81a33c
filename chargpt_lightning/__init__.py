"""nanoGPT's character-level GPT as a PyTorch Lightning package.

Names are imported when they are first used, because torch and Lightning take seconds: the command line must handle
Ctrl-C before that.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chargpt_lightning.data import windows as windows
    from chargpt_lightning.datamodule import CharDataModule
    from chargpt_lightning.models.base import GPTConfig
    from chargpt_lightning.models.gpt import GPT
    from chargpt_lightning.models.modern import ModernGPT
    from chargpt_lightning.module import CharGPT
    from chargpt_lightning.vocab import CharVocab

    __version__: str

__all__ = ["GPT", "CharDataModule", "CharGPT", "CharVocab", "GPTConfig", "ModernGPT"]

_DEFINED_IN = {
    "CharDataModule": "datamodule.CharDataModule",
    "CharGPT": "module.CharGPT",
    "CharVocab": "vocab.CharVocab",
    "GPT": "models.gpt.GPT",
    "GPTConfig": "models.base.GPTConfig",
    "ModernGPT": "models.modern.ModernGPT",
    "__version__": "utils.console.VERSION",
    "windows": "data.windows",  # settings of earlier versions refer to chargpt_lightning.windows
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _DEFINED_IN[name].rpartition(".")
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_DEFINED_IN})
