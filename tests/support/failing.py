"""A logger that fails, as with a full disk."""

from lightning.pytorch.loggers import Logger


class Failing(Logger):
    """Fails in one of its methods.

    Args:
        method: The method's name.
    """

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    name = version = "failing"

    @property
    def experiment(self):
        self._fail_in("experiment")

    def log_hyperparams(self, *args, **kwargs):
        self._fail_in("log_hyperparams")

    def log_metrics(self, *args, **kwargs):
        self._fail_in("log_metrics")

    def save(self):
        self._fail_in("save")

    def finalize(self, *args):
        self._fail_in("finalize")

    def _fail_in(self, method: str) -> None:
        if method == self.method:
            raise OSError("no space\nleft")
