"""The way in for nanoGPT's users: the flags of its `train.py` and `sample.py`, in our words."""

from collections.abc import Callable
from pathlib import Path

from chargpt_lightning.errors import ConfigError, require_package

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
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
EVAL_INTERVAL = 250  # updates between evaluations in nanoGPT's recipe, and in ours


def translate(args: list[str]) -> list[str]:
    """Puts nanoGPT's flags into our words and leaves all else as it is.

    Args:
        args: The command line: a subcommand, then flags of either spelling, nanoGPT's as `--name=value` or
            `--name value`.

    Returns:
        The command line in our spelling; what was translated comes first, so that it gives way to ours.

    Raises:
        ConfigError: If a flag has no value, or has no counterpart; then it names what to use instead.
    """
    given, ours = _take_flags(args)
    if not given:
        return args
    settings = {RENAMED[name]: value for name, value in given.items() if name in RENAMED}
    for translation in dict.fromkeys(OTHERS[name] for name in given if name in OTHERS):
        settings |= translation(given, args[0])
    return [*ours[:1], *(f"--{name}={value}" for name, value in settings.items()), *ours[1:]]


def _take_flags(args: list[str]) -> tuple[Flags, list[str]]:
    """nanoGPT's flags with their values, and the other arguments."""
    given, ours = {}, []
    remaining = iter(args)
    for arg in remaining:
        name, equals, value = arg.removeprefix("--").partition("=")
        if not arg.startswith("--") or name not in RENAMED | OTHERS:
            ours.append(arg)
        elif equals:
            given[name] = value
        elif (following := next(remaining, None)) is not None:
            given[name] = following
        else:
            raise ConfigError(f"--{name} must be followed by a value")
    return given, ours


def _device(given: Flags, subcommand: str) -> Flags:
    kind, _, index = given["device"].partition(":")
    settings = {"trainer.accelerator": kind}
    if index:
        settings["trainer.devices"] = f"[{index}]"
    if kind == "cpu" and "dtype" not in given:
        settings["trainer.precision"] = PRECISIONS["float32"]  # nanoGPT's on a CPU
    return settings


def _dtype(given: Flags, subcommand: str) -> Flags:
    if given["dtype"] not in PRECISIONS:
        raise ConfigError(f"dtype ({given['dtype']}) must be one of {', '.join(PRECISIONS)}")
    return {"trainer.precision": PRECISIONS[given["dtype"]]}


def _evaluation(given: Flags, subcommand: str) -> Flags:
    """nanoGPT counts updates between evaluations, Lightning batches."""
    batches = _count(given, "gradient_accumulation_steps", 1)
    updates = _count(given, "eval_interval", EVAL_INTERVAL)
    return {"trainer.accumulate_grad_batches": str(batches), "trainer.val_check_interval": str(updates * batches)}


def _count(given: Flags, name: str, default: int) -> int:
    value = given.get(name, str(default))
    if not value.isdecimal():
        raise ConfigError(f"{name} ({value}) must be a whole number")
    return int(value)


def _init_from(given: Flags, subcommand: str) -> Flags:
    start = given["init_from"]
    if start == "scratch":
        return {}
    if start == "resume":  # what `predict` does by itself, with the best checkpoint
        return {"ckpt_path": "last"} if subcommand == "fit" else {}
    raise ConfigError(
        f"init_from ({start}) has no counterpart: GPT-2's weights need GPT-2's tokens; use scratch or resume"
    )


def _eval_only(given: Flags, subcommand: str) -> Flags:
    if given["eval_only"] == "False":
        return {}
    raise ConfigError(f"eval_only ({given['eval_only']}) has no counterpart: use `validate` instead of `{subcommand}`")


def _always_save_checkpoint(given: Flags, subcommand: str) -> Flags:
    return {}  # every evaluation saves last.ckpt, a better one best.ckpt too


def _dataset(given: Flags, subcommand: str) -> Flags:
    name = given["dataset"]
    prepared = Path("data", name)  # where nanoGPT looks
    if (prepared / "meta.pkl").is_file():
        return {"data.text": str(prepared)}
    return {"data.text": "tinyshakespeare" if name == "shakespeare_char" else name}


def _backend(given: Flags, subcommand: str) -> Flags:
    return {"trainer.strategy": "DDPStrategy", "trainer.strategy.process_group_backend": given["backend"]}


def _wandb(given: Flags, subcommand: str) -> Flags:
    if given.get("wandb_log", "False") == "False":
        return {}
    require_package("wandb_log", given["wandb_log"], "wandb")
    settings = {"trainer.logger": "Wandb"}
    for name, ours in (("wandb_project", "trainer.logger.project"), ("wandb_run_name", "trainer.logger.name")):
        if name in given:
            settings[ours] = given[name]
    return settings


def _top_k(given: Flags, subcommand: str) -> Flags:
    return {"sample.top_k": "null" if given["top_k"] == "None" else given["top_k"]}


def _seed(given: Flags, subcommand: str) -> Flags:
    return {"sample.seed" if subcommand == "predict" else "seed_everything": given["seed"]}


OTHERS: dict[str, Callable[[Flags, str], Flags]] = {
    "device": _device,
    "dtype": _dtype,
    "eval_interval": _evaluation,
    "gradient_accumulation_steps": _evaluation,
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
