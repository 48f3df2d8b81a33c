"""Converts nanoGPT's checkpoints (the ckpt.pt of its `train.py`) to this package's format, and back.

The networks are the same, with the same names and the same order of weights.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from chargpt_lightning.checkpoints.io import network_weights, pack, val_losses_of
from chargpt_lightning.checkpoints.optimizer_state import renumbered
from chargpt_lightning.checkpoints.training_settings import settings_in
from chargpt_lightning.data.nanogpt import read_alphabet, write_alphabet
from chargpt_lightning.utils.atomic import open_atomically
from chargpt_lightning.utils.errors import ConfigError

SHAPE = ("n_layer", "n_head", "n_embd", "block_size")
TRAINING = ("learning_rate", "min_lr", "warmup_iters", "lr_decay_iters", "decay_lr", "weight_decay", "beta1", "beta2")
TEXT = ("text", "sha256")  # not nanoGPT's: added by `export`
GRAD_CLIP = 1.0  # train.py's default


def is_nanogpt(checkpoint: Any) -> bool:
    """Whether the content of a file has the form of a nanoGPT checkpoint."""
    return isinstance(checkpoint, dict) and {"model", "model_args", "iter_num"} <= checkpoint.keys()


def from_nanogpt(checkpoint: dict[str, Any], path: Path, text: str | list[str]) -> dict[str, Any]:
    """Converts a nanoGPT checkpoint to this package's format, with the state of its AdamW if that is complete.

    Args:
        checkpoint: The content of nanoGPT's ckpt.pt.
        path: The path of that file.
        text: The user's `data.text`, which is searched first for the alphabet.

    Raises:
        ConfigError: If the checkpoint is incomplete, or its alphabet cannot be found.
    """
    weights, shape, step = _contents(checkpoint, path)
    config = checkpoint["config"] if isinstance(checkpoint.get("config"), dict) else {}
    named = config.get("dataset")
    dataset = named if isinstance(named, str) else ""
    folder = _alphabet_folder(path, dataset, text)
    alphabet = read_alphabet(folder / "meta.pkl")
    if len(alphabet) != (vocab_size := len(weights["transformer.wte.weight"])):
        raise ConfigError(
            f"ckpt_path ({path}) must have the alphabet of {folder / 'meta.pkl'}, "
            f"but its vocab_size is {vocab_size} and the alphabet has {len(alphabet)} characters"
        )
    packed = pack(weights, {"alphabet": alphabet} | shape | _training(config), step)
    packed["CharDataModule"] = {"text": _text(path, dataset), "sha256": None} | _recorded_text(config)
    training = {"grad_clip": GRAD_CLIP} | settings_in(config)
    return packed | {"training": training} | _run_state(checkpoint, weights, step)


def _contents(checkpoint: dict[str, Any], path: Path) -> tuple[dict[str, Tensor], dict[str, Any], int]:
    """Returns the weights, the arguments that give the network's shape, and the step."""
    match checkpoint:
        case {"model": dict(model), "model_args": dict(args), "iter_num": int(step)} if step >= 0 and all(
            [isinstance(args.get(name), int) for name in SHAPE]
            + [isinstance(name, str) and isinstance(part, Tensor) for name, part in model.items()]
        ):
            weights = {name.removeprefix("_orig_mod."): weight for name, weight in model.items()}
            weights = {name: weight for name, weight in weights.items() if not name.endswith(".attn.bias")}  # a mask
            floating = all(weight.is_floating_point() for weight in weights.values())
            if floating and "transformer.wte.weight" in weights and weights["transformer.wte.weight"].dim() == 2:
                shape = {name: args[name] for name in SHAPE}
                bias = "transformer.ln_f.bias" in weights
                dropout = args.get("dropout")
                shape["dropout"] = float(dropout) if isinstance(dropout, int | float) else 0.0
                return weights, {**shape, "bias": bias}, step
    raise ConfigError(f"ckpt_path ({path}) must contain model, model_args and iter_num, as nanoGPT writes them")


def _alphabet_folder(path: Path, dataset: str, text: str | list[str]) -> Path:
    """Finds the folder with the checkpoint's meta.pkl: the user's, or where nanoGPT or `export` write it."""
    given = [text] if isinstance(text, str) else text
    if found := _first_with("meta.pkl", [*map(Path, given), *_folders(path, dataset)]):
        return found
    raise ConfigError(
        f"ckpt_path ({path}) must come with its alphabet, in a meta.pkl beside it or in data/{dataset}; "
        "otherwise name nanoGPT's data folder with --data.text"
    )


def _text(path: Path, dataset: str) -> str:
    """Returns the dataset that a checkpoint names, as `data.text`: its folder, even if that does not exist."""
    if found := _first_with("val.bin", _folders(path, dataset)):
        return str(found.absolute())
    if dataset in ("", "shakespeare_char"):
        return "tinyshakespeare" if dataset else "auto"
    return str(Path("data", dataset).absolute())


def _folders(path: Path, dataset: str) -> list[Path]:
    """Returns where the files of a checkpoint's dataset may be, the likeliest first."""
    own = path.absolute().parent
    if not dataset:
        return [own]
    if Path(dataset).is_absolute():  # where `export` wrote the checkpoint, which may have been moved since
        return [own, Path(dataset)]
    return [own.parent / "data" / dataset, Path("data", dataset), own]


def _first_with(name: str, folders: list[Path]) -> Path | None:
    for folder in folders:
        with suppress(OSError):  # a damaged name may be too long
            if (folder / name).is_file():
                return folder
    return None


def _recorded_text(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the text of a checkpoint that this package exported: its `dataset` is the place of its alphabet."""
    return {name: config[name] for name in TEXT if name in config}


def _training(config: dict[str, Any]) -> dict[str, Any]:
    """Returns nanoGPT's settings of optimizer and schedule, which are the defaults of a resumed run."""
    settings = {name: config[name] for name in TRAINING if isinstance(config.get(name), int | float)}
    if settings.get("decay_lr") is False:
        settings["min_lr"] = 0.0  # unused, and nanoGPT's may be above learning_rate, which is refused
    return settings


def _run_state(checkpoint: dict[str, Any], weights: dict[str, Tensor], step: int) -> dict[str, Any]:
    """Returns what Lightning needs to resume: AdamW's state and the number of updates; {} if AdamW has none."""
    if (optimizer := _adamw(checkpoint.get("optimizer"), weights)) is None:
        return {}
    steps = {"total": {"ready": step, "completed": step}, "current": {"ready": step, "completed": step}}
    empty: dict[str, Any] = {"total": {}, "current": {}}
    progress = {
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": {"step": steps, "zero_grad": empty}},
    }
    return {
        "optimizer_states": [optimizer],
        "lr_schedulers": [{"last_epoch": step, "_step_count": step + 1, "lr_lambdas": [{}, {}]}],
        "loops": {"fit_loop": progress, "validate_loop": {}, "predict_loop": {}},
        "callbacks": {},  # without this key Lightning would skip the callbacks' on_load_checkpoint
    }


def _adamw(optimizer: Any, weights: dict[str, Tensor]) -> dict[str, Any] | None:
    """Returns AdamW's state, with parameters numbered as in the network; None if it is incomplete."""
    numbers = _matrices_and_vectors(weights)
    match optimizer:
        case {"state": dict(state), "param_groups": [{"params": list(matrices)}, {"params": list(vectors)}]}:
            known = {number for number in matrices + vectors if isinstance(number, int)}
            if list(map(len, numbers)) == [len(matrices), len(vectors)] and state.keys() == known:
                adamw = renumbered(optimizer, numbers)
                return adamw | {"param_groups": [group | {"fused": True} for group in adamw["param_groups"]]}
    return None


def _matrices_and_vectors(weights: dict[str, Tensor]) -> list[list[int]]:
    """Returns the numbers of the matrices and of the vectors among the network's parameters."""
    parameters = _parameters(weights)
    return [[i for i, weight in enumerate(parameters) if (weight.dim() >= 2) == matrix] for matrix in (True, False)]


def _parameters(weights: dict[str, Tensor]) -> list[Tensor]:
    """Returns all weights but the head's, which is tied to the embedding."""
    return [weight for name, weight in weights.items() if name != "lm_head.weight"]


def write_nanogpt(checkpoint: dict[str, Any], directory: Path, home: Path) -> None:
    """Writes ckpt.pt and meta.pkl, for nanoGPT's `sample.py --out_dir=HOME` and for `train.py` to resume from.

    Args:
        checkpoint: A checkpoint in this package's format, with GPT-2's network.
        directory: An existing directory.
        home: Where the files will finally be; ckpt.pt names this directory for `sample.py` to find the alphabet.
    """
    hparams = checkpoint["hyper_parameters"]
    data = checkpoint.get("CharDataModule", {})
    weights = network_weights(checkpoint)
    shape = {name: hparams[name] for name in (*SHAPE, "bias", "dropout")}
    content = {
        "model": weights,
        "optimizer": _optimizer_for_nanogpt(checkpoint, weights),
        "model_args": shape | {"vocab_size": len(hparams["alphabet"])},
        "iter_num": checkpoint["global_step"],
        "best_val_loss": min(val_losses_of(checkpoint).values(), default=1e9),  # nanoGPT's initial value
        "config": {"dataset": str(home.absolute())} | _recorded_text(data) | _settings(checkpoint),
    }
    with open_atomically(directory / "ckpt.pt") as file:
        torch.save(content, file)
    write_alphabet(directory / "meta.pkl", hparams["alphabet"])


def _settings(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns the run's settings by nanoGPT's names."""
    hparams = {name: value for name, value in checkpoint["hyper_parameters"].items() if name in TRAINING}
    return hparams | settings_in(checkpoint.get("training"))


def _optimizer_for_nanogpt(checkpoint: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, Any]:
    """Returns the state of an AdamW for the weights, with the moments of the run's AdamW if it has one."""
    hparams = checkpoint["hyper_parameters"]
    parameters = _parameters(weights)
    matrices, vectors = ([parameters[i] for i in numbers] for numbers in _matrices_and_vectors(weights))
    groups = [
        {"params": matrices, "weight_decay": hparams["weight_decay"]},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (hparams["beta1"], hparams["beta2"])
    optimizer = AdamW(groups, lr=hparams["learning_rate"], betas=betas).state_dict()
    trained = _adamw(next(iter(checkpoint.get("optimizer_states", [])), None), weights)
    if trained is not None:
        optimizer["state"] = renumbered(trained, [group["params"] for group in optimizer["param_groups"]])["state"]
    return optimizer
