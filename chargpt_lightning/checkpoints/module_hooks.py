"""How a LightningModule with a network is loaded from checkpoints and saved in them."""

from pathlib import Path
from typing import IO, Any, Self

import lightning as L

from chargpt_lightning.checkpoints.convert import open_checkpoint
from chargpt_lightning.checkpoints.io import require_same_shapes
from chargpt_lightning.checkpoints.optimizer_state import number_by_position


class CheckpointHooks(L.LightningModule):
    """Base class of CharGPT: loads checkpoints of several formats, and saves what any strategy can load.

    Raises:
        ConfigError: If a checkpoint's weights have another shape than the network's.
        FloatingPointError: If a weight to be saved is not finite.
    """

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path | IO[bytes], **kwargs: Any) -> Self:  # type: ignore[override]
        """Loads the network of a checkpoint of this package or nanoGPT, or of a Hugging Face folder, onto the CPU.

        Args:
            checkpoint_path: The file or folder, a run's directory (its best), or an open file in this package's format.
            **kwargs: Lightning's, such as `map_location`, and arguments of CharGPT, which override the checkpoint's.

        Raises:
            ConfigError: If it cannot be read, or this package does not support its network.
        """
        if isinstance(checkpoint_path, str | Path):
            checkpoint_path = open_checkpoint(Path(checkpoint_path), cls.is_subclass())
        return super().load_from_checkpoint(checkpoint_path, **{"map_location": "cpu"} | kwargs)

    @classmethod
    def is_subclass(cls) -> bool:
        """Whether this is a subclass of CharGPT, whose network need not be the one that its arguments describe."""
        return CheckpointHooks not in cls.__bases__

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns the groups of the optimizer, whose state is saved."""
        raise NotImplementedError

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to save non-finite weights; all devices decide, because only the first has a sharded network's."""
        finite = all(bool(weights.isfinite().all()) for weights in checkpoint["state_dict"].values())
        if not self.trainer.strategy.reduce_boolean_decision(finite):
            raise FloatingPointError(f"weights at step {self.global_step} must be finite to be saved")
        number_by_position(checkpoint, self, self.parameter_groups())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Names the first weight that does not fit; the weights of a sharded network are loaded elsewhere."""
        if "state_dict" in checkpoint:
            require_same_shapes(self.state_dict(), checkpoint["state_dict"])
