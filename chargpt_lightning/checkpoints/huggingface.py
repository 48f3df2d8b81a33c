"""Reads and writes Hugging Face folders that contain a GPT-2 with a character tokenizer.

The network is the same as in gpt.py, but Hugging Face stores the weights of linear layers transposed and always has
biases. The package transformers defines the format; it is imported only when needed, because the import takes seconds.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chargpt_lightning.checkpoints.io import network_weights, pack
from chargpt_lightning.utils.errors import ConfigError, require_package

MASKS = (".attn.bias", ".attn.masked_bias")  # causal masks, which old files store among the weights
TRANSPOSED = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
FIXED_SETTINGS: dict[str, Any] = {  # of GPT2Config; the network in gpt.py supports no other values
    "activation_function": "gelu",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
    "quantization_config": None,
}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")  # gpt.py has one ratio for all three: the first is used


def read_folder(folder: Path) -> dict[str, Any]:
    """Reads a Hugging Face folder as a checkpoint in this package's format.

    Raises:
        ConfigError: If the folder is damaged, contains another network, or its tokens are not single characters.
    """
    config, weights, tokenizer = _open(folder)
    _require_supported_network(config, weights, folder)
    weights, bias = _from_hugging_face(weights)
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
    """Loads config, weights and tokenizer."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ConfigError(
                f"ckpt_path ({folder}) must be a checkpoint file or a Hugging Face folder, but does not contain {name}"
            )
    if _normalizes(folder / "tokenizer.json"):
        raise ConfigError(
            f"ckpt_path ({folder}) must have a tokenizer without a normalizer, because normalizing changes characters"
        )
    require_package("ckpt_path", folder, "transformers")
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import GPT2Config

    try:
        config = GPT2Config.from_pretrained(folder, local_files_only=True)
        return config, load_file(folder / "model.safetensors"), Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the type of error depends on where a file is damaged
        raise ConfigError(f"ckpt_path ({folder}) must be an intact Hugging Face folder, but: {error}") from error


def _normalizes(tokenizer: Path) -> bool:
    """Whether a tokenizer replaces characters before it looks them up; it could expand one to gigabytes."""
    try:
        return json.loads(tokenizer.read_bytes()).get("normalizer") is not None
    except (ValueError, AttributeError, RecursionError):
        return False  # Tokenizer.from_file reports the damage


def _require_supported_network(config: Any, weights: dict[str, Tensor], folder: Path) -> None:
    if "transformer.wte.weight" not in weights:
        raise ConfigError(f"ckpt_path ({folder}) must contain a GPT2LMHeadModel, but has no transformer.wte.weight")
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))  # GPT2Config replaces model_type by gpt2
    given = config.to_dict() | {
        "n_inner": config.n_inner or 4 * config.n_embd,
        "model_type": stored.get("model_type", "gpt2"),
    }
    for name, value in (FIXED_SETTINGS | {"n_inner": 4 * config.n_embd, "model_type": "gpt2"}).items():
        if given.get(name) != value:
            raise ConfigError(
                f"{name} ({given.get(name)}) in {folder / 'config.json'} must be {value}, "
                "because this package's GPT-2 supports no other value"
            )
    _require_supported_weights(config, weights, folder / "model.safetensors")


def _require_supported_weights(config: Any, weights: dict[str, Tensor], file: Path) -> None:
    """Checks properties that loading the weights does not: vocabulary size, tied embeddings, dtypes."""
    embedding = weights["transformer.wte.weight"]
    if embedding.dim() != 2:
        raise ConfigError(f"transformer.wte.weight in {file} must be a matrix, but has {embedding.dim()} dimensions")
    if config.vocab_size != len(embedding):
        raise ConfigError(f"vocab_size ({config.vocab_size}) must be {len(embedding)}, as in {file}")
    if "lm_head.weight" in weights and not torch.equal(weights["lm_head.weight"], embedding):
        raise ConfigError(f"lm_head.weight in {file} must equal transformer.wte.weight, because gpt.py ties them")
    for name, weight in weights.items():
        if not weight.is_floating_point() and not name.endswith(MASKS):
            raise ConfigError(f"{name} ({weight.dtype}) in {file} must have a floating-point dtype, not quantized")


def _alphabet_of(tokenizer: Any, folder: Path) -> str:
    vocab = tokenizer.get_vocab()
    alphabet = "".join(sorted(vocab, key=vocab.__getitem__))
    try:
        encodes = tokenizer.encode(alphabet).ids == list(range(len(vocab)))
    except Exception:  # tokenizers has no error of its own
        encodes = False
    if any(len(token) != 1 for token in vocab) or not encodes:
        raise ConfigError(f"ckpt_path ({folder}) must have a tokenizer whose tokens are single characters")
    return alphabet


def _from_hugging_face(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Converts weights to this package's layout; drops the biases, and returns False, if all of them are zero."""
    weights = {name: weight for name, weight in weights.items() if not name.endswith(MASKS)}
    weights = {name: weight.T if name.endswith(TRANSPOSED) else weight for name, weight in weights.items()}
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    biases = {name for name in weights if name.endswith(".bias")}
    if any(weights[name].any() for name in biases):
        return weights, True
    return {name: weight for name, weight in weights.items() if name not in biases}, False


def write_folder(checkpoint: dict[str, Any], directory: Path) -> None:
    """Writes a folder that AutoModelForCausalLM and AutoTokenizer can load.

    Args:
        checkpoint: A checkpoint in this package's format, with GPT-2's network.
        directory: An existing directory.
    """
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    hparams = checkpoint["hyper_parameters"]
    config = GPT2Config(**_gpt2_config(hparams))
    weights = network_weights(checkpoint)
    converted = {
        name: _to_hugging_face(name, weights, parameter)
        for name, parameter in GPT2LMHeadModel(config).named_parameters()
    }
    config.save_pretrained(directory)
    save_file(converted, directory / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(hparams["alphabet"], hparams["block_size"]).save_pretrained(directory)


def _gpt2_config(hparams: dict[str, Any]) -> dict[str, Any]:
    """The arguments of GPT2Config for the arguments of a CharGPT."""
    shape = {name: hparams[name] for name in ("n_layer", "n_head", "n_embd")}
    sizes = {"vocab_size": len(hparams["alphabet"]), "n_positions": hparams["block_size"]}
    dropout = dict.fromkeys(DROPOUTS, hparams["dropout"])
    no_special_tokens = dict.fromkeys(("bos_token_id", "eos_token_id"))  # by default GPT-2's, not in this vocabulary
    return {"architectures": ["GPT2LMHeadModel"]} | shape | sizes | dropout | no_special_tokens | FIXED_SETTINGS


def _to_hugging_face(name: str, weights: dict[str, Tensor], parameter: Tensor) -> Tensor:
    """The value of a parameter of GPT2LMHeadModel; zeros for a bias that the checkpoint does not have."""
    if name not in weights:
        return torch.zeros_like(parameter)
    return (weights[name].T if name.endswith(TRANSPOSED) else weights[name]).contiguous()


def _tokenizer(alphabet: str, block_size: int) -> Any:
    """Returns a transformers tokenizer with one token per character, which decodes without spaces between tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({character: i for i, character in enumerate(alphabet)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_max_length=block_size
    )
