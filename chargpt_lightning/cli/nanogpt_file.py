"""Reads nanoGPT's config files, which are Python, as flags; they are never run.

nanoGPT applies files and flags in the order given, over the defaults of its `train.py`.
"""

import ast
import logging
import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from chargpt_lightning.checkpoints.training_settings import COUNTS
from chargpt_lightning.cli.nanogpt_flags import OTHERS, RENAMED, take_flags
from chargpt_lightning.utils.errors import ConfigError

log = logging.getLogger(__name__)

Settings = dict[str, Any]  # by nanoGPT's names; `config` is this package's flag

CHARACTERS = Path("config/train_shakespeare_char.py")
RECIPE: Settings = {"config": "shakespeare_char", "out_dir": "out-shakespeare-char"}  # if that file does not exist
TOKENS = ("train_gpt2", "finetune_shakespeare", "eval_gpt2", "eval_gpt2_medium", "eval_gpt2_large", "eval_gpt2_xl")

DEFAULTS: Settings = {  # of train.py, where a file is silent
    **{"out_dir": "out", "eval_interval": 2000, "eval_iters": 200, "log_interval": 1, "max_iters": 600_000},
    **{"gradient_accumulation_steps": 40, "batch_size": 12, "block_size": 1024, "compile": True},
    **{"n_layer": 12, "n_head": 12, "n_embd": 768, "dropout": 0.0, "bias": False},
    **{"learning_rate": 6e-4, "min_lr": 6e-5, "warmup_iters": 2000, "lr_decay_iters": 600_000, "decay_lr": True},
    **{"weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "grad_clip": 1.0},
}
OF_CHECKPOINT = {"config", "dataset", "block_size", "n_layer", "n_head", "n_embd", "bias"}  # a checkpoint has its own
OF_SAMPLE = {  # sample.py's settings; it ignores all others in a file
    *("init_from", "out_dir", "device", "dtype", "compile", "seed"),
    *("start", "num_samples", "max_new_tokens", "temperature", "top_k"),
}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def replace_files(args: list[str]) -> list[str]:
    """Replaces nanoGPT's config files in a command line by the flags that they mean.

    If the command starts from a checkpoint, the network and the dataset in a file give way to the checkpoint's.

    Args:
        args: The command line: a subcommand, then files that end in `.py`, and flags.

    Returns:
        The command line without files.

    Raises:
        ConfigError: If a file cannot be read, contains anything but nanoGPT's settings, or is one for BPE tokens.
    """
    files = {place: _settings(arg) for place, arg in enumerate(args) if arg.endswith(".py") and _is_file(args, place)}
    if not files:
        return args
    subcommand, loads = args[0], _loads_checkpoint(args, files.values())
    others = {place: _flags(settings, subcommand, loads) for place, settings in files.items()}
    from_recipe = any("config" in settings for settings in files.values())
    defaults = [] if loads or from_recipe else _flags(DEFAULTS, subcommand, loads)
    given = [flag for place, arg in enumerate(args[1:], start=1) for flag in others.get(place, [arg])]
    return [subcommand, *defaults, *given]


def _is_file(args: list[str], place: int) -> bool:
    """Whether an argument is neither a flag nor the value of the flag before it."""
    before = args[place - 1] if place else ""
    after_flag = before.startswith("-") and "=" not in before and before != "--print_config"
    return place > 0 and not args[place].startswith("-") and not after_flag


def _loads_checkpoint(args: list[str], files: Iterable[Settings]) -> bool:
    if args[0] != "fit":
        return True
    given, _ = take_flags(args, ("init_from", "ckpt_path"))
    starts = [settings["init_from"] for settings in files if "init_from" in settings]
    return "ckpt_path" in given or given.get("init_from", *starts[-1:] or [""]) == "resume"


def _flags(settings: Settings, subcommand: str, loads_checkpoint: bool) -> list[str]:
    """Returns those settings as flags that have a meaning for the subcommand."""
    names = settings.keys() - OF_CHECKPOINT if loads_checkpoint else settings.keys()
    if subcommand == "predict":
        names = names & OF_SAMPLE
    return [f"--{name}={value}" for name, value in settings.items() if name in names]


def _settings(file: str) -> Settings:
    """Returns the settings of a config file, or of the recipe that stands for it."""
    path = Path(file)
    if path.stem in TOKENS:
        raise ConfigError(
            f"config ({file}) must be for characters, because this package has no BPE tokens; "
            f"nanoGPT's file for characters is {CHARACTERS.as_posix()}"
        )
    if path.is_file():
        return _read(path)
    if path != CHARACTERS:
        raise ConfigError(f"config ({file}) must be a file, but there is no such file")
    log.info("config: there is no %s here, so the recipe %s is used", CHARACTERS.as_posix(), RECIPE["config"])
    return RECIPE


def _read(path: Path) -> Settings:
    """Reads a file that contains only assignments of literals to nanoGPT's settings.

    Raises:
        ConfigError: If it contains anything else.
    """
    try:
        statements = ast.parse(path.read_bytes()).body
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno or 1}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"config ({path}) must be a file of nanoGPT's settings, but: {error}") from error
    return dict(_setting(statement, f"{path}, line {statement.lineno}") for statement in statements)


def _setting(statement: ast.stmt, where: str) -> tuple[str, str]:
    """Returns the name and the value of one assignment."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            if name not in RENAMED | OTHERS | COUNTS:
                raise ConfigError(f"{where}: {name} must be one of nanoGPT's settings")
            try:
                return name, str(_value(value))
            except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
                reason = f"{name} must be a text, a number, True, False or None, because the file is not run"
                raise ConfigError(f"{where}: {reason}") from error
    raise ConfigError(f"{where}: must be an assignment such as `n_layer = 4`, because the file is not run")


def _value(node: ast.expr) -> Any:
    """Evaluates a literal, or arithmetic of numbers such as `5 * 8`.

    Raises:
        TypeError: If it is anything else.
        ArithmeticError: If a result does not exist or is too large.
    """
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_number(left), _number(right))
    raise TypeError("no literal")


def _number(node: ast.expr) -> int | float:
    value = _value(node)
    if not isinstance(value, int | float):
        raise TypeError("no number")
    return value
