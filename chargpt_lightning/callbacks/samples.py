"""Samples: as `predict` writes them, and at each evaluation for loggers that take text."""

from dataclasses import replace
from textwrap import indent
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from chargpt_lightning.sampling import SampleConfig, continue_prompt
from chargpt_lightning.vocab import CharVocab

MOST_CHARACTERS = 200  # a few lines, for an evaluation to stay short


class SampleWriter(Callback):
    """Writes samples to stdout, the first as it is drawn, the others below it, with a line of dashes between two."""

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: tuple[list[int], Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Begins the first sample with the prompt (T,)."""
        vocab = CharVocab(pl_module.hparams["alphabet"])
        _write(vocab.decode(batch[1]))
        pl_module.on_drawn = lambda ids: _write(vocab.decode(ids[:1]))  # type: ignore[assignment]

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor,
        batch: tuple[list[int], Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Decodes the ids (B, T) of the others."""
        vocab = CharVocab(pl_module.hparams["alphabet"])
        _write("\n")
        for ids in outputs[1:]:
            _write(f"---------------\n{vocab.decode(ids)}\n")


def _write(text: str) -> None:
    print(text, end="", flush=True)


def takes_text(logger: object) -> bool:
    """Whether a logger can show samples."""
    return isinstance(logger, (TensorBoardLogger, WandbLogger))


class Samples(Callback):
    """Logs at each evaluation how the network continues the prompt by now, where a logger takes text.

    Args:
        sampling: How it is drawn, the first sample of `predict` for one; of the characters at most MOST_CHARACTERS.
    """

    def __init__(self, sampling: SampleConfig) -> None:
        self._sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, MOST_CHARACTERS))

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws with the weights that are evaluated and saved: WeightAveraging has swapped its averages in by now.

        On every device, because a sharded network runs on all of them at once.
        """
        prompt = trainer.datamodule.prompt_ids.to(pl_module.device)  # type: ignore[attr-defined]
        (ids,) = continue_prompt(pl_module.gpt, prompt, [0], self._sampling)  # type: ignore[arg-type]
        text = CharVocab(pl_module.hparams["alphabet"]).decode(ids)
        for logger in filter(takes_text, trainer.loggers):
            _log_text(logger, text, trainer.global_step)


def _log_text(logger: Any, text: str, step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_text("sample", columns=["step", "text"], data=[[str(step), text]], step=step)
    else:  # TensorBoard shows Markdown: as code the text stays as it is
        logger.experiment.add_text("sample", indent(text, "    ", lambda line: True), step)
