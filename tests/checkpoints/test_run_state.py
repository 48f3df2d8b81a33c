"""A damaged state of a run is refused in one line when the run resumes, whatever part of it is damaged."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.command_line import TINY, refused

from chargpt_lightning.checkpoints.io import read_checkpoint
from chargpt_lightning.utils.errors import ConfigError

LAST = Path("runs/version_0/checkpoints/last.ckpt")
DAMAGED = "must contain the state of a run as `fit` saves it, but its {} is damaged; use another checkpoint"


def edited(edit: Callable[[dict[str, Any]], object]) -> None:
    checkpoint = torch.load(LAST, weights_only=True)
    edit(checkpoint)
    torch.save(checkpoint, LAST)


def refusal(run, *args: str) -> str:
    """The error of a command, after messages that say how far it came."""
    result = run(*args)
    assert result.code == 1, result
    (line,) = (line for line in result.err.splitlines() if line.startswith("error: "))
    assert result.err.endswith(f"{line}\n")
    return line


REPORT = {"val_losses": {}}
DAMAGES = {
    "pytorch-lightning_version": ["", "x", 2.6],
    "epoch": [-1, "0", torch.zeros(2)],
    "callbacks": [[], {"Report": {}}, {"Report": {"val_losses": {1: math.nan}}}, {"Report": REPORT, "Timer": 5}],
    "loops": [5, {"fit_loop": {"epoch_progress": {"total": {"ready": "1"}}}}, {"fit_loop": {"state_dict": -1}}],
    "optimizer_states": [{}, [5], [{"state": {0: 1}, "param_groups": []}], [{"state": {}, "param_groups": [{}]}]],
    "lr_schedulers": [{}, [None], [{"last_epoch": "x"}], [{"get_lr": 5}], [{"optimizer": 5}]],
    "history": [
        [],
        {"rows": -1, "columns": []},
        {"rows": 1, "columns": ["\ud800"]},
        {"rows": 1, "columns": ["x"] * 2000},
    ],
    "CharDataModule": [[], "verse.txt", None],
}


def test_a_damaged_part_is_named(tiny_run):
    right = torch.load(LAST, weights_only=True)
    for part, damages in DAMAGES.items():
        for damage in damages:
            torch.save(right | {part: damage}, LAST)
            with pytest.raises(ConfigError, match=re.escape(f"ckpt_path ({LAST}) {DAMAGED.format(part)}")):
                read_checkpoint(LAST)


@pytest.mark.parametrize("command", [["fit", "--trainer.max_steps", "6"], ["validate"], ["predict"]])
def test_every_command_refuses_a_damaged_part(run, tiny_run, command):
    edited(lambda checkpoint: checkpoint.update(loops={"fit_loop": {}, "predict_loop": {"state_dict": "x"}}))
    assert DAMAGED.format("loops") in refused(run, *command, "--ckpt_path", "last")


def first_state(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return checkpoint["optimizer_states"][0]["state"][0]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda found: first_state(found).update(exp_avg=torch.zeros(3)), "exp_avg is not a tensor of shape (21, 8)"),
        (lambda found: first_state(found).pop("exp_avg_sq"), "exp_avg_sq is not a tensor of shape (21, 8)"),
        (lambda found: first_state(found).update(step=torch.zeros(2)), "step is not a tensor of shape ()"),
        (lambda found: first_state(found).pop("step"), "restoring it fails: KeyError: 'step'"),
        (
            lambda found: first_state(found)["exp_avg"].view(-1)[-1:].fill_(math.nan),
            "exp_avg of weight 0 is not a number",
        ),
        (lambda found: found["optimizer_states"][0]["param_groups"].pop(), "restoring it fails: ValueError: loaded"),
    ],
)
def test_damage_that_shows_only_when_it_is_restored_is_named(run, tiny_run, edit, reason):
    edited(edit)
    message = refusal(run, "fit", "--ckpt_path", str(LAST), "--trainer.max_steps", "6")
    assert f"ckpt_path ({LAST}) must contain the state of a run as `fit` saves it, but ".replace("\\", "/") in message
    assert reason in message
    assert message.endswith("; use another checkpoint")


def test_settings_of_the_optimizer_come_from_the_command_not_from_the_file(run, tiny_run):
    """A checkpoint that says `maximize` would make the loss grow."""
    edited(
        lambda found: [group.update(maximize=True, eps=1e3) for group in found["optimizer_states"][0]["param_groups"]]
    )
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    (state,) = torch.load(LAST, weights_only=True)["optimizer_states"]
    assert {(group["maximize"], group["eps"]) for group in state["param_groups"]} == {(False, 1e-8)}


def test_an_error_of_the_run_itself_is_not_called_damage(run, tiny_run, during):
    during(5, happens=lambda: {}["mistake"])
    with pytest.raises(KeyError, match="mistake"):
        run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    during(5, happens=lambda: {}["mistake"])
    with pytest.raises(KeyError, match="mistake"):
        run(*TINY, "--trainer.max_steps", "6")
