"""The network as a system that Lightning trains: loss, optimizer, schedule, evaluation, sampling."""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from chargpt_lightning.checkpoints.module_hooks import CheckpointHooks
from chargpt_lightning.models import Architecture, build_network
from chargpt_lightning.models.base import GPTConfig, LanguageModel
from chargpt_lightning.models.loss import Evaluation, UpdateLosses, cross_entropy
from chargpt_lightning.models.sharding import shard
from chargpt_lightning.optim.config import OptimizerConfig, OptimizerName
from chargpt_lightning.optim.gradients import as_number, clip_gradients, gradient_norm
from chargpt_lightning.optim.lr_schedule import Decay
from chargpt_lightning.sampling.config import SampleConfig, derived_seed
from chargpt_lightning.sampling.generation import continue_prompt, ignore
from chargpt_lightning.sampling.text_methods import TextMethods
from chargpt_lightning.utils.hardware import matmul_dtype
from chargpt_lightning.utils.metrics import GRAD_NORM, LR, TRAIN_LOSS, VAL_LOSS


class CharGPT(TextMethods, CheckpointHooks):
    """A character-level GPT and the way it is trained.

    The defaults are those of nanoGPT's recipe for a CPU. `train_loss` is the mean loss of the last update (of the last
    logged one on an accelerator) over its micro-batches and devices, in nats per character. `sampling` configures
    `predict`, which calls `on_drawn` with the next id of each sample (B,) as soon as it is drawn.

    Args:
        alphabet: The vocabulary: all characters in the order of their ids. A checkpoint carries it.
        block_size: Longest context, in characters.
        n_layer: Number of blocks.
        n_head: Attention heads per block; must divide n_embd.
        n_embd: Width of the network.
        dropout: Fraction of activations dropped in training, from 0 to below 1.
        bias: Whether linear layers and norms have biases; must be false for the modern architecture.
        architecture: gpt2 is nanoGPT's network; modern reaches the same loss in fewer updates.
        n_gram: Longest n-gram that the modern architecture embeds, in characters; 1 embeds none.
        n_gram_dropout: Fraction of n-grams dropped in training, from 0 to below 1.
        optimizer: adamw, or muon, which updates the matrices of the blocks with Muon and the rest with AdamW.
        learning_rate: Peak learning rate of AdamW.
        min_lr: Final learning rate of AdamW.
        muon_learning_rate: Peak learning rate of Muon, whose schedule is AdamW's, scaled to this peak.
        warmup_iters: Number of warmup updates.
        constant_iters: Number of updates at the peak, between warmup and decay.
        lr_decay_iters: Update at which the decay ends and min_lr is reached.
        lr_decay: Shape of the decay.
        decay_lr: Whether to use the schedule; false keeps the learning rate at its peak, without warmup.
        weight_decay: Weight decay of matrices and embeddings.
        beta1: AdamW's beta1.
        beta2: AdamW's beta2.
        muon_momentum: Muon's momentum.
        compile: Whether `fit` compiles the network; worth it on a GPU, and on a CPU for long runs.
        seed: Random seed of the dropout, combined with the batch number so that a resumed run drops the same units.

    Raises:
        ConfigError: If an argument is out of range, or a checkpoint's weights have another shape.
        FloatingPointError: If a loss, or a weight to be saved, is not finite.
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
        architecture: Architecture = "gpt2",
        n_gram: int = 1,
        n_gram_dropout: float = 0.0,
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
        self.save_hyperparameters(ignore=["compile"])  # compilation does not change the network
        _ = self.optimizer_config  # raises ConfigError now, not when training starts
        shape = GPTConfig(len(alphabet), block_size, n_layer, n_head, n_embd, dropout, bias, n_gram, n_gram_dropout)
        self.gpt: LanguageModel = build_network(architecture, shape)
        self.train_loss = math.nan
        self._losses = UpdateLosses()
        self._clipped: list[nn.Parameter] = []  # by an update
        self._grad_norm = torch.tensor(math.nan)
        self._evaluation = Evaluation()
        self.sampling = SampleConfig()
        self.on_drawn: Callable[[Tensor], object] = ignore
        self._compiles = compile

    @property
    def optimizer_config(self) -> OptimizerConfig:
        """Settings of the optimizer, from the current hyperparameters: LearningRateFinder changes learning_rate."""
        return OptimizerConfig(**{field.name: self.hparams[field.name] for field in fields(OptimizerConfig)})

    @property
    def _trains_as_configured(self) -> bool:
        """Whether no subclass has an optimizer of its own."""
        return type(self).configure_optimizers is CharGPT.configure_optimizers

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B, T) to logits (B, T, V)."""
        return self.gpt(ids)

    def on_train_start(self) -> None:
        """Applies the current settings, which may differ from a checkpoint's or follow LearningRateFinder."""
        self._losses = UpdateLosses()  # from a run that an exception ended within an update
        for config in self.trainer.lr_scheduler_configs if self._trains_as_configured else ():
            if isinstance(config.scheduler, LambdaLR):  # otherwise it is LearningRateFinder's, which is searching
                self.optimizer_config.apply(self.trainer.optimizers[0], config.scheduler, self.gpt, self.global_step)

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Seeds the dropout from the run's seed, the batch and the device."""
        if self.hparams["dropout"] or self.hparams["n_gram_dropout"]:
            accumulated = self.trainer.accumulate_grad_batches
            number = self.global_step * accumulated + batch_idx % accumulated
            torch.manual_seed(derived_seed(self.hparams["seed"], number, self.global_rank))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The mean loss of a batch, in nats per character."""
        ids, targets = batch
        return cross_entropy(self(ids), targets, "mean")

    def on_before_backward(self, loss: Tensor) -> None:
        """Records the loss of a micro-batch, which Lightning has divided by their number, and may have scaled."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = 1 if scaler is None else scaler.scale(torch.ones_like(loss))  # `get_scale` would wait for the device
        loss = loss.detach() * self.trainer.accumulate_grad_batches / scale
        self._losses.add(self.trainer.strategy.reduce(loss, reduce_op="mean"))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Logs the update directly to the loggers, because `self.log` would take 3 % of an update."""
        self._clipped = list(self.parameters())  # listing them twice would take a hundredth of an update
        self._grad_norm = gradient_norm(self._clipped)
        interval = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        is_logged = bool(interval) and self.global_step % interval == 0  # with 0, Lightning never logs
        self.train_loss = self._losses.end_update(self.global_step, is_logged)
        if is_logged:
            figures = {TRAIN_LOSS: self.train_loss, LR: optimizer.param_groups[0]["lr"]}
            self.trainer.callback_metrics.update({name: torch.tensor(figure) for name, figure in figures.items()})
            self.trainer.progress_bar_metrics.update(figures)
            for logger in self.loggers:
                logger.log_metrics(figures | {GRAD_NORM: as_number(self._grad_norm)}, step=self.global_step)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips gradients, which are not scaled in bf16-mixed; Lightning refuses to there (its issue 21435)."""
        clip_gradients(self._clipped, self._grad_norm, gradient_clip_val, gradient_clip_algorithm)

    def on_validation_epoch_start(self) -> None:
        """Resets the sums."""
        self._evaluation.begin(self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Adds a batch to the sums of the val split or, from the second dataloader, of the train split.

        The batch is empty on a device that has no windows left; a sharded network must run there too.
        """
        ids, targets = batch
        self._evaluation.update(dataloader_idx, cross_entropy(self(ids), targets, "none"))

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the evaluation, with the number of updates as `step`.

        Lightning rounds all but float64 to float32. They are equal on all devices, so that their maximum is exact.
        """
        for name, figure in self._evaluation.compute(self.global_step).items():
            self.log(name, figure, prog_bar=name == VAL_LOSS, reduce_fx="max", sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """As in `validate`."""
        self.on_validation_epoch_start()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """As in `validate`."""
        self.validation_step(batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """As in `validate`."""
        self.on_validation_epoch_end()

    def predict_step(self, batch: tuple[list[int], Tensor], batch_idx: int) -> Tensor:
        """Returns the samples with these numbers (B,), each the prompt (T,) and its continuation, as ids (B, *)."""
        samples, prompt = batch
        return continue_prompt(self.gpt, prompt, samples, self.sampling, self.on_drawn)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Builds the optimizer, and the scheduler that sets its learning rate before each update."""
        precision = Precision() if self._trainer is None else self.trainer.precision_plugin
        scaled = getattr(precision, "scaler", None) is not None  # a fused optimizer would unscale after clipping
        dtype = matmul_dtype(precision.forward_context(), next(self.gpt.parameters()))
        optimizer, scheduler = self.optimizer_config.build(self.gpt, not scaled, dtype)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns the groups of the optimizer; those of a subclass's own exist only once training has started."""
        if self._trains_as_configured:
            return self.optimizer_config.groups(self.gpt)
        return self.trainer.optimizers[0].param_groups if self.trainer.optimizers else []

    def setup(self, stage: str) -> None:
        """Compiles the network in place, which does not change the names in a checkpoint."""
        if stage == "fit" and self._compiles:
            self.gpt.compile()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves only after updates whose losses are finite."""
        self._losses.read()
        super().on_save_checkpoint(checkpoint)

    def configure_model(self) -> None:
        """Shards the network over the devices under ModelParallelStrategy (FSDP2), the only one with a mesh."""
        if torch.get_default_dtype() == torch.float64:  # in 64-true; restoring a checkpoint would round its weights
            self.gpt.double()
        shard(self.gpt, self.device_mesh)
