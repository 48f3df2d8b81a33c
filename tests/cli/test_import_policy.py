"""Files of settings run no code, neither the user's nor those of a run."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from support.command_line import TINY, refused

from chargpt_lightning.cli.import_policy import ALLOWED_IN_RUN_CONFIG, DENIED, UNTRUSTED

TOUCH = {"class_path": "os.system", "init_args": {"command": "echo > EXECUTED"}}
LAMBDA = {"class_path": "LambdaCallback", "init_args": {"on_fit_start": TOUCH}}
THROUGH_LIGHTNING = "lightning.fabric.strategies.launchers.subprocess_script.subprocess.Popen"
HOSTILE = {  # settings of the Trainer in a config.yaml, by what they try to run
    "a command": {"callbacks": [LAMBDA]},
    "a command, as text": {"callbacks": json.dumps([LAMBDA])},
    "a command, by a class as text": {"callbacks": "LambdaCallback", "strategy": "ddp"},
    "a module, for a callback": {"callbacks": [{"class_path": "hostile.Callback"}]},
    "a module, for its one word": {"callbacks": ["hostile.Callback"]},
    "a module, behind a callback of Lightning's": {
        "callbacks": [{"class_path": "ThroughputMonitor", "init_args": {"batch_size_fn": "hostile.function"}}]
    },
    "a command, behind a module of Lightning's": {
        "callbacks": [{"class_path": "ThroughputMonitor", "init_args": {"batch_size_fn": THROUGH_LIGHTNING}}]
    },
    "a module, for a hook": {
        "strategy": {"class_path": "DDPStrategy", "init_args": {"ddp_comm_hook": "hostile.function"}}
    },
    "a module, for a logger": {"logger": [{"class_path": "hostile.Logger"}]},
    "a module, for a plugin": {"plugins": [{"class_path": "hostile.Plugin"}]},
    "a module, for an accelerator": {"accelerator": {"class_path": "hostile.Accelerator"}},
    "a module, in another file": {"callbacks": "hostile.yaml"},
    "a deletion": {"logger": [{"class_path": "CSVLogger", "init_args": {"save_dir": "runs/version_0"}}]},
}


def settings_of(run_directory: Path) -> dict:
    return yaml.safe_load((run_directory / "config.yaml").read_text(encoding="utf-8"))


def plant(run_directory: Path, trainer: dict) -> None:
    """Writes these settings into a run's config.yaml; any code that they name would leave a trace."""
    Path("hostile.py").write_text("open('EXECUTED', 'w')", encoding="utf-8")
    Path("hostile.yaml").write_text(yaml.safe_dump([LAMBDA]), encoding="utf-8")
    settings = settings_of(run_directory)
    settings["trainer"] |= trainer
    (run_directory / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


@pytest.mark.parametrize("trainer", HOSTILE.values(), ids=HOSTILE)
def test_settings_of_a_run_that_would_run_code_are_refused(run, tiny_run, monkeypatch, trainer):
    plant(tiny_run, trainer)
    monkeypatch.syspath_prepend(Path.cwd())
    message = refused(run, "fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert message.startswith("config.yaml of the run (")
    assert message.endswith(", name it again with --config or a flag")


@pytest.mark.parametrize("name", ["os.system", "subprocess.run", "builtins.exec", THROUGH_LIGHTNING])
def test_the_users_settings_cannot_call_any_function(run, name):
    callback = {"class_path": "LambdaCallback", "init_args": {"on_fit_start": {"class_path": name}}}
    Path("mine.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}), encoding="utf-8")
    message = refused(run, *TINY, "--config", "mine.yaml")
    assert message == DENIED.format(name.replace(THROUGH_LIGHTNING, "subprocess.Popen"))


def test_yaml_makes_no_objects(run):
    Path("hostile.yaml").write_text("data:\n  text: !!python/object/apply:os.mkdir ['EXECUTED']\n", encoding="utf-8")
    assert "could not determine a constructor" in refused(run, *TINY, "--config", "hostile.yaml")


def test_an_argument_of_several_types_is_not_instantiated(run, tiny_run, monkeypatch):
    """The parser reads W&B's settings as a dict; only their instantiation could read them as a class."""
    plant(
        tiny_run, {"logger": [{"class_path": "Wandb", "dict_kwargs": {"settings": {"class_path": "hostile.Settings"}}}]}
    )
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert (result.code, result.err.splitlines()[-1].startswith("error: trainer.logger (Wandb)")) == (1, True)
    assert not Path("EXECUTED").exists()


OWN = """
from lightning.pytorch.callbacks import Callback

class Own(Callback):
    def on_train_start(self, trainer, pl_module):
        print("own callback")
"""


def test_a_users_class_must_be_named_again_on_resume(run, monkeypatch):
    Path("my_callbacks.py").write_text(OWN, encoding="utf-8")
    Path("mine.yaml").write_text("trainer:\n  callbacks:\n  - class_path: my_callbacks.Own\n", encoding="utf-8")
    monkeypatch.syspath_prepend(Path.cwd())
    assert "own callback" in run(*TINY, "--config", "mine.yaml").out
    more = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"]
    assert refused(run, *more) == UNTRUSTED.format("my_callbacks.Own")
    again = run(*more, "--config", "mine.yaml")
    assert (again.code, again.out) == (0, "own callback\n")


def test_the_classes_that_a_run_may_name_exist():
    for module, names in ALLOWED_IN_RUN_CONFIG.items():
        for name in names:
            assert callable(getattr(import_module(module), name))


def test_a_run_may_name_the_callbacks_of_the_docs(run, tiny_run):
    """Each known class works on resume although only the run's own settings name it."""
    callbacks = [
        {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}},
        {"class_path": "LearningRateMonitor"},
        {
            "class_path": "ThroughputMonitor",
            "init_args": {
                "batch_size_fn": "chargpt_lightning.data.windows.windows_in",
                "length_fn": "chargpt_lightning.data.windows.characters_in",
            },
        },
    ]
    plant(tiny_run, {"callbacks": callbacks, "profiler": {"class_path": "SimpleProfiler"}})
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    assert "EarlyStopping" in str(settings_of(tiny_run)["trainer"]["callbacks"])
