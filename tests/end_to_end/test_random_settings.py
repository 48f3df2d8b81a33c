"""Whatever the settings, a run that is stopped or killed anywhere and resumed is the run that was never stopped."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from support.command_line import FAST, N_GRAMS, TINY, assert_same_run

from chargpt_lightning import CharGPT

NETWORKS = [[], ["--model.dropout", "0.3"], [*FAST, *N_GRAMS], ["--model.optimizer", "muon"]]
CALLBACKS = [
    [],
    ["LearningRateMonitor"],
    ["EMAWeightAveraging", "--trainer.callbacks.decay", "0.5"],
    ["EarlyStopping", "--trainer.callbacks.monitor", "val/loss", "--trainer.callbacks.patience", "1"],
    ["ModelCheckpoint", "--trainer.callbacks.filename", "mine", "--trainer.callbacks.save_on_exception", "true"],
]

ENDS_EARLY = [  # after update 4, with batch 16
    *("--model.dropout", "0.3", "--trainer.accumulate_grad_batches=4", "--trainer.val_check_interval=8"),
    *("--trainer.num_sanity_val_steps=1", "--trainer.precision=16-true", "--trainer.gradient_clip_val=0.1"),
    *("--trainer.max_steps=11", "--trainer.callbacks", *CALLBACKS[3], "--data.num_workers", "1"),
]


class Killed(BaseException):
    """Ends a run as a kill does: nothing more is saved."""


@st.composite
def flags(draw) -> list[str]:
    """Settings of a run that `fit` accepts."""
    accumulated = draw(st.integers(1, 4))
    batches = st.integers(1, 6).map(lambda updates: str(updates * accumulated))
    given = {
        "accumulate_grad_batches": str(accumulated),
        "val_check_interval": draw(batches),
        "limit_train_batches": draw(st.none() | batches),
        "overfit_batches": draw(st.none() | batches),
        "limit_val_batches": draw(st.none() | st.sampled_from(["0", "1", "1.0"])),
        "num_sanity_val_steps": draw(st.sampled_from([None, "0", "1"])),
        "precision": draw(st.sampled_from(["32-true", "64-true", "bf16-true", "16-true", "bf16-mixed"])),
        "gradient_clip_val": draw(st.none() | st.just("0.1")),
        "gradient_clip_algorithm": draw(st.sampled_from([None, "value", "norm"])),
        "log_every_n_steps": draw(st.sampled_from(["1", "2", "3"])),
        "reload_dataloaders_every_n_epochs": draw(st.none() | st.just("1")),
        "max_steps": str(draw(st.integers(1, 12))),
    }
    callbacks = draw(st.sampled_from(CALLBACKS))
    return [
        *draw(st.sampled_from(NETWORKS)),
        *(f"--trainer.{name}={value}" for name, value in given.items() if value is not None),
        *(["--trainer.callbacks", *callbacks] if callbacks else []),
        *draw(st.sampled_from([[], ["--data.num_workers", "1"]])),
    ]


@contextmanager
def ended_in_batch(number: int, kill: bool) -> Iterator[None]:
    """Ends the next run within this batch, counted from its start, with SIGTERM or as a kill does."""
    step, batches = CharGPT.training_step, count()

    def training_step(module, batch, batch_idx):
        if next(batches) == number:
            if kill:
                raise Killed
            signal.raise_signal(signal.SIGTERM)
        return step(module, batch, batch_idx)

    with patch.object(CharGPT, "training_step", training_step):
        yield


def interrupted(run, root: Path, arguments: list[str], stops: list[tuple[int, bool]]) -> Path:
    """Trains, ends the run in each of these batches and resumes it; returns the run's directory."""
    at = ["--trainer.default_root_dir", str(root)]
    for batch, kill in [*stops, (-1, False)]:
        saved = list(root.glob("*/checkpoints/last.ckpt"))
        with ended_in_batch(batch, kill), suppress(Killed):
            ended = run(*(["fit", "--ckpt_path", "last", *at] if saved else [*arguments, *at]))
            assert ended.code in (0, 143), ended.err
            if ended.code == 0:  # before that batch; a run that EarlyStopping has ended would be extended
                break
    return max(root.iterdir())


@pytest.mark.slow
@settings(
    max_examples=10,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(flags=flags(), stops=st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=3))
@example(flags=ENDS_EARLY, stops=[(17, False), (0, True), (19, True)])
def test_a_resumed_run_is_the_same_whatever_the_settings(run, flags, stops):
    shutil.rmtree("runs", ignore_errors=True)
    uninterrupted = interrupted(run, Path("runs/one"), [*TINY, *flags], [])
    assert_same_run(uninterrupted, interrupted(run, Path("runs/other"), [*TINY, *flags], stops))
