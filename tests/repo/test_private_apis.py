"""Private and version-dependent APIs of other packages that this one relies on, as docs/development.md lists them.

Each test checks the installed package directly, so a failure here names what a new release has changed.
"""

import ast
import inspect
import io
import logging
import re
import signal
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any

import lightning as L
import pooch
import pytest

pytest.importorskip("wandb")

import torch
import wandb
from jsonargparse import ArgumentError
from jsonargparse._common import parsing_settings
from lightning.fabric.strategies import model_parallel
from lightning.pytorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateFinder,
    ModelCheckpoint,
)
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.callback_connector import _CallbackConnector
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.tuner.lr_finder import _ExponentialLR, _LinearLR
from lightning.pytorch.utilities import rank_zero_only
from support import ROOT
from support.platforms import posix
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from chargpt_lightning.trainer.callback_validation import LIGHTNING_CALLBACKS, UNSET
from chargpt_lightning.utils.console import set_up_logging

PACKAGE = ROOT / "chargpt_lightning"


# The list


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def assigned(cls: ast.ClassDef) -> set[str]:
    """The attributes that a class defines by itself: methods, class attributes and what it assigns to self."""
    names = {part.name for part in cls.body if isinstance(part, ast.FunctionDef)}
    for node in ast.walk(cls):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def private_uses(tree: ast.Module) -> Iterator[str]:
    """The private names of others in a module: imported, asked of an object, or inherited and not assigned here."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    own = {node: names for cls in classes for names in [assigned(cls)] for node in ast.walk(cls)}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (part for name in names for part in name.name.split(".") if is_private(part))
            case ast.ImportFrom(module=module, names=names):
                parts = [*(module or "").split("."), *(name.name for name in names)]
                yield from filter(is_private, parts)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr) if is_private(attr):
                if attr not in own.get(node, set()):
                    yield attr
            case ast.Attribute(value=ast.Name(id="os"), attr="_exit"):
                continue  # documented
            case ast.Attribute(attr=attr) if is_private(attr):
                yield attr
            case ast.Call(func=ast.Name(id="getattr" | "setattr"), args=[_, ast.Constant(value=str(attr)), *_]):
                if is_private(attr):
                    yield attr


def table() -> list[list[str]]:
    """The cells of the rows in docs/development.md: what, where, why and which test fails first."""
    text = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    lines = text.split("\n## Private and version-dependent APIs\n")[1].split("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| ")][1:]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import a._b", ["_b"]),
        ("from a import _b, c", ["_b"]),
        ("from a._b import c", ["_b"]),
        ("x._y.z", ["_y"]),
        ("getattr(x, '_y', 1)", ["_y"]),
        ("x.__dict__", []),
        ("os._exit(1)", []),
        ("class A:\n def f(self): return self._y", ["_y"]),
        ("class A:\n def f(self): self._y = 1; return self._y + self._g()\n def _g(self): ...", []),
        ("class A:\n _y: int = 1\n def f(self): return self._y", []),
    ],
)
def test_the_scan_finds_what_belongs_to_others(code, found):
    assert list(private_uses(ast.parse(code))) == found


def test_every_private_name_of_another_package_is_in_the_table():
    listed = "".join(what for what, *_ in table())
    for path in sorted(PACKAGE.glob("**/*.py")):
        for name in private_uses(ast.parse(path.read_text(encoding="utf-8"))):
            assert f"`{name}`" in listed, f"{path.name} uses {name}: name it in docs/development.md, and test it here"


def test_every_row_names_modules_and_tests_that_exist():
    tests = {name for name in globals() if name.startswith("test_")}
    for row in table():
        what, where, _, test = row
        assert len(row) == 4, what
        assert test.strip("`") in tests, what
        for module in re.findall(r"`([\w/]+)\.?\w*`", where):
            assert (PACKAGE / f"{module}.py").is_file(), f"{what}: {module}"


def test_every_test_of_an_api_is_in_the_table():
    of_the_list = ("test_the_scan", "test_every")
    tests = {name for name in globals() if name.startswith("test_") and not name.startswith(of_the_list)}
    assert tests == {test.strip("`") for *_, test in table()}


# A tiny run on Lightning alone


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.ones(3)


class Probe(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.save_hyperparameters({"size": 3})

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean() + 1

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.layer(batch).mean())

    def configure_optimizers(self):
        optimizer = AdamW(self.parameters(), fused=True)
        scheduler = LambdaLR(optimizer, lambda step: 1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Text(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Endless(), batch_size=None)

    def val_dataloader(self):
        return DataLoader(torch.ones(2, 3), batch_size=None)

    def state_dict(self):
        return {"text": "a"}


class Directory(Logger):
    name = version = ""
    save_dir = "run"

    def log_metrics(self, metrics, step=None): ...

    def log_hyperparams(self, *args, **kwargs): ...


class Recorder(Callback):
    """Writes down which hooks Lightning calls, at which step, and what is there then."""

    def __init__(self):
        self.hooks = []
        self.seen = SimpleNamespace()

    def state_dict(self):
        return {"seen": 1}

    def on_fit_start(self, trainer, module):
        self.hooks.append("fit_start")

    def on_sanity_check_start(self, trainer, module):
        self.hooks.append("sanity_check_start")

    def on_sanity_check_end(self, trainer, module):
        self.hooks.append("sanity_check_end")
        self.seen.metrics_of_the_sanity_check = dict(trainer.callback_metrics)

    def on_train_start(self, trainer, module):
        self.hooks.append(f"train_start {trainer.global_step}")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.hooks.append(f"batch_end {trainer.global_step}")
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.hooks.append(f"validation_end {trainer.global_step}")

    def on_train_end(self, trainer, module):
        self.hooks.append("train_end")


class Saver(Recorder, Checkpoint):
    """A Checkpoint, which Lightning is to call after all other callbacks."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.others_before = trainer.callbacks.index(self) > max(
            trainer.callbacks.index(other) for other in trainer.callbacks if not isinstance(other, Checkpoint)
        )


def fit(*callbacks: Callback, ckpt_path: str | None = None, **settings: Any) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": Directory()}
    evaluating = {"check_val_every_n_epoch": None, "val_check_interval": 2, "num_sanity_val_steps": -1}
    trainer = L.Trainer(
        accelerator="cpu", callbacks=list(callbacks), **quiet | evaluating | {"max_steps": 3} | settings
    )
    trainer.fit(Probe(), datamodule=Text(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.fixture
def recorder():
    return Recorder()


def test_hooks_of_a_fit_come_in_this_order(recorder):
    fit(recorder)
    assert recorder.hooks == [
        *("fit_start", "sanity_check_start", "sanity_check_end", "train_start 0"),
        *("batch_end 1", "batch_end 2", "validation_end 2"),
        *("batch_end 3", "validation_end 3", "train_end"),  # should_stop has Lightning evaluate once more
    ]
    assert "val/loss" in recorder.seen.metrics_of_the_sanity_check


def test_a_resumed_fit_has_no_sanity_check(recorder):
    fit(max_steps=2, enable_checkpointing=False).save_checkpoint("two.ckpt", weights_only=False)
    fit(recorder, ckpt_path="two.ckpt")
    assert recorder.hooks[:2] == ["fit_start", "train_start 2"]


def test_checkpoint_callbacks_come_last_and_finders_first():
    saver, finder, recorder = Saver(), LearningRateFinder(), Recorder()
    assert _CallbackConnector._reorder_callbacks([saver, recorder, finder]) == [finder, recorder, saver]
    fit(saver, recorder)
    assert saver.seen.others_before


def test_averaged_weights_are_swapped_in_before_later_callbacks_see_an_evaluation_start():
    weights = {}

    class Look(Callback):
        def on_train_batch_end(self, trainer, module, *args):
            weights["raw"] = module.layer.weight.clone()

        def on_validation_epoch_start(self, trainer, module):
            weights["evaluated"] = module.layer.weight.clone()

    fit(EMAWeightAveraging(decay=0.5), Look())
    assert not torch.equal(weights["evaluated"], weights["raw"])


def test_a_float64_is_logged_as_it_is_and_a_number_is_rounded():
    class Log(Callback):
        def on_validation_epoch_end(self, trainer, module):
            module.log("tensor", torch.tensor(2**24 + 1, dtype=torch.float64), reduce_fx="max", sync_dist=True)
            module.log("number", float(2**24 + 1))

    logged = fit(Log()).callback_metrics
    assert logged["tensor"] == 2**24 + 1
    assert logged["number"] == 2**24


def test_the_trainer_tells_its_settings_as_they_were_given():
    trainer = fit(EarlyStopping("val/loss", patience=10), log_every_n_steps=7, accumulate_grad_batches=2)
    assert (trainer.val_check_interval, type(trainer.val_check_interval)) == (2, int)
    assert (trainer.log_every_n_steps, trainer.accumulate_grad_batches) == (7, 2)
    assert (trainer.fast_dev_run, trainer.overfit_batches, trainer.enable_validation) == (False, 0.0, True)
    assert isinstance(trainer.datamodule, Text)
    assert isinstance(trainer.lr_scheduler_configs[0].scheduler, LambdaLR)
    assert [type(callback) for callback in trainer.early_stopping_callbacks] == [EarlyStopping]
    assert trainer.distributed_sampler_kwargs is None


def test_a_checkpoint_has_these_keys(recorder):
    trainer = fit(recorder)
    trainer.save_checkpoint("probe.ckpt", weights_only=False)
    saved = torch.load("probe.ckpt", weights_only=True)
    assert saved.keys() >= {
        *("epoch", "global_step", "pytorch-lightning_version", "state_dict", "hparams_name", "hyper_parameters"),
        *("loops", "callbacks", "optimizer_states", "lr_schedulers"),
    }
    assert saved["hyper_parameters"] == {"size": 3}
    assert saved["Text"] == {"text": "a"}  # by the class's name, as is a callback
    assert saved["callbacks"]["Recorder"] == {"seen": 1}
    assert saved["optimizer_states"][0]["param_groups"][0].keys() >= {"params", "lr", "betas", "fused"}
    assert saved["optimizer_states"][0]["state"].keys() == {0, 1}


def test_the_loops_of_a_checkpoint_count_updates_in_these_places():
    trainer = fit()
    trainer.save_checkpoint("probe.ckpt", weights_only=False)
    loops = torch.load("probe.ckpt", weights_only=True)["loops"]
    assert loops.keys() >= {"fit_loop", "validate_loop", "predict_loop"}
    counts = loops["fit_loop"]["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    assert counts["step"] == {part: {"ready": 3, "completed": 3} for part in ("total", "current")}
    assert counts["zero_grad"].keys() == {"total", "current"}
    assert loops["fit_loop"]["epoch_loop.state_dict"] == {"_batches_that_stepped": 3}
    batches = loops["fit_loop"]["epoch_loop.batch_progress"]
    ready = dict.fromkeys(("ready", "started", "processed", "completed"), 3)
    assert batches == {"total": ready, "current": ready, "is_last_batch": False}


def test_a_lambda_schedulers_state_and_attributes_are_these():
    optimizer = AdamW(nn.Linear(2, 1).parameters())
    scheduler = LambdaLR(optimizer, lambda step: 1.0)
    assert scheduler.state_dict().keys() >= {"last_epoch", "_step_count", "lr_lambdas"}
    scheduler.base_lrs, scheduler.lr_lambdas = [2.0], [lambda step: 0.5]
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_adamw_updates_the_groups_that_it_has_at_that_moment_and_wants_steps_when_it_loads():
    one, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = AdamW([{"params": [one]}, {"params": [other]}])
    one.grad = other.grad = torch.ones(1)
    groups = optimizer.param_groups
    optimizer.param_groups = groups[:1]
    optimizer.step()
    assert one.item() != 1.0
    assert other.item() == 1.0
    optimizer.param_groups = groups
    state = optimizer.state_dict()
    del state["state"][0]["step"]
    with pytest.raises(KeyError, match="step"):
        optimizer.load_state_dict(state)


def test_what_model_checkpoint_keeps_in_its_state_and_where_it_writes():
    keeper = ModelCheckpoint(monitor="val/loss", filename="best", enable_version_counter=False)
    fit(keeper)
    assert keeper.state_dict().keys() >= {
        *("best_model_path", "kth_best_model_path", "best_k_models", "best_model_score", "dirpath"),
    }
    assert Path(keeper.dirpath) == Path("run/checkpoints")  # of the logger's save_dir, name and version
    assert Path(keeper.best_model_path).name == "best.ckpt"


def test_an_exception_that_is_no_exception_leaves_the_trainer_as_it_is():
    class Stopped(BaseException): ...

    class Stopper(Callback):
        def on_train_batch_end(self, *args):
            raise Stopped

    with pytest.raises(Stopped):
        fit(Stopper())


@posix
def test_lightning_takes_signals_before_the_sanity_check_and_gives_them_back():
    class Listener(Callback):
        def on_sanity_check_start(self, trainer, module):
            self.handler = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

        def on_train_end(self, trainer, module):
            self.at_the_end = signal.getsignal(signal.SIGTERM)

    before, listener = signal.getsignal(signal.SIGTERM), Listener()
    fit(listener)
    assert callable(listener.handler)
    assert listener.handler is not before
    assert listener.at_the_end == signal.SIG_IGN  # it is not taken again
    assert signal.getsignal(signal.SIGTERM) == before


@posix
def test_under_slurm_lightning_requeues_on_sigusr1(monkeypatch):
    class Listener(Callback):
        def on_sanity_check_start(self, trainer, module):
            self.handler = signal.getsignal(signal.SIGUSR1)

    for name, value in {"NTASKS": "1", "JOB_NAME": "verse", "JOB_ID": "1", "NTASKS_PER_NODE": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name, value in {"NODELIST": "localhost", "LOCALID": "0", "PROCID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    listener = Listener()
    fit(listener, num_nodes=1, devices=1)
    assert callable(listener.handler)
    assert Path(_CheckpointConnector.hpc_save_path("runs")) == Path("runs/hpc_ckpt_1.ckpt")


def test_the_rank_of_a_process_is_known_without_a_trainer():
    assert rank_zero_only.rank == 0


@pytest.mark.parametrize("launcher", [_SubprocessScriptLauncher, _MultiProcessingLauncher])
def test_launchers_can_kill_what_they_launched(launcher):
    assert list(inspect.signature(launcher.kill).parameters) == ["self", "signum"]
    assert L.Trainer(accelerator="cpu", devices=1, logger=False).strategy.launcher is None


def test_a_mesh_calls_its_dimension_of_data_data_parallel():
    assert '"data_parallel"' in inspect.getsource(model_parallel)


def test_the_schedulers_of_the_finder_are_no_lambdas():
    assert not issubclass(_LinearLR, LambdaLR)
    assert not issubclass(_ExponentialLR, LambdaLR)


def test_early_stopping_says_why_it_stops():
    stopping = EarlyStopping("val/loss", stopping_threshold=1.0)
    assert stopping.stopping_reason_message is None
    stop, reason = stopping._evaluate_stopping_criteria(torch.tensor(0.5))
    assert stop
    assert reason.endswith(" Signaling Trainer to stop.")


@pytest.mark.parametrize(("callback", "argument"), sorted({(row[0], row[1]) for row in UNSET}))
def test_callbacks_have_the_arguments_that_are_checked(callback, argument):
    module = import_module(LIGHTNING_CALLBACKS.removesuffix("."))
    assert argument in inspect.signature(getattr(module, callback)).parameters


# LightningCLI and jsonargparse


class ProbeCLI(LightningCLI):
    calls: list[str]

    @staticmethod
    def subcommands():
        return {"fit": {"model", "datamodule", "weights_only", "train_dataloaders", "val_dataloaders"}}

    def parse_arguments(self, parser, args):
        self.calls = ["parse_arguments"]
        super().parse_arguments(parser, args)

    def before_instantiate_classes(self):
        self.calls.append("before_instantiate_classes")

    def instantiate_trainer(self, **kwargs):
        self.calls.append("instantiate_trainer")
        self.save_config_callback = None
        return super().instantiate_trainer(**kwargs)

    def fit(self, **kwargs):
        self.calls.append(f"fit {sorted(kwargs)}")


@pytest.mark.filterwarnings("ignore")  # Lightning calls what jsonargparse 5 removes
def test_lightning_cli_calls_its_own_fit_and_the_other_methods_in_this_order(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["probe"])
    settings = {"trainer_defaults": {"logger": False, "accelerator": "cpu"}, "auto_configure_optimizers": False}
    cli = ProbeCLI(Probe, Text, args=["fit"], seed_everything_default=0, **settings)
    assert cli.calls == [
        *("parse_arguments", "before_instantiate_classes", "instantiate_trainer"),
        "fit ['ckpt_path', 'datamodule', 'model']",
    ]
    assert cli.config_init.fit.trainer.logger is False
    assert not [callback for callback in cli.trainer.callbacks if isinstance(callback, SaveConfigCallback)]


def test_the_setup_of_a_save_config_callback_saves():
    class Save(SaveConfigCallback):
        def save_config(self, trainer, pl_module, stage):
            self.saved = (self.parser, self.config, stage)

    trainer = L.Trainer(accelerator="cpu", logger=False)
    callback = Save("parser", "config", save_to_log_dir=False)
    callback.setup(trainer, Probe(), "fit")
    assert callback.saved == ("parser", "config", "fit")


class Part:
    def __init__(self, size: int = 1) -> None:
        if size > 1:
            raise ValueError(f"size {size}")


def parser() -> LightningArgumentParser:
    """One whose errors are raised."""
    return LightningArgumentParser(exit_on_error=False)


@pytest.mark.filterwarnings("ignore")  # Lightning calls what jsonargparse 5 removes
def test_what_a_class_says_against_its_arguments_is_the_cause_of_a_value_error():
    parts = parser()
    parts.add_argument("--parts", type=list[Part] | Part | None)
    given = parts.parse_args([f"--parts={__name__}.Part", "--parts.size=2"])
    with pytest.raises(ValueError, match="size 2") as refusal:
        parts.instantiate_classes(given)
    assert str(refusal.value.__cause__) == "size 2"


def test_jsonargparse_lists_the_subtypes_between_these_words():
    numbers = parser()
    numbers.add_argument("--number", type=int | bool | None)
    with pytest.raises(ArgumentError) as refusal:
        numbers.parse_args(["--number=x"])
    assert re.search(r"Subtypes: .* Errors: ", " ".join(str(refusal.value).split()))


def test_a_link_is_an_action_whose_option_has_no_dash():
    whole, part = parser(), parser()
    part.add_argument("--a", default=1)
    part.add_argument("--b", default=1)
    part.link_arguments("a", "b")
    action = whole.add_subcommands()
    action.add_subcommand("part", part)
    assert action.choices["part"] is part
    options = [option for action in part._actions for option in action.option_strings]
    assert [option for option in options if not option.startswith("-")] == ["a --> b"]


# Messages


def messages_of(module: str) -> str:
    """The texts in a module's source, one a line; what is put into them is left out."""
    source = inspect.getsource(import_module(module))
    texts = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant | ast.JoinedStr))
    return "\n".join(_text(node) for node in texts)


def _text(node: ast.expr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "train" for part in parts)


WARN = [
    "lightning.pytorch.callbacks.model_checkpoint",
    "lightning.pytorch.callbacks.throughput_monitor",
    "lightning.pytorch.callbacks.weight_averaging",
    "lightning.pytorch.loops.fit_loop",
    "lightning.pytorch.loops.training_epoch_loop",
    "lightning.pytorch.trainer.call",
    "lightning.pytorch.trainer.connectors.data_connector",
    "torch.profiler.profiler",
    "torch.utils._pytree",
]


def test_jsonargparse_imports_what_its_verdicts_allow(monkeypatch):
    verdicts = {"*": False, "textwrap": False, "textwrap.indent": True}
    monkeypatch.setitem(parsing_settings, "import_path_verdicts", verdicts)
    monkeypatch.setitem(parsing_settings, "import_paths_enforced", True)
    functions = parser()
    functions.add_argument("--function", type=Callable)
    assert functions.parse_args(["--function=textwrap.indent"]).function is indent
    for name, entry in (("textwrap.dedent", "textwrap"), ("string.capwords", "*")):
        denied = re.escape(f"Importing '{name}' is not allowed, denied by the '{entry}' entry")
        with pytest.raises(ArgumentError, match=denied):
            functions.parse_args([f"--function={name}"])


def test_silenced_warnings_are_still_raised_by_a_package(monkeypatch):
    silenced = []
    monkeypatch.setattr(warnings, "filterwarnings", lambda *args, message="", **kwargs: silenced.append(message))
    set_up_logging()
    texts = "\n".join(map(messages_of, WARN))
    assert len(silenced) > 5
    for message in silenced:
        assert re.search(f"^{message}", texts, re.MULTILINE), f"nobody warns of {message} any longer"


@pytest.mark.parametrize("name", ["callbacks.early_stopping", "tuner.lr_finder", "profilers.profiler"])
def test_lightnings_loggers_are_named_by_their_modules(name):
    module = import_module(f"lightning.pytorch.{name}")
    assert module.log is logging.getLogger(f"lightning.pytorch.{name}")
    assert {"lightning.pytorch", "lightning.fabric"} <= logging.root.manager.loggerDict.keys()


# Other packages


def test_lightning_gives_wandb_a_setting_that_wandb_warns_of():
    assert "anonymous" in WandbLogger()._wandb_init, "Lightning no longer does: loggers.Wandb need not drop it"


def test_wandb_names_its_file_by_the_id_and_its_folder_by_the_time():
    file = Path(wandb.Settings(run_id="an-id", mode="offline", x_start_time=0.0).sync_file)
    assert file.name == "run-an-id.wandb"
    assert re.fullmatch(r"offline-run-\d{8}_\d{6}-an-id", file.parent.name)
    assert file.parent.parent.name == "wandb"


def test_a_file_of_torch_save_is_an_archive_without_attributes_or_compression():
    content = io.BytesIO()
    torch.save({"weights": torch.ones(2)}, content)
    with zipfile.ZipFile(content) as archive:
        assert archive.testzip() is None
        assert not any(member.external_attr for member in archive.infolist())
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert "archive/data.pkl" in archive.namelist()


def test_torch_tells_whether_the_cpu_computes_in_bf16():
    native = torch.cpu._is_avx512_bf16_supported()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        flags = cpuinfo.read_text(encoding="utf-8").split()
        assert native == ("avx512_bf16" in flags)
        assert native or "amx_bf16" not in flags
    else:
        assert isinstance(native, bool)


def test_a_progress_line_tells_whether_it_was_drawn_and_how_fast_it_is():
    with tqdm(total=2, file=io.StringIO(), mininterval=0, miniters=1) as bar:
        assert bar.update(1)
        assert bar.n == 1
        assert "rate" in bar.format_dict


def test_the_queue_of_gradio_looks_for_requests_as_often_as_it_says():
    blocks, queueing = (pytest.importorskip(f"gradio.{name}") for name in ("blocks", "queueing"))
    assert "self._queue = queueing.Queue(" in inspect.getsource(blocks.Blocks.queue)
    assert "self.sleep_when_free = 0.05 if" in inspect.getsource(queueing.Queue.__init__)
    assert "asyncio.sleep(self.sleep_when_free)" in inspect.getsource(queueing.Queue.start_processing)


def test_pooch_refuses_a_wrong_checksum_and_leaves_no_file():
    def download(url, file, pooch):
        Path(file).write_text("other", encoding="utf-8")

    pooch.get_logger().setLevel(logging.WARNING)
    with pytest.raises(ValueError, match="hash"):
        pooch.retrieve("https://example.org/a.txt", "0" * 64, "a.txt", "cache", downloader=download)
    assert not Path("cache/a.txt").exists()


def test_a_module_without_a_trainer_has_none():
    assert Probe()._trainer is None


def test_metrics_for_callbacks_and_bars_can_be_added():
    trainer = fit(max_steps=1)
    for seen in ("callback_metrics", "progress_bar_metrics"):
        getattr(trainer, seen).update(added=1.0)
        assert getattr(trainer, seen)["added"] == 1.0


def test_the_loss_before_backward_is_divided():
    losses = []

    class Losses(Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            losses.append(loss.item())

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            losses.append(pl_module.training_step(batch, 0).item())

    fit(Losses(), max_steps=1, accumulate_grad_batches=2)
    assert losses[1::2] == pytest.approx([whole / 2 for whole in losses[::2]])


def test_help_is_made_of_groups_of_actions():
    parser = LightningArgumentParser()
    parser.add_argument("--first", help="one")
    parser.add_argument("--logger", type=Logger, help="two")
    options = parser._action_groups[-1]
    assert [action.dest for action in options._group_actions][:2] == ["help", "first"]
    formatter = parser._get_formatter()
    assert ", known subclasses: " in formatter._expand_help(parser._actions[-1])
    parser._action_groups = []
    assert "--first FIRST" not in parser.format_help().partition("\n\n")[2]
