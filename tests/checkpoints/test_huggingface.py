"""Hugging Face folders, exported and read, against transformers itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file, save_file
from support.command_line import TINY, VERSE, refused
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from chargpt_lightning import CharGPT, CharVocab

ALPHABET = "".join(sorted(set(VERSE)))
ALONE = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained("hf"), AutoModelForCausalLM.from_pretrained("hf")
ids = tokenizer("When", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=4, do_sample=False)[0]), end="")
assert "chargpt_lightning" not in sys.modules
"""


@pytest.fixture
def folder(run) -> Path:
    """The best of a tiny run, exported."""
    assert run(*TINY, "--trainer.max_steps", "20", "--model.learning_rate", "0.1").code == 0
    assert run("export", "--format", "hf", "--out", "hf").code == 0
    return Path("hf")


def transformers_folder(**settings) -> Path:
    """Makes a folder with transformers, with another tokenizer of characters than this package exports."""
    torch.manual_seed(3)
    shape = {"vocab_size": len(ALPHABET), "n_positions": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}
    config = GPT2Config(**shape | {"activation_function": "gelu", "bos_token_id": 0, "eos_token_id": 0} | settings)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)  # biases and norms too
    model.save_pretrained("folder")
    tokenizer(models.BPE({character: i for i, character in enumerate(ALPHABET)}, [])).save_pretrained("folder")
    return Path("folder")


def tokenizer(model) -> PreTrainedTokenizerFast:
    plain = Tokenizer(model)
    plain.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=plain)


def some_ids(characters: int) -> torch.Tensor:
    return torch.randint(len(ALPHABET), (4, characters), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("settings", [[], ["--model.bias", "true"], ["--trainer.precision", "bf16-true"]])
def test_an_exported_network_has_the_same_logits_in_transformers(run, settings):
    assert run(*TINY, *settings, "--trainer.max_steps", "20", "--model.learning_rate", "0.1").code == 0
    assert run("export", "--format", "hf", "--out", "hf").code == 0
    network = CharGPT.load_from_checkpoint("runs/version_0/checkpoints/best.ckpt").eval()
    reference = AutoModelForCausalLM.from_pretrained("hf")
    ids = some_ids(8)
    torch.testing.assert_close(reference(ids).logits, network(ids), rtol=0, atol=1e-5)


def test_the_exported_tokenizer_encodes_as_the_vocabulary_does(run):
    text = "\n \t\r\x00<|endoftext|>  ''Ünïcode e\u0301 語 👨\u200d👩 \ufeff\u2028." * 40
    Path("verse.txt").write_bytes(text.encode())
    assert run(*TINY).code == 0
    assert run("export", "--format", "hf", "--out", "hf").code == 0
    vocab = CharVocab(CharGPT.load_from_checkpoint("hf").hparams["alphabet"])
    reference = AutoTokenizer.from_pretrained("hf", model_max_length=10**6)
    text = "".join(character for character in text if character in vocab.alphabet)
    assert reference(text).input_ids == vocab.encode(text).tolist()
    assert reference.decode(reference(text).input_ids) == text
    assert len(reference) == len(vocab.alphabet)


@pytest.mark.slow
def test_transformers_alone_generates_the_same_text(folder):
    command = [sys.executable, "-c", ALONE]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    best = CharGPT.load_from_checkpoint("runs/version_0/checkpoints/best.ckpt")
    assert printed == best.sample("When", 4, temperature=0)


def test_an_exported_network_is_read_back_unchanged(run, folder):
    measured = [run("validate", "--ckpt_path", path, "--data.text", "verse.txt").out for path in ("best", "hf")]
    assert measured[0] == measured[1]
    was, is_now = (
        CharGPT.load_from_checkpoint("runs/version_0/checkpoints/best.ckpt"),
        CharGPT.load_from_checkpoint("hf"),
    )
    for name, weight in was.state_dict().items():
        assert torch.equal(is_now.state_dict()[name], weight), name


def test_a_folder_that_transformers_wrote_is_read(run):
    folder = transformers_folder()
    network, reference = CharGPT.load_from_checkpoint(folder).eval(), AutoModelForCausalLM.from_pretrained(folder)
    ids = some_ids(8)
    torch.testing.assert_close(network(ids), reference(ids).logits, rtol=0, atol=1e-5)
    sample = ["--sample.num_samples", "1", "--sample.temperature", "0", "--sample.max_new_tokens", "4"]
    result = run("predict", "--ckpt_path", str(folder), "--sample.prompt", "When", *sample)
    ids = AutoTokenizer.from_pretrained(folder)("When", return_tensors="pt").input_ids
    ids = reference.generate(ids, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert result.out == "".join(ALPHABET[i] for i in ids[0]) + "\n"


def test_fit_starts_with_the_weights_of_a_folder(run):
    folder = transformers_folder()
    fit = ["fit", "--ckpt_path", str(folder), "--data.text", "verse.txt", "--trainer.max_steps", "2"]
    result = run(*fit, "--trainer.accelerator", "cpu", "--model.optimizer", "muon")
    assert result.code == 0, result.err
    assert f"starting at step 0 with the weights of {folder}" in result.err
    exact = run("validate", "--ckpt_path", str(folder), "--data.text", "verse.txt").out.split()[1]
    before = next(line for line in result.err.splitlines() if line.startswith("step 0:")).split()[-1]
    assert float(before) == pytest.approx(float(exact), abs=1e-4)  # the few windows of this text are all drawn


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation_function": "gelu_new"}, "activation_function (gelu_new) in folder/config.json must be gelu"),
        ({"n_inner": 16}, "n_inner (16) in folder/config.json must be 32"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx (True)"),
        ({"layer_norm_epsilon": 1e-3}, "layer_norm_epsilon (0.001)"),
        ({"scale_attn_weights": False}, "scale_attn_weights (False)"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings (False)"),
    ],
)
def test_a_network_with_other_settings_is_refused(run, settings, message):
    transformers_folder(**settings)
    assert refused(run, "validate", "--ckpt_path", "folder", "--data.text", "verse.txt").startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "gpt_neo"}, "model_type (gpt_neo) in folder/config.json must be gpt2"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config ({'quant_method': 'gptq'}) in"),
        ({"vocab_size": 99}, f"vocab_size (99) must be {len(ALPHABET)}, as in folder/model.safetensors"),
    ],
)
def test_a_config_that_does_not_match_the_weights_is_refused(run, settings, message):
    path = transformers_folder() / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")
    assert refused(run, "validate", "--ckpt_path", "folder", "--data.text", "verse.txt").startswith(message)


def test_untied_or_integer_weights_are_refused(run):
    path = transformers_folder() / "model.safetensors"
    weights = load_file(path)
    embedding, bias = weights["transformer.wte.weight"], weights["transformer.ln_f.bias"]
    save_file(weights | {"lm_head.weight": embedding + 1}, path, metadata={"format": "pt"})
    message = f"lm_head.weight in {path.as_posix()} must equal transformer.wte.weight, because gpt.py ties them"
    assert refused(run, "predict", "--ckpt_path", "folder") == message
    save_file(weights | {"transformer.ln_f.bias": bias.to(torch.int8)}, path, metadata={"format": "pt"})
    message = f"transformer.ln_f.bias (torch.int8) in {path.as_posix()} must have a floating-point dtype"
    assert refused(run, "predict", "--ckpt_path", "folder").startswith(message)


def test_weights_in_half_precision_are_read(run):
    folder = transformers_folder()
    AutoModelForCausalLM.from_pretrained(folder).half().save_pretrained(folder)
    network, reference = (
        CharGPT.load_from_checkpoint(folder).eval(),
        AutoModelForCausalLM.from_pretrained(folder).float(),
    )
    torch.testing.assert_close(network(some_ids(8)), reference(some_ids(8)).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("given", "used"), [([], 0.2), (["--model.dropout", "0.3"], 0.3)])
def test_fit_prints_which_of_three_dropouts_it_uses(run, given, used):
    folder = transformers_folder(resid_pdrop=0.2, embd_pdrop=0.0, attn_pdrop=0.1)
    fit = ["fit", "--ckpt_path", str(folder), "--data.text", "verse.txt", "--trainer.max_steps", "2", *given]
    result = run(*fit, "--trainer.accelerator", "cpu")
    assert result.code == 0, result.err
    assert (
        "dropout: folder has resid_pdrop 0.2, embd_pdrop 0, attn_pdrop 0.1, "
        f"but this network has a single dropout, {used} (--model.dropout)\n"
    ) in result.err
    assert "dropout" not in run("predict", "--ckpt_path", str(folder), "--num_samples=1").err


def test_a_tokenizer_of_more_than_characters_is_refused(run):
    transformers_folder()
    vocab = {character: i for i, character in enumerate(ALPHABET[:-1])} | {"We": len(ALPHABET) - 1}
    tokenizer(models.BPE(vocab, [("W", "e")])).save_pretrained("folder")
    message = "ckpt_path (folder) must have a tokenizer whose tokens are single characters"
    assert refused(run, "predict", "--ckpt_path", "folder") == message


def test_a_tokenizer_that_replaces_characters_is_refused(run):
    path = transformers_folder() / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    double = {"type": "Replace", "pattern": {"String": "W"}, "content": "WW"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [double] * 40}
    path.write_text(json.dumps(content), encoding="utf-8")
    message = "ckpt_path (folder) must have a tokenizer without a normalizer, because normalizing changes characters"
    assert refused(run, "predict", "--ckpt_path", "folder") == message


def test_an_alphabet_of_another_size_is_refused(run):
    transformers_folder(vocab_size=30)
    error = f"gpt.lm_head.weight (30 x 8) must be as in this network ({len(ALPHABET)} x 8)"
    assert error in run("predict", "--ckpt_path", "folder").err


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_broken_folder_is_refused_in_one_line(run, name):
    path = transformers_folder() / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    message = refused(run, "predict", "--ckpt_path", "folder")
    assert message.startswith("ckpt_path (folder) must be an intact Hugging Face folder, but: ")
    path.unlink()
    message = f"ckpt_path (folder) must be a checkpoint file or a Hugging Face folder, but does not contain {name}"
    assert refused(run, "predict", "--ckpt_path", "folder") == message


def test_without_transformers_the_error_names_the_package(run, tiny_run, monkeypatch):
    transformers_folder()
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: None)
    install = "needs the package transformers: pip install transformers"
    assert refused(run, "predict", "--ckpt_path", "folder") == f"ckpt_path (folder) {install}"
    assert refused(run, "export", "--format", "hf", "--out", "hf") == f"format (hf) {install}"


def test_the_exported_config_has_no_special_tokens(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["eos_token_id"] is config["bos_token_id"] is None
    assert config["architectures"] == ["GPT2LMHeadModel"]


def test_a_damaged_folder_is_refused_in_one_line(run, folder):
    config, words, weights = folder / "config.json", folder / "tokenizer.json", folder / "model.safetensors"
    right = {path: path.read_bytes() for path in (config, words, weights)}
    scalar = load_file(weights) | {"transformer.wte.weight": torch.zeros(())}
    save_file(scalar, weights)
    damages = {
        config: [
            (json.dumps(json.loads(right[config]) | {"n_positions": 2**40}).encode(), "wpe.weight (8 x 8) must be")
        ],
        words: [
            (b'{"a":' * 100_000, "must be an intact Hugging Face folder"),
            (right[words].replace(b"[\\\\s\\\\S]", b"no match"), "must have a tokenizer whose tokens are single"),
        ],
        weights: [(weights.read_bytes(), "wte.weight in hf/model.safetensors must be a matrix, but has 0 dimensions")],
    }
    for path, contents in damages.items():
        for content, message in contents:
            for name, intact in right.items():
                name.write_bytes(content if name == path else intact)
            assert message in refused(run, "predict", "--ckpt_path", "hf")
