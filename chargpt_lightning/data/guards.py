"""Refuses networks and trainers that a text cannot be used with; in Python nothing else checks them."""

import reprlib  # shortens a long alphabet

import lightning as L

from chargpt_lightning.utils.errors import ConfigError


def require_same_alphabet(module: L.LightningModule, alphabet: str) -> None:
    """Checks that a network uses the ids of this alphabet, unless the module has no alphabet.

    Raises:
        ConfigError: If its alphabet is another.
    """
    has = module.hparams.get("alphabet", alphabet)
    if has != alphabet:
        raise ConfigError(
            f"alphabet of the network ({reprlib.repr(has)}) must be the text's ({reprlib.repr(alphabet)}): create "
            "CharGPT(data.alphabet), or CharDataModule(text, alphabet=model.hparams.alphabet) for a trained network"
        )


def require_an_end(trainer: L.Trainer) -> None:
    """Checks that training ends, although its batches do not; `max_epochs=-1` is endless on purpose.

    Raises:
        ConfigError: If it is to end after a number of epochs, and these never end.
    """
    limits = (trainer.limit_train_batches, trainer.overfit_batches)  # type: ignore[attr-defined]
    epochs_end = any(isinstance(limit, int) and limit for limit in limits)
    if trainer.max_steps == -1 and trainer.max_epochs != -1 and not epochs_end:
        raise ConfigError(
            f"Trainer(max_epochs={trainer.max_epochs}) would never end, because training windows never end: give "
            "max_steps, or max_epochs=-1 to train until max_time or a callback ends it"
        )
