"""A folder of Hugging Face's GPT-2 with a character tokenizer as one of our checkpoints, and one of ours as that.

GPT-2's network is the same there, but its matrices lie the other way round, and it always has biases. The package
transformers says what a folder looks like; it is imported when it is needed, for it takes seconds.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chargpt_lightning.checkpoints.io import network_weights, pack
from chargpt_lightning.utils.errors import ConfigError, require_package

MASKS = (".attn.bias", ".attn.masked_bias")  # no weights, but old files have them
TRANSPOSED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
SAME: dict[str, Any] = {  # what our network is, in transformers' words
    "activation_function": "gelu",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
    "quantization_config": None,
}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")  # the first is the one that is taken over


def read_folder(folder: Path) -> dict[str, Any]:
    """A checkpoint of ours with the network of a folder that transformers wrote.

    Raises:
        ConfigError: If the folder is broken, of another network, or its tokenizer's tokens are no characters.
    """
    config, weights, tokenizer = _open(folder)
    _require_our_network(config, weights, folder)
    weights, bias = _from_theirs(weights)
    hparams = {
        "alphabet": _alphabet_of(tokenizer, folder),
        "block_size": config.n_positions,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "dropout": config.resid_pdrop,
        "bias": bias,
    }
    dropouts = {name: float(getattr(config, name)) for name in DROPOUTS}
    return pack(weights, hparams, global_step=0) | {"dropouts": dropouts}


def _open(folder: Path) -> tuple[Any, dict[str, Tensor], Any]:
    """Config, weights and tokenizer."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"ckpt_path ({folder}) must be a file, or a Hugging Face folder, but has no {name}")
    if _normalizes(folder / "tokenizer.json"):
        raise ConfigError(f"ckpt_path ({folder}) must have a tokenizer that leaves characters as they are")
    require_package("ckpt_path", folder, "transformers")
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import GPT2Config

    try:
        config = GPT2Config.from_pretrained(folder, local_files_only=True)
        return config, load_file(folder / "model.safetensors"), Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise ConfigError(f"ckpt_path ({folder}) must be a Hugging Face folder that is whole, but: {error}") from error


def _normalizes(tokenizer: Path) -> bool:
    """Whether a tokenizer replaces characters before it looks them up, which can also make gigabytes of one."""
    try:
        return json.loads(tokenizer.read_bytes()).get("normalizer") is not None
    except (ValueError, AttributeError):
        return False  # Tokenizer.from_file says what is wrong


def _require_our_network(config: Any, weights: dict[str, Tensor], folder: Path) -> None:
    if "transformer.wte.weight" not in weights:
        raise ConfigError(f"ckpt_path ({folder}) must hold a GPT2LMHeadModel, but has no transformer.wte.weight")
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))  # GPT2Config calls all models gpt2
    given = config.to_dict() | {
        "n_inner": config.n_inner or 4 * config.n_embd,
        "model_type": stored.get("model_type", "gpt2"),
    }
    for name, value in (SAME | {"n_inner": 4 * config.n_embd, "model_type": "gpt2"}).items():
        if given.get(name) != value:
            raise ConfigError(f"{name} ({given.get(name)}) in {folder / 'config.json'} must be {value}, as in gpt.py")
    _require_our_weights(config, weights, folder / "model.safetensors")


def _require_our_weights(config: Any, weights: dict[str, Tensor], file: Path) -> None:
    """Checks what the shapes of the weights do not show."""
    embedding = weights["transformer.wte.weight"]
    if config.vocab_size != len(embedding):
        raise ConfigError(f"vocab_size ({config.vocab_size}) must be {len(embedding)}, as in {file}")
    if "lm_head.weight" in weights and not torch.equal(weights["lm_head.weight"], embedding):
        raise ConfigError(f"lm_head.weight in {file} must equal transformer.wte.weight, because gpt.py ties them")
    for name, weight in weights.items():
        if not weight.is_floating_point() and not name.endswith(MASKS):
            raise ConfigError(f"{name} ({weight.dtype}) in {file} must be a floating-point number, and not quantized")


def _alphabet_of(tokenizer: Any, folder: Path) -> str:
    vocab = tokenizer.get_vocab()
    alphabet = "".join(sorted(vocab, key=vocab.__getitem__))
    if any(len(token) != 1 for token in vocab) or tokenizer.encode(alphabet).ids != list(range(len(vocab))):
        raise ConfigError(f"ckpt_path ({folder}) must have a tokenizer whose every token is a character")
    return alphabet


def _from_theirs(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Their weights as ours, and whether any bias is of use."""
    weights = {name: weight for name, weight in weights.items() if not name.endswith(MASKS)}
    ours = {name: weight.T if name.endswith(TRANSPOSED) else weight for name, weight in weights.items()}
    ours["lm_head.weight"] = ours["transformer.wte.weight"]
    biases = {name for name in ours if name.endswith(".bias")}
    if any(ours[name].any() for name in biases):
        return ours, True
    return {name: weight for name, weight in ours.items() if name not in biases}, False


def write_folder(checkpoint: dict[str, Any], directory: Path) -> None:
    """Writes a folder that AutoModelForCausalLM and AutoTokenizer load.

    Args:
        checkpoint: One of ours, of GPT-2's network.
        directory: Where to write.
    """
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    hparams = checkpoint["hyper_parameters"]
    config = GPT2Config(**_their_settings(hparams))
    ours = network_weights(checkpoint)
    weights = {name: _as_theirs(name, ours, weight) for name, weight in GPT2LMHeadModel(config).named_parameters()}
    config.save_pretrained(directory)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(hparams["alphabet"], hparams["block_size"]).save_pretrained(directory)


def _their_settings(hparams: dict[str, Any]) -> dict[str, Any]:
    shape = {name: hparams[name] for name in ("n_layer", "n_head", "n_embd")}
    sizes = {"vocab_size": len(hparams["alphabet"]), "n_positions": hparams["block_size"]}
    dropout = dict.fromkeys(DROPOUTS, hparams["dropout"])
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"))  # a text has none, and GPT-2's are no ids here
    return {"architectures": ["GPT2LMHeadModel"]} | shape | sizes | dropout | ends | SAME


def _as_theirs(name: str, ours: dict[str, Tensor], untrained: Tensor) -> Tensor:
    if name not in ours:  # a bias that ours does without
        return torch.zeros_like(untrained)
    return (ours[name].T if name.endswith(TRANSPOSED) else ours[name]).contiguous()


def _tokenizer(alphabet: str, block_size: int) -> Any:
    """transformers' tokenizer for an alphabet: each character a token, and nothing between two when they are read."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({character: i for i, character in enumerate(alphabet)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_max_length=block_size
    )
