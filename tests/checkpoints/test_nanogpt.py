"""nanoGPT's checkpoints, read and exported, against a loop that trains and evaluates as nanoGPT does."""

import pickle
from pathlib import Path

import pytest
import torch
from support.command_line import TINY, VERSE, refused, rows
from support.nanogpt_folder import meta
from support.nanogpt_training import ALPHABET, CONFIG, STEPS, NanoGPT, lay_out
from torch.optim import AdamW

from chargpt_lightning import GPT, CharDataModule, CharGPT, GPTConfig
from chargpt_lightning.checkpoints.io import facts_of
from chargpt_lightning.checkpoints.nanogpt import from_nanogpt


def compiled(content: dict) -> dict:
    return content | {"model": {f"_orig_mod.{name}": weight for name, weight in content["model"].items()}}


def with_masks(content: dict) -> dict:
    masks = {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 8, 8).tril() for n in range(2)}
    return content | {"model": content["model"] | masks}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("as_saved", [dict, compiled, with_masks])
def test_validate_measures_nanogpts_loss_on_nanogpts_data(run, as_saved, bias):
    nanogpt = NanoGPT(bias).train(STEPS)
    result = run("validate", "--ckpt_path", str(lay_out(as_saved(nanogpt.content()))), "--trainer.accelerator", "cpu")
    assert result.code == 0, result.err
    assert float(result.out.split()[1]) == pytest.approx(nanogpt.exact_loss(), abs=2e-6)
    assert "nanoGPT/data/verse" in result.err


def test_predict_writes_the_sample_that_nanogpt_writes(run):
    nanogpt = NanoGPT().train(100)
    path = lay_out(nanogpt.content())
    sample = ["--sample.num_samples", "1", "--sample.temperature", "0", "--sample.max_new_tokens", "40"]
    result = run("predict", "--ckpt_path", str(path), "--sample.prompt", "When", *sample)
    assert result.out == nanogpt.likeliest("When", 40) + "\n"
    assert CharGPT.load_from_checkpoint(path).sample("When", 40, temperature=0) == nanogpt.likeliest("When", 40)


@pytest.mark.parametrize("bias", [False, True])
def test_fit_resumes_as_nanogpt_does(run, bias, monkeypatch):
    nanogpt = NanoGPT(bias).train(STEPS)
    path = lay_out(nanogpt.content())
    more = ["--trainer.max_steps", str(STEPS + 4), "--trainer.gradient_clip_val", "1", "--data.batch_size", "3"]
    more += ["--trainer.precision", "32-true"]
    result = run("fit", "--ckpt_path", str(path), *more, "--trainer.accelerator", "cpu")
    assert result.code == 0, result.err
    assert f"resuming in a new directory at step {STEPS}" in result.err

    data = CharDataModule(text="nanoGPT/data/verse", block_size=8, batch_size=3)
    monkeypatch.setattr(data, "_batches_done", lambda: STEPS)
    for _, batch in zip(range(4), data.train_dataloader(), strict=False):
        nanogpt.update(*(ids.long() for ids in batch))
    last = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == STEPS + 4
    for name, weight in nanogpt.network.state_dict().items():
        resumed = last["state_dict"][f"gpt.{name}"]
        if name.endswith("c_attn.bias"):  # the gradient of a key's bias is rounding only, which Adam scales up
            resumed[8:16] = weight[8:16]
        torch.testing.assert_close(resumed, weight, rtol=1e-5, atol=1e-6)


def test_nanogpts_flags_find_a_checkpoint_by_its_out_dir(run):
    lay_out(NanoGPT().train(STEPS).content())
    out_dir = "--out_dir=nanoGPT/out-verse"
    assert run("predict", out_dir, "--num_samples=1", "--max_new_tokens=4").code == 0
    fit = ["fit", out_dir, "--init_from=resume", "--max_iters=8", "--device=cpu"]
    assert f"resuming in a new directory at step {STEPS}" in run(*fit).err
    assert "version_0/checkpoints/best.ckpt" in run("predict", out_dir, "--num_samples=1").err  # now there is a run


@pytest.mark.parametrize("dropout", ["x", None, [1]])
def test_a_dropout_that_is_no_number_is_ignored(run, dropout):
    nanogpt = NanoGPT()
    path = lay_out(nanogpt.content() | {"model_args": nanogpt.args | {"dropout": dropout}})
    assert run("validate", "--ckpt_path", str(path), "--trainer.accelerator", "cpu").code == 0


def test_without_a_matching_optimizer_state_only_the_weights_are_used(run):
    content = NanoGPT().train(STEPS).content()
    del content["optimizer"]
    path = lay_out(content)
    result = run("fit", "--ckpt_path", str(path), "--trainer.max_steps", "2", "--model.optimizer", "muon")
    assert result.code == 0, result.err
    assert f"starting at step 0 with the weights of {path.as_posix()}, which contains no optimizer state" in result.err
    assert rows(Path("runs/version_0"))[0]["step"] == "0"


def test_a_constant_learning_rate_below_min_lr_is_read(run):
    content = NanoGPT().train(STEPS).content()
    content["config"] = CONFIG | {"learning_rate": 3e-5, "decay_lr": False, "min_lr": 6e-5}
    assert run("validate", "--ckpt_path", str(lay_out(content))).code == 0


@pytest.mark.parametrize("where", ["beside", "here", "named"])
def test_the_alphabet_is_found_beside_the_checkpoint_in_data_or_where_named(run, where):
    path = lay_out(NanoGPT().train(STEPS).content())
    data = Path("nanoGPT/data/verse")
    places = {"beside": path.parent, "here": Path("data/verse"), "named": Path("elsewhere")}
    places[where].mkdir(parents=True, exist_ok=True)
    for file in list(data.iterdir()):
        file.rename(places[where] / file.name)
    named = ["--data.text", "elsewhere"] if where == "named" else []
    result = run("validate", "--ckpt_path", str(path), *named)
    assert result.code == 0, result.err


def test_a_missing_or_different_alphabet_is_refused(run):
    path = lay_out(NanoGPT().train(STEPS).content(), with_meta=False)
    message = refused(run, "validate", "--ckpt_path", str(path))
    assert message == (
        f"ckpt_path ({path.as_posix()}) must come with its alphabet, in a meta.pkl beside it or in data/verse; "
        "otherwise name nanoGPT's data folder with --data.text"
    )
    (path.parent / "meta.pkl").write_bytes(pickle.dumps(meta("ab")))
    assert f"its vocab_size is {len(ALPHABET)} and the alphabet has 2 characters" in refused(
        run, "predict", "--ckpt_path", str(path)
    )


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("model", {}),
        ("model", None),
        ("model", {"transformer.wte.weight": "x"}),
        ("model_args", {"n_layer": 2}),
        ("model_args", None),
        ("iter_num", None),
        ("iter_num", -1),
    ],
)
def test_an_incomplete_checkpoint_is_refused(run, part, value):
    path = lay_out(NanoGPT().content() | {part: value})
    assert refused(run, "validate", "--ckpt_path", str(path)) == (
        f"ckpt_path ({path.as_posix()}) must contain model, model_args and iter_num, as nanoGPT writes them"
    )


def test_a_missing_weight_is_named(run):
    content = NanoGPT().content()
    content["model"] = {name: weight for name, weight in content["model"].items() if "h.1.mlp.c_fc" not in name}
    path = lay_out(content)
    for command in (["validate"], ["export", "--format", "nanogpt", "--out", "out"]):
        result = run(*command, "--ckpt_path", str(path))
        assert result.code == 1
        error = "but: gpt.transformer.h.1.mlp.c_fc.weight (absent) must be as in this network (32 x 8)"
        assert error in result.err
    assert not Path("out").exists()


def test_a_checkpoint_with_code_in_it_is_refused(run):
    path = lay_out(NanoGPT().content() | {"config": Path("x")})
    assert "contains no code" in refused(run, "validate", "--ckpt_path", str(path))


def test_an_exported_network_has_the_same_loss_in_nanogpt(run, tiny_run):
    assert run("export", "--format", "nanogpt", "--out", "exported", "--ckpt_path", "last").code == 0
    content = torch.load("exported/ckpt.pt", weights_only=True)
    last = torch.load(tiny_run / "checkpoints/last.ckpt", weights_only=True)
    nanogpt = NanoGPT.__new__(NanoGPT)
    nanogpt.network = GPT(GPTConfig(**content["model_args"]))
    nanogpt.network.load_state_dict(content["model"])
    exact = run("validate", "--ckpt_path", "last").out.split()[1]
    assert nanogpt.exact_loss() == pytest.approx(float(exact), abs=2e-6)
    assert (content["iter_num"], content["model_args"]["vocab_size"]) == (5, len(ALPHABET))
    assert content["best_val_loss"] == min(last["callbacks"]["Report"]["val_losses"].values())


def test_nanogpts_optimizer_loads_the_exported_state(run, tiny_run):
    assert run("export", "--format", "nanogpt", "--out", "exported", "--ckpt_path", "last").code == 0
    content = torch.load("exported/ckpt.pt", weights_only=True)
    network = GPT(GPTConfig(**content["model_args"]))
    weights = list(network.parameters())
    groups = [[weight for weight in weights if (weight.dim() >= 2) == matrix] for matrix in (True, False)]
    optimizer = AdamW([{"params": group} for group in groups], lr=1.0)
    optimizer.load_state_dict(content["optimizer"])
    last = torch.load(tiny_run / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
    for number, weight in enumerate(weights):
        assert optimizer.state[weight]["step"] == 5
        torch.testing.assert_close(optimizer.state[weight]["exp_avg"], last[number]["exp_avg"])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_an_exported_run_resumes_with_the_same_losses(run, tiny_run):
    assert run("export", "--format", "nanogpt", "--out", "exported", "--ckpt_path", "last").code == 0
    more = ["--trainer.max_steps", "9", "--trainer.log_every_n_steps", "1", "--trainer.precision", "32-true"]
    more += ["--data.text", "verse.txt", "--data.batch_size", "2"]
    assert run("fit", "--ckpt_path", "exported/ckpt.pt", *more, "--trainer.default_root_dir", "back").code == 0
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "9").code == 0
    original, back = (
        [(row["step"], row["train/loss"], row["lr"]) for row in rows(path) if row["train/loss"]]
        for path in (tiny_run, Path("back/version_0"))
    )
    assert original[-4:] == back


def test_the_text_of_a_run_is_exported(run, tiny_run):
    assert run("export", "--format", "nanogpt", "--out", "first").code == 0
    assert run("export", "--format", "nanogpt", "--out", "again", "--ckpt_path", "first/ckpt.pt").code == 0
    Path("again").rename("moved")
    text = f"text: {Path('verse.txt').absolute().as_posix()}, "
    assert text in run("fit", "--init_from=resume", "--out_dir=moved", "--max_iters=6").err
    Path("verse.txt").write_text(VERSE, encoding="utf-8")
    assert "must have the SHA-256" in refused(run, "validate", "--ckpt_path", "first/ckpt.pt")


@pytest.mark.parametrize("alphabet", [ALPHABET, ALPHABET[::-1]])
def test_an_exported_alphabet_does_not_hide_the_dataset_that_nanogpt_trained_on(run, alphabet):
    nanogpt = NanoGPT().train(STEPS)
    path = lay_out(nanogpt.content())
    (path.parent / "meta.pkl").write_bytes(pickle.dumps(meta(alphabet)))
    result = run("validate", "--out_dir=nanoGPT/out-verse", "--device=cpu")
    assert float(result.out.split()[1]) == pytest.approx(nanogpt.exact_loss(), abs=2e-6)
    fit = run("fit", "--init_from=resume", "--out_dir=nanoGPT/out-verse", "--device=cpu", "--max_iters=7")
    assert f"text: {Path('nanoGPT/data/verse').absolute().as_posix()}, " in fit.err


def test_a_dataset_that_is_nowhere_is_named(run):
    path = lay_out(NanoGPT().train(STEPS).content())
    Path("nanoGPT/data/verse").rename("elsewhere")
    (path.parent / "meta.pkl").write_bytes(pickle.dumps(meta(ALPHABET)))
    message = refused(run, "fit", "--init_from=resume", "--out_dir=nanoGPT/out-verse", "--max_iters=7")
    assert message.startswith(f"data.text ({Path('data/verse').absolute().as_posix()}) must be ")
    facts = facts_of(
        from_nanogpt(NanoGPT().content() | {"config": {"dataset": "shakespeare_char"}}, path, "auto"), path
    )
    assert facts.text == "tinyshakespeare"


def test_the_training_settings_are_exported(run):
    accumulated = ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "6"]
    assert run(*TINY, *accumulated, "--trainer.gradient_clip_val", "0.5").code == 0
    assert run("export", "--format", "nanogpt", "--out", "exported").code == 0
    config = torch.load("exported/ckpt.pt", weights_only=True)["config"]
    settings = {"grad_clip": 0.5, "batch_size": 2, "gradient_accumulation_steps": 2, "eval_interval": 3}
    settings |= {"eval_iters": 2, "log_interval": 1, "max_iters": 5}
    assert settings.items() <= config.items()
    assert run("export", "--format", "nanogpt", "--out", "again", "--ckpt_path", "exported/ckpt.pt").code == 0
    assert settings.items() <= torch.load("again/ckpt.pt", weights_only=True)["config"].items()


def test_the_alphabet_is_exported_to_where_sample_py_looks_for_it(run, tiny_run):
    assert run("export", "--format", "nanogpt", "--out", "exported").code == 0
    assert pickle.loads(Path("exported/meta.pkl").read_bytes()) == meta(ALPHABET)
    dataset = torch.load("exported/ckpt.pt", weights_only=True)["config"]["dataset"]
    assert Path("data", dataset, "meta.pkl").samefile("exported/meta.pkl")


def test_the_state_of_muon_is_not_exported(run):
    assert run(*TINY, "--model.optimizer", "muon").code == 0
    assert run("export", "--format", "nanogpt", "--out", "exported").code == 0
    content = torch.load("exported/ckpt.pt", weights_only=True)
    assert content["optimizer"]["state"] == {}
    assert content["iter_num"] == 5
