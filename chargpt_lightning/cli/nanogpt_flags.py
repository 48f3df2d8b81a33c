"""Translates nanoGPT's settings to this package's flags: those of `train.py`, `sample.py` and checkpoints.

nanoGPT counts the batches of all devices, and updates between evaluations. Lightning counts the batches of one device
for both.
"""

import logging
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from chargpt_lightning.checkpoints.training_settings import COUNTS, updates_between_evaluations
from chargpt_lightning.utils.errors import ConfigError, require_package

log = logging.getLogger(__name__)

Flags = dict[str, str]

RENAMED = {
    "out_dir": "trainer.default_root_dir",
    "log_interval": "trainer.log_every_n_steps",
    "eval_iters": "data.eval_iters",
    "batch_size": "data.batch_size",
    "block_size": "model.block_size",
    "n_layer": "model.n_layer",
    "n_head": "model.n_head",
    "n_embd": "model.n_embd",
    "dropout": "model.dropout",
    "bias": "model.bias",
    "compile": "model.compile",
    "learning_rate": "model.learning_rate",
    "max_iters": "trainer.max_steps",
    "weight_decay": "model.weight_decay",
    "beta1": "model.beta1",
    "beta2": "model.beta2",
    "grad_clip": "trainer.gradient_clip_val",
    "decay_lr": "model.decay_lr",
    "warmup_iters": "model.warmup_iters",
    "lr_decay_iters": "model.lr_decay_iters",
    "min_lr": "model.min_lr",
    "start": "sample.prompt",
    "num_samples": "sample.num_samples",
    "max_new_tokens": "sample.max_new_tokens",
    "temperature": "sample.temperature",
}
TOKENS = ("openwebtext", "shakespeare")  # nanoGPT's datasets of BPE tokens
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def translate(args: list[str]) -> list[str]:
    """Translates nanoGPT's flags in a command line, and keeps all other arguments.

    Args:
        args: The command line: a subcommand, then flags of nanoGPT, as `--name=value` or `--name value`, and of this
            package.

    Returns:
        The command line with this package's flags. Translated flags come first, so that the others override them.

    Raises:
        ConfigError: If a flag has no value, or a value that this package does not support.
    """
    given, others = take_flags(args, RENAMED | OTHERS)
    if not given:
        return args
    settings = {RENAMED[name]: value for name, value in given.items() if name in RENAMED}
    for translation in dict.fromkeys(OTHERS[name] for name in given if name in OTHERS):
        settings |= translation(given, args[0])
    return [*others[:1], *(f"--{name}={value}" for name, value in settings.items()), *others[1:]]


def take_counts(args: list[str]) -> tuple[dict[str, int], list[str]]:
    """Removes the flags COUNTS from a command line, because translating them requires the number of devices.

    Returns:
        The counts by name, and the other arguments.

    Raises:
        ConfigError: If a count is missing or is not a whole number.
    """
    given, others = take_flags(args, COUNTS)
    return {name: _whole_number(name, value) for name, value in given.items()}, others


def _whole_number(name: str, value: str) -> int:
    if not value.isdecimal():
        raise ConfigError(f"{name} ({value}) must be a whole number")
    return int(value)


def flags_of_counts(counts: dict[str, int], trainer: Any, devices: Callable[[], int]) -> list[str]:
    """Translates nanoGPT's counts to this package's flags.

    Args:
        counts: Some of COUNTS. Without `eval_interval`, the number of updates between evaluations does not change.
        trainer: The Trainer's arguments, without the counts.
        devices: Returns the number of devices over all nodes.

    Raises:
        ConfigError: If the devices cannot share the batches of an update equally.
    """
    batches = trainer.accumulate_grad_batches
    updates = counts.get("eval_interval", updates_between_evaluations(trainer))
    flags = []
    if "gradient_accumulation_steps" in counts:
        batches = _share(counts["gradient_accumulation_steps"], devices())
        flags.append(f"--trainer.accumulate_grad_batches={batches}")
    return flags if updates is None else [*flags, f"--trainer.val_check_interval={updates * batches}"]


def _share(batches: int, devices: int) -> int:
    if batches % devices:
        raise ConfigError(
            f"gradient_accumulation_steps ({batches}) must be divisible by the number of devices ({devices}), "
            "because devices share the batches of an update; set another number with --gradient_accumulation_steps"
        )
    return batches // devices


def shared_equally(settings: dict[str, Any], devices: Callable[[], int]) -> dict[str, Any]:
    """Returns settings without the number of batches per update if devices cannot share it equally, and logs that."""
    batches = settings.get("gradient_accumulation_steps", 0)
    if batches % devices() == 0:
        return settings
    message = "changed: %d batches per update cannot be shared equally by %d devices; each device uses one batch"
    log.warning(message, batches, devices())
    return {name: value for name, value in settings.items() if name != "gradient_accumulation_steps"}


def training_flags(settings: dict[str, Any], trainer: Any, devices: Callable[[], int]) -> list[str]:
    """Translates a run's training settings to this package's flags, which serve as defaults for the user's.

    Args:
        settings: The settings, by nanoGPT's names.
        trainer: The Trainer's arguments as the user gave them.
        devices: Returns the number of devices over all nodes.

    Raises:
        ConfigError: If the devices cannot share the batches of an update equally, and the user gave no other number.
    """
    counts = {name: settings[name] for name in COUNTS if name in settings}
    if trainer.accumulate_grad_batches != 1:
        counts.pop("gradient_accumulation_steps", None)
    renamed = [f"--{RENAMED[name]}={value}" for name, value in settings.items() if name in RENAMED]
    return [*renamed, *flags_of_counts(counts, trainer, devices)]


def take_flags(args: list[str], names: Container[str]) -> tuple[Flags, list[str]]:
    """Returns the values of the flags with these names, and the other arguments.

    Raises:
        ConfigError: If a flag has no value.
    """
    given, others = {}, []
    remaining = iter(args)
    for arg in remaining:
        name, equals, value = arg.removeprefix("--").partition("=")
        if not arg.startswith("--") or name not in names:
            others.append(arg)
        elif equals:
            given[name] = value
        elif (following := next(remaining, None)) is not None:
            given[name] = following
        else:
            raise ConfigError(f"--{name} must be followed by a value")
    return given, others


def _device(given: Flags, subcommand: str) -> Flags:
    kind, _, index = given["device"].partition(":")
    settings = {"trainer.accelerator": kind}
    if index:
        settings["trainer.devices"] = f"[{index}]"
    if kind == "cpu" and "dtype" not in given:
        settings["trainer.precision"] = PRECISIONS["float32"]  # nanoGPT's default on a CPU
    return settings


def _dtype(given: Flags, subcommand: str) -> Flags:
    if given["dtype"] not in PRECISIONS:
        raise ConfigError(f"dtype ({given['dtype']}) must be one of {', '.join(PRECISIONS)}")
    return {"trainer.precision": PRECISIONS[given["dtype"]]}


def _init_from(given: Flags, subcommand: str) -> Flags:
    start = given["init_from"]
    if start == "scratch":
        return {}
    if start == "resume":  # `predict` uses the best checkpoint by default
        return {"ckpt_path": "last"} if subcommand == "fit" else {}
    raise ConfigError(f"init_from ({start}) must be scratch or resume, because GPT-2's weights need GPT-2's tokens")


def _eval_only(given: Flags, subcommand: str) -> Flags:
    if given["eval_only"] == "False" or (given["eval_only"], subcommand) == ("True", "validate"):
        return {}
    raise ConfigError(f"eval_only ({given['eval_only']}) must be False; use `validate` instead of `{subcommand}`")


def _always_save_checkpoint(given: Flags, subcommand: str) -> Flags:
    return {}  # each evaluation saves last.ckpt, and best.ckpt if it is the best


def _dataset(given: Flags, subcommand: str) -> Flags:
    name = given["dataset"]
    prepared = Path("data", name)  # where nanoGPT reads it
    if (prepared / "meta.pkl").is_file():
        return {"data.text": str(prepared)}
    if name in TOKENS or (prepared / "train.bin").is_file():
        raise ConfigError(
            f"dataset ({name}) must be of characters, with a meta.pkl in {prepared}, because this package has no BPE "
            "tokens; name a text file instead, or use shakespeare_char"
        )
    return {"data.text": "tinyshakespeare" if name == "shakespeare_char" else name}


def _backend(given: Flags, subcommand: str) -> Flags:
    return {"trainer.strategy": "DDPStrategy", "trainer.strategy.process_group_backend": given["backend"]}


def _wandb(given: Flags, subcommand: str) -> Flags:
    if given.get("wandb_log", "False") == "False":
        return {}
    require_package("wandb_log", given["wandb_log"], "wandb")
    settings = {"trainer.logger": "Wandb"}
    for name, option in (("wandb_project", "trainer.logger.project"), ("wandb_run_name", "trainer.logger.name")):
        if name in given:
            settings[option] = given[name]
    return settings


def _top_k(given: Flags, subcommand: str) -> Flags:
    return {"sample.top_k": "null" if given["top_k"] == "None" else given["top_k"]}


def _seed(given: Flags, subcommand: str) -> Flags:
    return {"sample.seed" if subcommand == "predict" else "seed_everything": given["seed"]}


OTHERS: dict[str, Callable[[Flags, str], Flags]] = {
    "device": _device,
    "dtype": _dtype,
    "init_from": _init_from,
    "eval_only": _eval_only,
    "always_save_checkpoint": _always_save_checkpoint,
    "dataset": _dataset,
    "backend": _backend,
    "wandb_log": _wandb,
    "wandb_project": _wandb,
    "wandb_run_name": _wandb,
    "top_k": _top_k,
    "seed": _seed,
}
