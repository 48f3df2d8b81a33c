"""The names of metrics are those that a run logs."""

from pathlib import Path

from support.command_line import rows

from chargpt_lightning.utils import metrics


def test_a_run_logs_the_metrics_that_have_names(tiny_run: Path):
    names = {value for name, value in vars(metrics).items() if name.isupper() and isinstance(value, str)}
    assert rows(tiny_run)[0].keys() == names | {"step"}
    assert set(metrics.TIMING) < names
    assert {name for name in names if name.startswith(metrics.EVALUATION_PREFIXES)} == {
        *(metrics.VAL_LOSS, metrics.VAL_PERPLEXITY, metrics.VAL_CHARACTERS, metrics.TRAIN_EVAL_LOSS)
    }
