"""Stores in checkpoints how many rows of metrics.csv belong to them."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from chargpt_lightning.callbacks.model_checkpoint import drop_user_checkpoint_state
from chargpt_lightning.loggers.csv_logger import History


class HistoryInCheckpoints(Callback):
    """Stores the number of rows of metrics.csv in checkpoints, so that a resumed run continues after the right row."""

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the rows so far: an evaluation may take long, and logs nothing until it ends."""
        if isinstance(history := trainer.logger, History):
            history.save()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Writes the rows so far, and stores their number."""
        if trainer.is_global_zero and isinstance(history := trainer.logger, History):
            history.save()
            run = Path(history.save_dir).name
            checkpoint["history"] = {"run": run, "rows": history.rows, "columns": history.columns}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continues metrics.csv after that row."""
        if not isinstance(history := trainer.logger, History):
            return
        # Here, because Lightning calls this hook before it restores the states of callbacks.
        drop_user_checkpoint_state(trainer, checkpoint, history.in_place)
        if trainer.is_global_zero:
            known = checkpoint.get("history", {})
            history.continue_after(known.get("rows", 0), known.get("columns", []))
