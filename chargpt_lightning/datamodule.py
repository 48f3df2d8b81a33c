"""The text as batches: random windows to train on, fixed windows to evaluate on, a prompt to sample from."""

import logging
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader

from chargpt_lightning.data.cache import TextFacts, text_facts, text_ids
from chargpt_lightning.data.corpus import Corpus, brief, load_corpus
from chargpt_lightning.data.text_files import read_prompt
from chargpt_lightning.data.windows import Batch, MappedIds, WindowBatches, cut_from_tensor, eval_offsets, train_offsets
from chargpt_lightning.utils.errors import ConfigError, require_at_least_one
from chargpt_lightning.vocab import CharVocab, Unknown, encode_prompt

log = logging.getLogger(__name__)

TRAIN_SHARE = 0.9
CARD_BYTES = 2**30  # of ids at most in an accelerator's memory; more are cut here, as they are needed


class CharDataModule(L.LightningDataModule):
    """Windows of a text.

    The first nine tenths of the characters train and the rest validates; a folder of nanoGPT's has its own border.
    Training never ends: each update draws its windows anew, from the seed and its own number, so that a resumed run
    sees what it would have seen, and several devices share the very batches that one would get.

    Args:
        text: Path to a UTF-8 text, a pattern of such (`books/*.txt`) or a list of both, whose files make one text; or
            path to a folder of nanoGPT's with train.bin, val.bin and meta.pkl, or `tinyshakespeare` (nanoGPT's text,
            downloaded once), or `plays` (nearly the same text, no network needed), or `auto`: the checkpoint's text
            if there is one, else the first of the two that is to be had.
        batch_size: Windows per batch and device.
        block_size: Characters per window.
        eval_iters: Batches of each split that an evaluation during `fit` takes; `validate` takes the whole split.
        num_workers: Processes beside each device's own that cut windows; 0 is fastest unless the text is huge.
        sha256: What the text's must be, as hexadecimal digits; null takes any text. `fit --ckpt_path` and `validate`
            want the checkpoint's own.
        alphabet: The vocabulary; null takes the characters of the text, or of the folder's meta.pkl.
        prompt: What samples continue; `FILE:name` takes it from a file.
        num_samples: Number of samples that `predict` draws.
        seed: Which windows are drawn.
        unknown: Whether characters of the prompt that the alphabet has not are refused or skipped.

    Raises:
        ConfigError: If a count is below 1; when the text is first needed, if it cannot be had, has another SHA-256,
            is shorter than a window in either split, or, like the prompt, has a character that the alphabet has not.
    """

    def __init__(
        self,
        text: str | list[str] = "auto",
        batch_size: int = 12,
        block_size: int = 64,
        eval_iters: int = 20,
        num_workers: int = 0,
        sha256: str | None = None,
        alphabet: str | None = None,
        prompt: str = "\n",
        num_samples: int = 10,
        seed: int = 1337,
        unknown: Unknown = "refuse",
    ) -> None:
        super().__init__()
        require_at_least_one(
            batch_size=batch_size, block_size=block_size, eval_iters=eval_iters, num_samples=num_samples
        )
        if num_workers < 0:
            raise ConfigError(f"num_workers ({num_workers}) must be at least 0")
        self.text = text
        self.batch_size = batch_size
        self.block_size = block_size
        self.eval_iters = eval_iters
        self.num_workers = num_workers
        self.sha256 = sha256
        self.prompt = prompt
        self.num_samples = num_samples
        self.seed = seed
        self.unknown = unknown
        self._alphabet = alphabet

    @cached_property
    def corpus(self) -> Corpus:
        """The text, found when it is first needed."""
        return load_corpus(self.text)

    @cached_property
    def facts(self) -> TextFacts:
        """Length, characters and checksums of the text."""
        return text_facts(self.corpus)

    @cached_property
    def vocab(self) -> CharVocab:
        """Characters to ids and back; needs the text only where no alphabet is given."""
        if self._alphabet is not None:
            return CharVocab(self._alphabet)
        return CharVocab(self.corpus.alphabet or self.facts.alphabet)

    @property
    def alphabet(self) -> str:
        """All characters, in the order of their ids."""
        return self.vocab.alphabet

    @cached_property
    def ids(self) -> Path:
        """The file of the text's ids (N,)."""
        return text_ids(self.corpus, self.facts, self.vocab)

    @property
    def _border(self) -> int:
        """How many characters train."""
        return self.corpus.train_characters or int(self.facts.characters * TRAIN_SHARE)

    @cached_property
    def splits(self) -> tuple[range, range]:
        """The places in the text that train and those that validate, once it is known to serve."""
        _ = self.ids  # a foreign character says more than another SHA-256
        if self.sha256 not in (None, self.facts.sha256):
            raise ConfigError(
                f"{self.corpus.said} must have the SHA-256 {self.sha256}, but has {self.facts.sha256}; "
                "`--data.sha256 null` takes any text"
            )
        train, val = range(self._border), range(self._border, self.facts.characters)
        for name, split in (("train", train), ("val", val)):
            if len(split) <= self.block_size:
                raise ConfigError(
                    f"{self.corpus.said} must be longer: its {name} split has {len(split)} characters, "
                    f"and block_size ({self.block_size}) needs at least {self.block_size + 1}"
                )
        self._say_facts()
        return train, val

    def _say_facts(self) -> None:
        files = f"{len(self.corpus.parts)} files, " if len(self.corpus.parts) > 1 else ""
        facts = "text: {text}, {files}{characters:,} characters, {alphabet_size} different, SHA-256 {sha256}"
        log.info(facts.format(**self.state_dict() | {"text": brief(self.corpus.name), "files": files}))

    def setup(self, stage: str) -> None:
        """Finds and encodes the text now, so that an error comes early; `predict` does without the text."""
        if stage != "predict":
            _ = self.splits

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the text: name, length, train split, number of different characters, SHA-256."""
        return {
            "text": self.corpus.name,
            "characters": self.facts.characters,
            "train_characters": self._border,
            "alphabet_size": len(self.alphabet),
            "sha256": self.facts.sha256,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Says so if the text is the checkpoint's, but not the border between its splits; samples need neither."""
        assert self.trainer is not None, "it is the trainer who calls"
        if self.trainer.state.fn == TrainerFn.PREDICTING or state_dict.get("sha256") != self.facts.sha256:
            return
        was = state_dict.get("train_characters", self._border)  # which older checkpoints do not say
        if was != self._border:
            log.info("changed: the first %s characters of the text train, were %s", self._border, was)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Endless batches, from the one that the trainer stands at."""
        train, _ = self.splits
        windows = len(train) - self.block_size
        offsets = partial(train_offsets, windows=windows, repeated=self._repeated_batches(), **self._share())
        return self._loader(WindowBatches(self._cut, train.start, self.block_size, offsets, self._batches_done))

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """For `fit` the first `eval_iters` batches of the val and of the train split, for `validate` all of val."""
        train, val = self.splits
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.VALIDATING:
            return [self._eval_loader(val, limit=None)]
        return [self._eval_loader(split, self.eval_iters) for split in (val, train)]

    def predict_dataloader(self) -> DataLoader[tuple[list[int], Tensor]]:
        """One batch: the numbers of all samples, and the ids of the prompt (T,) that they continue."""
        return DataLoader([(list(range(self.num_samples)), self.prompt_ids)], batch_size=None)  # type: ignore[arg-type]

    @cached_property
    def prompt_ids(self) -> Tensor:
        """The ids of the prompt (T,)."""
        return encode_prompt(read_prompt(self.prompt), self.vocab, self.unknown)

    def _eval_loader(self, split: range, limit: int | None) -> DataLoader[Batch]:
        windows = (len(split) - 1) // self.block_size
        offsets = partial(eval_offsets, windows=windows, block_size=self.block_size, limit=limit, **self._share())
        return self._loader(WindowBatches(self._cut, split.start, self.block_size, offsets))

    @cached_property
    def _cut(self) -> Callable[[np.ndarray, int], Tensor]:
        """What cuts windows: out of an accelerator's memory if it can, else out of the mapped file."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if device.type == "cpu" or self.num_workers > 0 or self.ids.stat().st_size > CARD_BYTES:
            return MappedIds(self.ids, self.vocab.dtype).cut
        return partial(cut_from_tensor, torch.from_numpy(np.fromfile(self.ids, self.vocab.dtype)).to(device))

    def _loader(self, batches: WindowBatches) -> DataLoader[Batch]:
        return DataLoader(batches, batch_size=None, num_workers=self.num_workers)

    def _share(self) -> dict[str, int]:
        """What tells this device's windows from those of the others: those that are to have different ones."""
        others = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        rank, devices = (0, 1) if others is None else (others["rank"], others["num_replicas"])
        return {"seed": self.seed, "batch_size": self.batch_size, "rank": rank, "devices": devices}

    def _repeated_batches(self) -> int | None:
        """Lightning's `overfit_batches`, which by itself takes so many from wherever it stands."""
        batches = 0 if self.trainer is None else self.trainer.overfit_batches  # type: ignore[attr-defined]
        return batches if isinstance(batches, int) and batches > 0 else None  # 1.0 is all there are

    def _batches_done(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_step * self.trainer.accumulate_grad_batches
