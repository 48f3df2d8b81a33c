"""The network as a system that Lightning trains: loss, optimizer, schedule, evaluation, sampling."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Self

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from chargpt_lightning.checkpoints.convert import read_any_checkpoint
from chargpt_lightning.checkpoints.io import facts_of
from chargpt_lightning.models.base import GPTConfig
from chargpt_lightning.models.gpt import GPT
from chargpt_lightning.models.loss import MeanLoss
from chargpt_lightning.models.modern import ModernGPT
from chargpt_lightning.optim.config import OptimizerConfig, OptimizerName
from chargpt_lightning.optim.lr_schedule import Decay
from chargpt_lightning.sampling import SampleConfig, continue_prompt, derived_seed
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.hardware import product_dtype
from chargpt_lightning.vocab import CharVocab, Unknown, encode_prompt

NETWORKS: dict[str, type[GPT | ModernGPT]] = {"gpt2": GPT, "modern": ModernGPT}
SPLITS = ("val", "train_eval")  # by dataloader


class CharGPT(L.LightningModule):
    """A character-level GPT and the way it is trained.

    The defaults are those of nanoGPT's recipe for a CPU. `sampling` says how `predict` draws, and `on_drawn` is called
    with the next id of each sample (B,) as soon as it is drawn. `train_loss` is the loss of the last update: the mean
    over its micro-batches and devices, in nats per character.

    Args:
        alphabet: The vocabulary: all characters in the order of their ids. A checkpoint carries it.
        block_size: Longest context, in characters.
        n_layer: Number of blocks.
        n_head: Attention heads per block; must divide n_embd.
        n_embd: Width of the network.
        dropout: Ratio of activations dropped in training, 0 up to but without 1.
        bias: Whether linear layers and norms have a bias; the modern network has none.
        architecture: gpt2 is nanoGPT's network, modern one that learns the same in fewer updates.
        optimizer: adamw, or muon for the matrices of the blocks beside AdamW for the rest.
        learning_rate: The peak of AdamW's schedule.
        min_lr: The end of AdamW's schedule.
        muon_learning_rate: The peak of Muon's schedule, which is AdamW's at another height.
        warmup_iters: Updates until the peak.
        constant_iters: Updates at the peak before the decay.
        lr_decay_iters: The update at which min_lr is reached.
        lr_decay: The curve from the peak to min_lr.
        decay_lr: false keeps the learning rate at its peak, without warmup.
        weight_decay: Of matrices and embeddings.
        beta1: Of AdamW.
        beta2: Of AdamW.
        muon_momentum: Of Muon.
        compile: Whether `fit` compiles the network; worth it on a GPU, and on a CPU for long runs.
        seed: Of the dropout, which is drawn for each batch anew, so that a resumed run drops what it would have.

    Raises:
        ConfigError: If the network or the schedule cannot be built from these numbers, or a checkpoint's weights are
            not of this shape.
        FloatingPointError: In training and evaluation, if a loss is not finite; in saving, if a weight is not.
    """

    def __init__(
        self,
        alphabet: str,
        block_size: int = 64,
        n_layer: int = 4,
        n_head: int = 4,
        n_embd: int = 128,
        dropout: float = 0.0,
        bias: bool = False,
        architecture: Literal["gpt2", "modern"] = "gpt2",
        optimizer: OptimizerName = "adamw",
        learning_rate: float = 1e-3,
        min_lr: float = 1e-4,
        muon_learning_rate: float = 0.02,
        warmup_iters: int = 100,
        constant_iters: int = 0,
        lr_decay_iters: int = 2000,
        lr_decay: Decay = "cosine",
        decay_lr: bool = True,
        weight_decay: float = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.99,
        muon_momentum: float = 0.95,
        compile: bool = False,
        seed: int = 1337,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["compile"])  # a checkpoint does not care how it was computed
        settings = {field.name: self.hparams[field.name] for field in fields(OptimizerConfig)}
        self.optimizer_config = OptimizerConfig(**settings)
        config = GPTConfig(len(alphabet), block_size, n_layer, n_head, n_embd, dropout, bias)
        if architecture not in NETWORKS:
            raise ConfigError(f"architecture ({architecture}) must be one of {', '.join(NETWORKS)}")
        self.gpt = NETWORKS[architecture](config)
        self.train_loss = math.nan
        self._micro_losses: list[float] = []  # since the last update
        self._mean_losses = tuple(MeanLoss() for _ in SPLITS)  # in a tuple they are not cast with the module
        self.sampling = SampleConfig()
        self.on_drawn: Callable[[Tensor], object] = lambda ids: None
        self._compiles = compile

    @property
    def learning_rate(self) -> float:
        """The peak of AdamW's schedule; LearningRateFinder sets it, and with it the hyperparameter."""
        return self.optimizer_config.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.optimizer_config = replace(self.optimizer_config, learning_rate=rate)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **kwargs: Any) -> Self:  # type: ignore[override]
        """The network of a checkpoint of this program, of nanoGPT, or of a Hugging Face folder, on the CPU.

        Args:
            checkpoint_path: Where it lies.
            **kwargs: As Lightning has them: `map_location`, or arguments of CharGPT that stand above the checkpoint's.

        Raises:
            ConfigError: If it cannot be read, or is of a network that is not ours.
        """
        checkpoint, _ = read_any_checkpoint(Path(checkpoint_path))
        return cls.from_content(checkpoint, Path(checkpoint_path), **kwargs)

    @classmethod
    def from_content(cls, checkpoint: Any, path: Path, **kwargs: Any) -> Self:
        """The network of a checkpoint that has been read.

        Args:
            checkpoint: Its content, in this package's format.
            path: Where it came from, for the error.
            **kwargs: As in `load_from_checkpoint`.

        Raises:
            ConfigError: If it is not the content of a checkpoint of this package.
        """
        facts_of(checkpoint, path)
        buffer = BytesIO()
        torch.save({name: part for name, part in checkpoint.items() if name != "optimizer_states"}, buffer)
        buffer.seek(0)
        return super().load_from_checkpoint(buffer, **{"map_location": "cpu"} | kwargs)

    def sample(
        self,
        prompt: str = "\n",
        max_new_tokens: int = 500,
        temperature: float = 0.8,
        top_k: int | None = 200,
        top_p: float | None = None,
        seed: int = 1337,
        unknown: Unknown = "refuse",
    ) -> str:
        """Continues a prompt, as the first sample of `predict` does; returns it with its continuation.

        The arguments are those of SampleConfig.

        Raises:
            ConfigError: If a number is out of its range, or the prompt is empty, or not of the alphabet.
        """
        config = SampleConfig(prompt, 1, max_new_tokens, temperature, top_k, top_p, seed, unknown)
        vocab = CharVocab(self.hparams["alphabet"])
        ids = encode_prompt(prompt, vocab, unknown).to(self.device)
        training = self.training
        self.eval()
        try:
            (text,) = continue_prompt(self.gpt, ids, [0], config)
        finally:
            self.train(training)
        return vocab.decode(text)

    def setup(self, stage: str) -> None:
        """Compiles the network in place, which leaves the names in a checkpoint as they are."""
        if stage == "fit" and self._compiles:
            self.gpt.compile()

    def configure_model(self) -> None:
        """Shards the network over the devices under ModelParallelStrategy (FSDP2); otherwise there is no mesh."""
        if self.device_mesh is None or isinstance(self.gpt, FSDPModule):
            return
        for part in (*self.gpt.transformer.h, self.gpt):
            fully_shard(part, mesh=self.device_mesh["data_parallel"])
        register_fsdp_forward_method(self.gpt, "next_logits")

    def on_train_start(self) -> None:
        """Gives the optimizer the settings of now: a resumed one has old ones, and LearningRateFinder changes one."""
        self._micro_losses.clear()  # left by a run that an exception ended within an update
        optimizer, scheduler = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
        if not isinstance(scheduler, LambdaLR):  # it is the finder's, who is looking
            return
        ratio = self.optimizer_config.learning_rate_ratio(self.global_step)
        groups = self.optimizer_config.groups(self.gpt)
        scheduler.base_lrs = [group["lr"] for group in groups]
        scheduler.lr_lambdas = [self.optimizer_config.learning_rate_ratio] * len(groups)
        for group, settings in zip(optimizer.param_groups, groups, strict=True):
            del settings["params"]  # sharded, they may stand in the network as a whole just now
            group.update(settings | {"lr": settings["lr"] * ratio})

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Makes the dropout a function of seed, batch and device."""
        if self.gpt.config.dropout:
            accumulated = self.trainer.accumulate_grad_batches
            number = self.global_step * accumulated + batch_idx % accumulated
            torch.manual_seed(derived_seed(self.hparams["seed"], number, self.global_rank))

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B, T) to logits (B, T, V)."""
        return self.gpt(ids)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The mean loss of a batch, in nats per character."""
        ids, targets = batch
        loss = _cross_entropy(self(ids), targets, "mean")
        micro_loss = self._mean_over_devices(loss)
        self._require_finite("train/loss", micro_loss)
        self._micro_losses.append(micro_loss)
        return loss

    def _mean_over_devices(self, loss: Tensor) -> float:
        if self.trainer.world_size > 1:
            loss = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")  # it works in place
        return loss.item()

    def _require_finite(self, name: str, figure: float) -> None:
        if not math.isfinite(figure):
            raise FloatingPointError(f"{name} ({figure}) at step {self.global_step} must be finite")

    def on_validation_epoch_start(self) -> None:
        """Resets the sums."""
        for mean_loss in self._mean_losses:
            mean_loss.begin(self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Adds a batch to the figures of the val split or, from the second dataloader, the train split.

        The batch is empty on a device without windows left; a sharded network must run there too.
        """
        ids, targets = batch
        self._mean_losses[dataloader_idx].update(_cross_entropy(self(ids), targets, "none"))

    def on_validation_epoch_end(self) -> None:
        """Logs the figures, under the number of updates made."""
        self._log_exactly("step", torch.tensor(self.global_step))
        dataloaders = len(self.trainer.num_val_batches)  # two in `fit`, one in `validate`, the same on every device
        for split, mean_loss in zip(SPLITS, self._mean_losses[:dataloaders], strict=False):
            loss, characters = mean_loss.compute()
            self._require_finite(f"{split}/loss", loss.item())
            self._log_exactly(f"{split}/loss", loss)
            if split == "val":
                self._log_exactly("val/perplexity", loss.exp())
                self._log_exactly("val/characters", characters)

    def _log_exactly(self, name: str, figure: Tensor) -> None:
        """Logs a figure that is the same on every device, unrounded.

        Lightning keeps float64 and turns everything else into float32. A maximum is exact, unlike the default, a mean.
        """
        device = self._mean_losses[0].device
        self.log(name, figure.to(device, torch.float64), reduce_fx="max", sync_dist=True)

    def predict_step(self, batch: tuple[list[int], Tensor], batch_idx: int) -> Tensor:
        """Continues the prompt (T,) as the samples of these numbers (B,); returns ids (B, T + max_new_tokens)."""
        samples, prompt = batch
        return continue_prompt(self.gpt, prompt, samples, self.sampling, self.on_drawn)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer, its learning rate set before each update."""
        precision = self.trainer.precision_plugin
        scaled = getattr(precision, "scaler", None) is not None  # a fused one would unscale after clipping
        dtype = product_dtype(precision.forward_context(), next(self.gpt.parameters()))
        dtype = torch.float32 if dtype == torch.float16 else dtype  # small gradients would vanish in float16
        optimizer = self.optimizer_config.build(self.gpt, not scaled, dtype)
        scheduler = LambdaLR(optimizer, self.optimizer_config.learning_rate_ratio)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to save non-finite weights, on all devices at once: only the first has a sharded network's."""
        finite = all(bool(weights.isfinite().all()) for weights in checkpoint["state_dict"].values())
        if not self.trainer.strategy.reduce_boolean_decision(finite):
            raise FloatingPointError(f"weights at step {self.global_step} must be finite to be saved")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Names what does not fit, instead of a page of shapes; to a sharded network the weights come another way."""
        if "state_dict" not in checkpoint:
            return
        ours, theirs = (
            {name: weights.shape for name, weights in state.items()}
            for state in (self.state_dict(), checkpoint["state_dict"])
        )
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                there, here = (_shape(state.get(name)) for state in (theirs, ours))
                raise ConfigError(f"ckpt_path: {name} ({there}) must be as in this network ({here})")

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as the trainer says, here because Lightning refuses it to a fused optimizer under bf16-mixed, and logs.

        Gradients are not scaled in bf16, so nothing is lost: https://github.com/Lightning-AI/pytorch-lightning/issues/21435
        """
        gradients = [_float32_at_least(weights.grad) for weights in self.parameters() if weights.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
        elif gradient_clip_val:
            nn.utils.clip_grads_with_norm_(self.parameters(), gradient_clip_val, norm)
        self.train_loss = fmean(self._micro_losses)
        self._micro_losses.clear()
        self._log_update(norm)

    def _log_update(self, norm: Tensor) -> None:
        """Writes a row for the coming update to the loggers: `self.log` costs a millisecond, 3 % of an update."""
        interval = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not interval or self.global_step % interval:  # 0 is Lightning's word for never
            return
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm  # of a sharded network
        learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        figures = {"train/loss": self.train_loss, "lr": learning_rate, "grad_norm": norm.item()}
        for logger in self.loggers:
            logger.log_metrics(figures, step=self.global_step)


def _shape(size: torch.Size | None) -> str:
    return "absent" if size is None else " x ".join(map(str, size))


def _cross_entropy(logits: Tensor, targets: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
    """The loss of logits (B, T, V) against targets (B, T), in float32 at least: their mean (), or each (B * T,)."""
    return F.cross_entropy(_float32_at_least(logits).flatten(0, 1), targets.flatten(), reduction=reduction)


def _float32_at_least(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
