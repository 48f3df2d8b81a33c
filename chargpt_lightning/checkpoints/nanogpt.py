"""nanoGPT's checkpoint, the ckpt.pt of its `train.py`, as one of ours, and one of ours as nanoGPT's.

The networks are the same, and so are the names and the order of their weights.
"""

from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from chargpt_lightning.checkpoints.io import network_weights, pack
from chargpt_lightning.checkpoints.training_settings import settings_in
from chargpt_lightning.data.nanogpt import read_alphabet, write_alphabet
from chargpt_lightning.utils.atomic import open_whole
from chargpt_lightning.utils.errors import ConfigError

SHAPE = ("n_layer", "n_head", "n_embd", "block_size")
TRAINING = (
    *("learning_rate", "min_lr", "warmup_iters", "lr_decay_iters", "decay_lr"),
    *("weight_decay", "beta1", "beta2"),
)

GRAD_CLIP = 1.0  # of train.py where nobody gives another


def is_nanogpt(checkpoint: Any) -> bool:
    """Whether a file's content has the form of nanoGPT's checkpoints."""
    return isinstance(checkpoint, dict) and {"model", "model_args", "iter_num"} <= checkpoint.keys()


def from_nanogpt(checkpoint: dict[str, Any], path: Path, text: str | list[str]) -> dict[str, Any]:
    """A checkpoint of ours with nanoGPT's network and, where they fit, its AdamW and its step.

    Args:
        checkpoint: The content of nanoGPT's.
        path: Where it lies.
        text: The user's `data.text`: where the alphabet is looked for first.

    Raises:
        ConfigError: If it is incomplete, or its alphabet cannot be found.
    """
    weights, shape, step = _contents(checkpoint, path)
    config = checkpoint["config"] if isinstance(checkpoint.get("config"), dict) else {}
    folder = _data_folder(path, str(config.get("dataset", "")), text)
    alphabet = read_alphabet(folder / "meta.pkl")
    if len(alphabet) != (there := len(weights["transformer.wte.weight"])):
        raise ConfigError(
            f"ckpt_path ({path}) must be of the alphabet of {folder / 'meta.pkl'}, "
            f"but its vocab_size is {there}, and the alphabet's {len(alphabet)}"
        )
    packed = pack(weights, {"alphabet": alphabet} | shape | _training(config), step)
    if (folder / "val.bin").is_file():
        packed["CharDataModule"] = {"text": str(folder.absolute()), "sha256": None}
    training = {"grad_clip": GRAD_CLIP} | settings_in(config)
    return packed | {"training": training} | _state_of_the_run(checkpoint, weights, step)


def _contents(checkpoint: dict[str, Any], path: Path) -> tuple[dict[str, Tensor], dict[str, Any], int]:
    """Weights, shape and step."""
    match checkpoint:
        case {"model": dict(model), "model_args": dict(args), "iter_num": int(step)} if step >= 0 and all(
            [isinstance(args.get(name), int) for name in SHAPE] + [isinstance(part, Tensor) for part in model.values()]
        ):
            weights = {name.removeprefix("_orig_mod."): weight for name, weight in model.items()}
            weights = {name: weight for name, weight in weights.items() if not name.endswith(".attn.bias")}  # a mask
            if "transformer.wte.weight" in weights:
                shape = {name: args[name] for name in SHAPE}
                bias = "transformer.ln_f.bias" in weights
                dropout = args.get("dropout")
                shape["dropout"] = float(dropout) if isinstance(dropout, int | float) else 0.0
                return weights, {**shape, "bias": bias}, step
    raise ConfigError(f"ckpt_path ({path}) must hold model, model_args and iter_num, as nanoGPT writes them")


def _data_folder(path: Path, dataset: str, text: str | list[str]) -> Path:
    """Where the checkpoint's meta.pkl lies: where the user says, beside it, or where nanoGPT has it."""
    beside = path.absolute().parent
    given = [text] if isinstance(text, str) else text
    places = [*map(Path, given), beside, beside.parent / "data" / dataset, Path("data", dataset)]
    for place in places:
        if (place / "meta.pkl").is_file():
            return place
    raise ConfigError(
        f"ckpt_path ({path}) must come with its alphabet, a meta.pkl beside it or in data/{dataset}; "
        "or --data.text names nanoGPT's data folder"
    )


def _training(config: dict[str, Any]) -> dict[str, Any]:
    """nanoGPT's own settings for a run that goes on, as far as nobody gives others."""
    settings = {name: config[name] for name in TRAINING if isinstance(config.get(name), int | float)}
    if settings.get("decay_lr") is False:
        settings["min_lr"] = 0.0  # of no use then, and nanoGPT's may be above learning_rate
    return settings


def _state_of_the_run(checkpoint: dict[str, Any], weights: dict[str, Tensor], step: int) -> dict[str, Any]:
    """What Lightning needs to go on from an AdamW: its state, and how many updates there were."""
    if (optimizer := _adamw(checkpoint.get("optimizer"), weights)) is None:
        return {}
    made = {"total": {"ready": step, "completed": step}, "current": {"ready": step, "completed": step}}
    nothing: dict[str, Any] = {"total": {}, "current": {}}
    progress = {
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": {"step": made, "zero_grad": nothing}},
    }
    return {
        "optimizer_states": [optimizer],
        "lr_schedulers": [{"last_epoch": step, "_step_count": step + 1, "lr_lambdas": [{}, {}]}],
        "loops": {"fit_loop": progress, "validate_loop": {}, "predict_loop": {}},
        "callbacks": {},  # without which Lightning would show the checkpoint to no callback
    }


def _adamw(optimizer: Any, weights: dict[str, Tensor]) -> dict[str, Any] | None:
    """nanoGPT's AdamW if it has a state for each weight, its matrices first as in ours."""
    numbers = _matrices_and_vectors(weights)
    match optimizer:
        case {"state": dict(state), "param_groups": [{"params": list(matrices)}, {"params": list(vectors)}]}:
            if list(map(len, numbers)) == [len(matrices), len(vectors)] and state.keys() == {*matrices, *vectors}:
                found = _numbered(optimizer, numbers)
                return found | {"param_groups": [group | {"fused": True} for group in found["param_groups"]]}
    return None


def _matrices_and_vectors(weights: dict[str, Tensor]) -> list[list[int]]:
    """The numbers of both in the network; FSDP2 goes by them, other strategies by their order."""
    own = _own(weights)
    return [[i for i, weight in enumerate(own) if (weight.dim() >= 2) == matrix] for matrix in (True, False)]


def _own(weights: dict[str, Tensor]) -> list[Tensor]:
    """All but the head's, which are the embedding's."""
    return [weight for name, weight in weights.items() if name != "lm_head.weight"]


def _numbered(optimizer: dict[str, Any], numbers: list[list[int]]) -> dict[str, Any]:
    """An optimizer's state with other numbers for the weights of its groups."""
    groups = [group | {"params": own} for group, own in zip(optimizer["param_groups"], numbers, strict=True)]
    old = chain.from_iterable(group["params"] for group in optimizer["param_groups"])
    state = {new: optimizer["state"][old] for old, new in zip(old, chain(*numbers), strict=True)}
    return {"state": state, "param_groups": groups}


def write_nanogpt(checkpoint: dict[str, Any], directory: Path, home: Path) -> None:
    """Writes ckpt.pt and meta.pkl, from which nanoGPT's `sample.py --out_dir=HOME` samples and `train.py` goes on.

    Args:
        checkpoint: One of ours, of GPT-2's network.
        directory: Where to write.
        home: Where they will lie, by which `sample.py` finds the alphabet.
    """
    hparams = checkpoint["hyper_parameters"]
    weights = network_weights(checkpoint)
    shape = {name: hparams[name] for name in (*SHAPE, "bias", "dropout")}
    content = {
        "model": weights,
        "optimizer": _optimizer_for_nanogpt(checkpoint, weights),
        "model_args": shape | {"vocab_size": len(hparams["alphabet"])},
        "iter_num": checkpoint["global_step"],
        "best_val_loss": min(_val_losses(checkpoint), default=1e9),  # nanoGPT's word for none
        "config": {"dataset": str(home.absolute())} | _settings(checkpoint),
    }
    with open_whole(directory / "ckpt.pt") as file:
        torch.save(content, file)
    write_alphabet(directory / "meta.pkl", hparams["alphabet"])


def _settings(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoint knows of the run's settings."""
    hparams = {name: value for name, value in checkpoint["hyper_parameters"].items() if name in TRAINING}
    return hparams | settings_in(checkpoint.get("training"))


def _optimizer_for_nanogpt(checkpoint: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, Any]:
    """An AdamW over the weights, with its state where the run had one."""
    hparams = checkpoint["hyper_parameters"]
    own = _own(weights)
    matrices, vectors = ([own[i] for i in numbers] for numbers in _matrices_and_vectors(weights))
    groups = [
        {"params": matrices, "weight_decay": hparams["weight_decay"]},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (hparams["beta1"], hparams["beta2"])
    theirs = AdamW(groups, lr=hparams["learning_rate"], betas=betas).state_dict()
    ours = _adamw(checkpoint["optimizer_states"][0], weights) if "optimizer_states" in checkpoint else None
    if ours is not None:
        theirs["state"] = _numbered(ours, [group["params"] for group in theirs["param_groups"]])["state"]
    return theirs


def _val_losses(checkpoint: dict[str, Any]) -> list[float]:
    return list(checkpoint.get("callbacks", {}).get("Report", {}).get("val_losses", {}).values())
