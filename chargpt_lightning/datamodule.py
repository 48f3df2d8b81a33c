"""CharDataModule: batches of random windows for training, of fixed windows for evaluation, and prompts."""

import logging
import os
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
from chargpt_lightning.data.corpus import Corpus, load_corpus, short_name
from chargpt_lightning.data.guards import require_an_end, require_same_alphabet
from chargpt_lightning.data.text_files import read_prompt
from chargpt_lightning.data.windows import Batch, MappedIds, WindowBatches, cut_from_tensor, eval_offsets, train_offsets
from chargpt_lightning.utils.errors import MAX_PROCESSES, ConfigError, require_at_most, require_positive
from chargpt_lightning.utils.signals import leave_signals_to_parent
from chargpt_lightning.vocab import CharVocab, Unknown, encode_prompt

log = logging.getLogger(__name__)

TRAIN_FRACTION = 0.9
MAX_DEVICE_BYTES = 2**30  # larger ids stay in their file, and each batch is copied to the accelerator


class CharDataModule(L.LightningDataModule):
    """Batches of windows of a text.

    The first nine tenths of the characters are the training split and the rest is the validation split; a nanoGPT data
    folder defines its own splits. Training batches never end. Each is drawn from the seed and its number, so that a
    resumed run sees the same windows as an uninterrupted one, and several devices share the batches that a single one
    would draw.

    Args:
        text: Path of a UTF-8 text file, a glob pattern (`books/*.txt`), or a list of both, whose files are combined
            into one text; or a nanoGPT data folder with train.bin, val.bin and meta.pkl; or `tinyshakespeare`
            (nanoGPT's text, downloaded once); or `plays` (nearly the same text, from the extra `plays`); or `auto`:
            the text of the checkpoint if there is one, otherwise `tinyshakespeare` or `plays`, whichever is available
            first.
        batch_size: Windows per batch and device.
        block_size: Characters per window.
        eval_iters: Batches of each split per evaluation during `fit`; `validate` uses the entire validation split.
        num_workers: Processes per device that cut windows; 0 cuts them in the training process, which is fastest unless
            the text is huge.
        sha256: Required SHA-256 of the text, in hexadecimal; null accepts any text. With `fit --ckpt_path` and
            `validate` the default is that of the checkpoint's text.
        alphabet: All characters in the order of their ids; null uses the characters of the text, or those of the data
            folder's meta.pkl.
        prompt: Text that samples continue; `FILE:name` reads it from a file.
        num_samples: Number of samples that `predict` draws.
        seed: Random seed of the training windows and of the order of evaluation windows.
        unknown: Characters of the prompt that are not in the vocabulary: `refuse` stops with an error, `skip` leaves
            them out with a warning.

    Raises:
        ConfigError: If a number is out of range. When the text is first needed: if it is not available, its SHA-256 is
            not the required one, a split is shorter than a window, or a character of the text or of the prompt is not
            in the vocabulary.
    """

    def __init__(
        self,
        text: str | list[str] | Path | list[Path] = "auto",
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
        require_positive(batch_size=batch_size, block_size=block_size, eval_iters=eval_iters, num_samples=num_samples)
        if num_workers < 0:
            raise ConfigError(f"num_workers ({num_workers}) must be at least 0")
        require_at_most(MAX_PROCESSES, num_workers=num_workers)
        self.text = [os.fspath(part) for part in text] if isinstance(text, list) else os.fspath(text)
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
        """The text; found at first use."""
        return load_corpus(self.text)

    @cached_property
    def facts(self) -> TextFacts:
        """Length, characters and checksums of the text; computed or read from the cache at first use."""
        return text_facts(self.corpus)

    @cached_property
    def vocab(self) -> CharVocab:
        """The vocabulary; the text is needed only if no alphabet is given."""
        if self._alphabet is not None:
            return CharVocab(self._alphabet)
        return CharVocab(self.corpus.alphabet or self.facts.alphabet)

    @property
    def alphabet(self) -> str:
        """All characters, in the order of their ids."""
        return self.vocab.alphabet

    @cached_property
    def ids(self) -> Path:
        """The file with the ids (N,) of the text."""
        return text_ids(self.corpus, self.facts, self.vocab)

    @property
    def _train_characters(self) -> int:
        """Length of the training split."""
        return self.corpus.train_characters or int(self.facts.characters * TRAIN_FRACTION)

    @cached_property
    def splits(self) -> tuple[range, range]:
        """Positions in the text of the training split and of the validation split; checks the text first."""
        _ = self.ids  # encode first: an unknown character is a more helpful error than a different SHA-256
        if self.sha256 not in (None, self.facts.sha256):
            raise ConfigError(
                f"{self.corpus.label} must have the SHA-256 {self.sha256}, but has {self.facts.sha256}; "
                "`--data.sha256 null` accepts any text"
            )
        train, val = range(self._train_characters), range(self._train_characters, self.facts.characters)
        for name, split in (("train", train), ("val", val)):
            if len(split) <= self.block_size:
                raise ConfigError(
                    f"{self.corpus.label} must be longer: its {name} split has {len(split)} characters, "
                    f"and block_size ({self.block_size}) needs at least {self.block_size + 1}"
                )
        self._log_facts()
        return train, val

    def _log_facts(self) -> None:
        files = f"{len(self.corpus.parts)} files, " if len(self.corpus.parts) > 1 else ""
        facts = "text: {text}, {files}{characters:,} characters, {alphabet_size} different, SHA-256 {sha256}"
        log.info(facts.format(**self.state_dict() | {"text": short_name(self.corpus.name), "files": files}))

    def setup(self, stage: str) -> None:
        """Finds and encodes the text, so that errors occur early; `predict` does not need the text.

        Raises:
            ConfigError: If the trainer's network has another alphabet, or its training would never end.
        """
        if self.trainer is not None:
            require_same_alphabet(self.trainer.lightning_module, self.alphabet)
            if stage == "fit":
                require_an_end(self.trainer)
        if stage != "predict":
            _ = self.splits

    def state_dict(self) -> dict[str, Any]:
        """Returns the facts of the text that a checkpoint stores; `alphabet_size` is the size of the vocabulary."""
        return {
            "text": self.corpus.name,
            "characters": self.facts.characters,
            "train_characters": self._train_characters,
            "alphabet_size": len(self.alphabet),
            "sha256": self.facts.sha256,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Logs a message if the text is the checkpoint's, but is split elsewhere."""
        assert self.trainer is not None, "only a trainer calls this"
        if self.trainer.state.fn == TrainerFn.PREDICTING or state_dict.get("sha256") != self.facts.sha256:
            return
        previous = state_dict.get("train_characters", self._train_characters)  # older checkpoints do not store it
        if previous != self._train_characters:
            log.info("changed: the training split is %s characters, was %s", self._train_characters, previous)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns endless batches, starting at the trainer's current one."""
        train, _ = self.splits
        windows = len(train) - self.block_size
        offsets = partial(train_offsets, windows=windows, repeated=self._repeated_batches(), **self._offset_args())
        return self._loader(WindowBatches(self._cut, train.start, self.block_size, offsets, self._batches_done))

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """For `fit`: `eval_iters` batches of the val and of the train split. For `validate`: the entire val split."""
        train, val = self.splits
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.VALIDATING:
            return [self.test_dataloader()]
        return [self._eval_loader(split, self.eval_iters) for split in (val, train)]

    def test_dataloader(self) -> DataLoader[Batch]:
        """Returns the entire val split, as for `validate`: nanoGPT's texts have no third split."""
        _, val = self.splits
        return self._eval_loader(val, limit=None)

    def predict_dataloader(self) -> DataLoader[tuple[list[int], Tensor]]:
        """Returns one batch: the numbers of all samples, and the ids of the prompt (T,) that they continue."""
        return DataLoader([(list(range(self.num_samples)), self.prompt_ids)], batch_size=None)  # type: ignore[arg-type]

    @cached_property
    def prompt_ids(self) -> Tensor:
        """Ids of the prompt (T,)."""
        return encode_prompt(read_prompt(self.prompt), self.vocab, self.unknown)

    def _eval_loader(self, split: range, limit: int | None) -> DataLoader[Batch]:
        windows = (len(split) - 1) // self.block_size
        offsets = partial(eval_offsets, windows=windows, block_size=self.block_size, limit=limit, **self._offset_args())
        return self._loader(WindowBatches(self._cut, split.start, self.block_size, offsets))

    @cached_property
    def _cut(self) -> Callable[[np.ndarray, int], Tensor]:
        """Function that cuts windows: from a copy of the ids on the accelerator, or from the mapped file.

        The copy is used without workers and for at most MAX_DEVICE_BYTES.
        """
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if device.type == "cpu" or self.num_workers > 0 or self.ids.stat().st_size > MAX_DEVICE_BYTES:
            return MappedIds(self.ids, self.vocab.dtype).cut
        return partial(cut_from_tensor, torch.from_numpy(np.fromfile(self.ids, self.vocab.dtype)).to(device))

    def _loader(self, batches: WindowBatches) -> DataLoader[Batch]:
        return DataLoader(
            batches, batch_size=None, num_workers=self.num_workers, worker_init_fn=leave_signals_to_parent
        )

    def _offset_args(self) -> dict[str, int]:
        """Returns the arguments of `train_offsets` and `eval_offsets` that select this device's windows."""
        sampler = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        rank, devices = (0, 1) if sampler is None else (sampler["rank"], sampler["num_replicas"])
        return {"seed": self.seed, "batch_size": self.batch_size, "rank": rank, "devices": devices}

    def _repeated_batches(self) -> int | None:
        """Returns how many batches `overfit_batches` repeats; Lightning alone would not repeat the same ones."""
        batches = 0 if self.trainer is None else self.trainer.overfit_batches  # type: ignore[attr-defined]
        return batches if isinstance(batches, int) and batches > 0 else None  # the float 1.0 means all batches

    def _batches_done(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_step * self.trainer.accumulate_grad_batches
