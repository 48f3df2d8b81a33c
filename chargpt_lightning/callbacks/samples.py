"""Samples: on stdout in `predict`, and in loggers that accept text at each evaluation."""

from dataclasses import replace
from textwrap import indent
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from chargpt_lightning.loggers.failures import failures_warned
from chargpt_lightning.module import CharGPT
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.generation import continue_prompt

MAX_CHARACTERS = 200  # a few lines, so that an evaluation stays short


class SampleWriter(Callback):
    """Writes samples to stdout, separated by lines of dashes: the first as it is drawn, then the others."""

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: tuple[list[int], Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the prompt (T,), and from then on each character of the first sample."""
        assert isinstance(pl_module, CharGPT)
        vocab = pl_module.vocab
        _write(vocab.decode(batch[1]))
        pl_module.on_drawn = lambda ids: _write(vocab.decode(ids[:1]))

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor,
        batch: tuple[list[int], Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the other samples, given the ids (B, T) of all."""
        assert isinstance(pl_module, CharGPT)
        vocab = pl_module.vocab
        _write("\n")
        for ids in outputs[1:]:
            _write(f"---------------\n{vocab.decode(ids)}\n")


def _write(text: str) -> None:
    print(text, end="", flush=True)


def accepts_text(logger: object) -> bool:
    """Whether a logger can show samples."""
    return isinstance(logger, (TensorBoardLogger, WandbLogger))


class LogSamples(Callback):
    """Logs a sample at each evaluation: the first sample of `predict`, up to MAX_CHARACTERS long.

    Args:
        sampling: How it is drawn.
    """

    def __init__(self, sampling: SampleConfig) -> None:
        self._sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, MAX_CHARACTERS))

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws with the weights that are evaluated and saved: WeightAveraging has swapped in its averages by now.

        Every device draws, because a sharded network runs on all of them at once.
        """
        assert isinstance(pl_module, CharGPT)
        prompt = trainer.datamodule.prompt_ids.to(pl_module.device)  # type: ignore[attr-defined]
        (ids,) = continue_prompt(pl_module.gpt, prompt, [0], self._sampling)
        text = pl_module.vocab.decode(ids)
        for logger in filter(accepts_text, trainer.loggers):
            with failures_warned(logger):
                _log_text(logger, text, trainer.global_step)


def _log_text(logger: Any, text: str, step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_text("sample", columns=["step", "text"], data=[[str(step), text]], step=step)
    else:  # TensorBoard renders Markdown; indented as code, the text is shown unchanged
        logger.experiment.add_text("sample", indent(text, "    ", lambda line: True), step)
