"""TensorBoard as a logger of a run: its event file is in the run's directory."""

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoardLogger, with the event file in the run's directory.

    `tensorboard --logdir runs` then shows all runs below `runs`, each by its path.
    """

    def __init__(self) -> None:
        super().__init__(save_dir="", name="", version="", default_hp_metric=False)

    def follow(self, run: Path, step: int) -> None:
        """Sets the run's directory; TensorBoard hides events that a killed run logged there after this step."""
        super().__init__(run, name="", version="", default_hp_metric=False, purge_step=step + 1 if step else None)
