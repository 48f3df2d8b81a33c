"""nanoGPT's checkpoints read and written: beside a loop that trains and evaluates as nanoGPT does."""

import math
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import TINY, VERSE, exact_rows, refused, rows
from support.nanogpt_folder import meta, prepare
from torch.nn import functional as F
from torch.optim import AdamW

from chargpt_lightning import GPT, CharDataModule, CharGPT, GPTConfig
from chargpt_lightning.checkpoints.nanogpt import TRAINING

TEXT = VERSE * 20
ALPHABET = "".join(sorted(set(TEXT)))
CONFIG = {
    "dataset": "verse",
    "learning_rate": 1e-2,
    "min_lr": 1e-3,
    "warmup_iters": 2,
    "lr_decay_iters": 20,
    "decay_lr": True,
    "weight_decay": 0.2,
    "beta1": 0.8,
    "beta2": 0.95,
    "eval_only": False,
    "device": "cpu",
}
STEPS = 6


class NanoGPT:
    """A training as nanoGPT's train.py does it, and its files."""

    def __init__(self, bias: bool = False) -> None:
        torch.manual_seed(1)
        self.args = {
            **{"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 8},
            **{"bias": bias, "vocab_size": len(ALPHABET), "dropout": 0.0},
        }
        self.network = GPT(GPTConfig(**self.args))
        weights = list(self.network.parameters())
        groups = [
            {"params": [weight for weight in weights if weight.dim() >= 2], "weight_decay": CONFIG["weight_decay"]},
            {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = AdamW(groups, lr=CONFIG["learning_rate"], betas=(CONFIG["beta1"], CONFIG["beta2"]))
        self.step = 0

    def update(self, ids: torch.Tensor, targets: torch.Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step)
        self.optimizer.zero_grad()
        F.cross_entropy(self.network(ids).flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1

    def train(self, steps: int) -> "NanoGPT":
        ids = torch.tensor([ALPHABET.index(character) for character in TEXT])
        for _ in range(steps):
            starts = torch.randint(len(ids) - 9, (4,))
            windows = torch.stack([ids[start : start + 9] for start in starts])
            self.update(windows[:, :-1], windows[:, 1:])
        return self

    def content(self) -> dict:
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "model_args": self.args,
            "iter_num": self.step,
            "best_val_loss": torch.tensor(2.5),
            "config": CONFIG,
        }

    def exact_loss(self) -> float:
        """The mean over the windows of the val split, one after the other."""
        ids = torch.tensor([ALPHABET.index(character) for character in TEXT[int(len(TEXT) * 0.9) :]])
        losses = []
        for start in range(0, len(ids) - 8, 8):
            logits = self.network(ids[None, start : start + 8])
            losses.append(F.cross_entropy(logits[0], ids[start + 1 : start + 9]).item())
        return sum(losses) / len(losses)

    def likeliest(self, prompt: str, characters: int) -> str:
        """What its sample.py writes where only the likeliest character may be drawn."""
        ids = [ALPHABET.index(character) for character in prompt]
        for _ in range(characters):
            ids.append(self.network(torch.tensor([ids[-8:]]))[0, -1].argmax().item())
        return "".join(ALPHABET[i] for i in ids)


def learning_rate(step: int) -> float:
    """nanoGPT's schedule, by hand."""
    if step < 2:
        return 1e-2 * (step + 1) / 3
    if step > 20:
        return 1e-3
    return 1e-3 + 0.5 * (1 + math.cos(math.pi * (step - 2) / 18)) * 9e-3


def lay_out(content: dict, with_meta: bool = True) -> Path:
    """The files where nanoGPT has them; gives the checkpoint's path."""
    data = prepare("nanoGPT/data/verse", TEXT)
    if not with_meta:
        (data / "meta.pkl").unlink()
    Path("nanoGPT/out-verse").mkdir()
    torch.save(content, "nanoGPT/out-verse/ckpt.pt")
    return Path("nanoGPT/out-verse/ckpt.pt")


def compiled(content: dict) -> dict:
    return content | {"model": {f"_orig_mod.{name}": weight for name, weight in content["model"].items()}}


def with_masks(content: dict) -> dict:
    masks = {f"transformer.h.{n}.attn.bias": torch.ones(1, 1, 8, 8).tril() for n in range(2)}
    return content | {"model": content["model"] | masks}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("as_saved", [dict, compiled, with_masks])
def test_validate_measures_nanogpts_own_loss_on_its_own_data(run, as_saved, bias):
    nanogpt = NanoGPT(bias).train(STEPS)
    result = run("validate", "--ckpt_path", str(lay_out(as_saved(nanogpt.content()))), "--trainer.accelerator", "cpu")
    assert result.code == 0, result.err
    assert float(result.out.split()[1]) == pytest.approx(nanogpt.exact_loss(), abs=2e-6)
    assert "nanoGPT/data/verse" in result.err


def test_predict_writes_what_nanogpt_would(run):
    nanogpt = NanoGPT().train(100)
    path = lay_out(nanogpt.content())
    sample = ["--sample.num_samples", "1", "--sample.temperature", "0", "--sample.max_new_tokens", "40"]
    result = run("predict", "--ckpt_path", str(path), "--sample.prompt", "When", *sample)
    assert result.out == nanogpt.likeliest("When", 40) + "\n"
    assert CharGPT.load_from_checkpoint(path).sample("When", 40, temperature=0) == nanogpt.likeliest("When", 40)


@pytest.mark.parametrize("bias", [False, True])
def test_fit_goes_on_as_nanogpt_would(run, bias, monkeypatch):
    nanogpt = NanoGPT(bias).train(STEPS)
    path = lay_out(nanogpt.content())
    more = ["--trainer.max_steps", str(STEPS + 4), "--trainer.gradient_clip_val", "1", "--data.batch_size", "3"]
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
        ours = last["state_dict"][f"gpt.{name}"]
        if name.endswith("c_attn.bias"):  # a key's bias has no gradient but its rounding, of which Adam makes a step
            ours[8:16] = weight[8:16]
        torch.testing.assert_close(ours, weight, rtol=1e-5, atol=1e-6)


def test_nanogpts_own_commands_find_it_by_its_out_dir(run):
    lay_out(NanoGPT().train(STEPS).content())
    out_dir = "--out_dir=nanoGPT/out-verse"
    assert run("predict", out_dir, "--num_samples=1", "--max_new_tokens=4").code == 0
    fit = ["fit", out_dir, "--init_from=resume", "--max_iters=8", "--device=cpu"]
    assert f"resuming in a new directory at step {STEPS}" in run(*fit).err
    assert "version_0/checkpoints/best.ckpt" in run("predict", out_dir, "--num_samples=1").err  # now there is a run


def settings(run_dir: str = "runs/version_0") -> dict:
    """Those for training in a run's config.yaml."""
    config = yaml.safe_load(Path(run_dir, "config.yaml").read_text(encoding="utf-8"))
    trainer = ("max_steps", "val_check_interval", "log_every_n_steps", "accumulate_grad_batches", "gradient_clip_val")
    return {name: config["trainer"][name] for name in trainer} | {
        name: config["data"][name] for name in ("batch_size", "eval_iters")
    }


OF_THE_RUN = {
    **{"grad_clip": 0.5, "batch_size": 3, "gradient_accumulation_steps": 4, "eval_interval": 5, "eval_iters": 2},
    **{"log_interval": 2, "max_iters": 11},
}
AS_OURS = {
    **{"max_steps": 11, "val_check_interval": 20, "log_every_n_steps": 2, "accumulate_grad_batches": 4},
    **{"gradient_clip_val": 0.5, "batch_size": 3, "eval_iters": 2},
}


def import_with(config: dict, steps: int = STEPS) -> list[str]:
    """Lays out a checkpoint with these settings; gives the command that resumes it."""
    path = lay_out(NanoGPT().train(steps).content() | {"config": CONFIG | config})
    return ["fit", "--ckpt_path", str(path), "--trainer.accelerator", "cpu"]


def test_fit_takes_over_nanogpts_settings_for_training(run):
    result = run(*import_with(OF_THE_RUN))
    assert result.code == 0, result.err
    assert settings() == AS_OURS
    assert [row["step"] for row in rows(Path("runs/version_0")) if row["val/loss"]] == ["10", "11"]


@pytest.mark.parametrize(("given", "clip"), [({}, 1.0), ({"grad_clip": 0.0}, 0.0), ({"grad_clip": "x"}, 1.0)])
def test_without_another_gradients_are_clipped_as_by_nanogpts_default(run, given, clip):
    assert run(*import_with(given), "--trainer.max_steps", "7").code == 0
    assert settings()["gradient_clip_val"] == clip


def test_the_users_settings_override_nanogpts(run):
    Path("mine.yaml").write_text("trainer: {gradient_clip_val: 0.25}\ndata: {batch_size: 5}\n", encoding="utf-8")
    fit = import_with(OF_THE_RUN)
    mine = ["--config", "mine.yaml", "--max_iters=8", "--trainer.accumulate_grad_batches", "2"]
    assert run(*fit, *mine).code == 0
    changed = {"gradient_clip_val": 0.25, "batch_size": 5, "max_steps": 8}
    assert settings() == AS_OURS | changed | {"accumulate_grad_batches": 2, "val_check_interval": 10}
    assert run(*fit, "--eval_interval=3").code == 0
    assert settings("runs/version_1") == AS_OURS | {"val_check_interval": 12}


def test_devices_share_the_batches_of_nanogpts_update_unless_the_user_gives_others(run):
    fit = [*import_with(OF_THE_RUN), "--trainer.devices", "2"]
    trainer = yaml.safe_load(run(*fit, "--print_config").out)["trainer"]
    assert (trainer["accumulate_grad_batches"], trainer["val_check_interval"]) == (2, 10)
    fit[-1] = "3"
    message = "gradient_accumulation_steps (4) must be divisible by the number of devices (3)"
    assert refused(run, *fit).startswith(message)
    trainer = yaml.safe_load(run(*fit, "--gradient_accumulation_steps=6", "--print_config").out)["trainer"]
    assert (trainer["accumulate_grad_batches"], trainer["val_check_interval"]) == (2, 10)
    trainer = yaml.safe_load(run(*fit, "--trainer.accumulate_grad_batches=3", "--print_config").out)["trainer"]
    assert (trainer["accumulate_grad_batches"], trainer["val_check_interval"]) == (3, 15)


@pytest.mark.parametrize("name", OF_THE_RUN)
@pytest.mark.parametrize("value", ["x", None, [1], {}, True, float("nan"), -1])
def test_a_setting_that_is_no_number_of_its_type_is_ignored(run, name, value):
    others = {other: OF_THE_RUN[other] for other in OF_THE_RUN if other != name}
    path = (fit := import_with(others))[2]
    without = run(*fit, "--print_config")
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"config": checkpoint["config"] | {name: value}}, path)
    result = run(*fit, "--print_config")
    assert (result.code, result.out) == (0, without.out)


@pytest.mark.parametrize("dropout", ["x", None, [1]])
def test_a_dropout_that_is_no_number_is_ignored(run, dropout):
    nanogpt = NanoGPT()
    path = lay_out(nanogpt.content() | {"model_args": nanogpt.args | {"dropout": dropout}})
    assert run("validate", "--ckpt_path", str(path), "--trainer.accelerator", "cpu").code == 0


@pytest.mark.parametrize("subcommand", ["validate", "predict"])
def test_only_fit_takes_settings_over(run, subcommand):
    path = import_with(OF_THE_RUN | {"gradient_accumulation_steps": 7, "batch_size": 10**9})[2]
    assert run(subcommand, "--ckpt_path", path, "--trainer.devices", "1", "--trainer.accelerator", "cpu").code == 0


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize(("steps", "evaluated"), [(6, ["10", "15", "17"]), (10, ["15", "17"])])
def test_evaluations_come_at_multiples_of_the_interval(run, batches, steps, evaluated):
    config = OF_THE_RUN | {"gradient_accumulation_steps": batches, "max_iters": 17, "log_interval": 1}
    assert run(*import_with(config, steps), "--trainer.callbacks", "LearningRateMonitor").code == 0
    logged = rows(Path("runs/version_0"))
    assert [row["step"] for row in logged if row["val/loss"]] == evaluated
    assert {int(row["step"]) for row in logged if row["lr-AdamW/pg1"]} == set(range(steps, 17))


def test_a_stop_where_an_evaluation_is_due_comes_after_it(run, interrupt):
    fit = import_with(OF_THE_RUN)
    interrupt(9)
    assert run(*fit).code == 130
    assert [row["step"] for row in rows(Path("runs/version_0")) if row["val/loss"]] == ["10"]
    assert run("fit", "--ckpt_path", "last").code == 0
    assert run(*fit).code == 0
    assert exact_rows(Path("runs/version_0")) == exact_rows(Path("runs/version_1"))


def test_what_the_user_says_stands_above_nanogpts_settings(run):
    path = lay_out(NanoGPT().train(STEPS).content())
    more = ["--trainer.max_steps", "8", "--model.beta1", "0.7", "--trainer.accelerator", "cpu"]
    assert run("fit", "--ckpt_path", str(path), *more).code == 0
    hparams = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["hyper_parameters"]
    assert {name: hparams[name] for name in TRAINING} == {name: CONFIG[name] for name in TRAINING} | {"beta1": 0.7}
    message = refused(run, "fit", "--ckpt_path", str(path), *more, "--model.n_layer", "3")
    assert message.startswith("model.n_layer (3) must be 2")


def test_without_an_optimizer_that_fits_only_the_weights_are_taken(run):
    content = NanoGPT().train(STEPS).content()
    del content["optimizer"]
    path = lay_out(content)
    result = run("fit", "--ckpt_path", str(path), "--trainer.max_steps", "2", "--model.optimizer", "muon")
    assert result.code == 0, result.err
    assert f"starting at step 0 with the weights of {path.as_posix()}, which contains no optimizer state" in result.err
    assert rows(Path("runs/version_0"))[0]["step"] == "0"


def test_a_fine_tuning_of_nanogpts_whose_min_lr_is_above_its_learning_rate_is_read(run):
    content = NanoGPT().train(STEPS).content()
    content["config"] = CONFIG | {"learning_rate": 3e-5, "decay_lr": False, "min_lr": 6e-5}
    assert run("validate", "--ckpt_path", str(lay_out(content))).code == 0


@pytest.mark.parametrize("where", ["beside", "here", "named"])
def test_the_alphabet_is_found(run, where):
    path = lay_out(NanoGPT().train(STEPS).content())
    data = Path("nanoGPT/data/verse")
    places = {"beside": path.parent, "here": Path("data/verse"), "named": Path("elsewhere")}
    places[where].mkdir(parents=True, exist_ok=True)
    for file in list(data.iterdir()):
        file.rename(places[where] / file.name)
    named = ["--data.text", "elsewhere"] if where == "named" else []
    result = run("validate", "--ckpt_path", str(path), *named)
    assert result.code == 0, result.err


def test_an_alphabet_that_is_nowhere_or_another_is_said(run):
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
def test_an_incomplete_checkpoint_is_said(run, part, value):
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
        error = "error: ckpt_path: gpt.transformer.h.1.mlp.c_fc.weight (absent) must be as in this network (32 x 8)"
        assert error in result.err
    assert not Path("out").exists()


def test_a_checkpoint_with_code_in_it_is_refused(run):
    path = lay_out(NanoGPT().content() | {"config": Path("x")})
    assert "contains no code" in refused(run, "validate", "--ckpt_path", str(path))


class TestExport:
    """`export --format nanogpt`."""

    def test_nanogpt_has_our_loss(self, run, tiny_run):
        assert run("export", "--format", "nanogpt", "--out", "theirs", "--ckpt_path", "last").code == 0
        content = torch.load("theirs/ckpt.pt", weights_only=True)
        ours = torch.load(tiny_run / "checkpoints/last.ckpt", weights_only=True)
        nanogpt = NanoGPT.__new__(NanoGPT)
        nanogpt.network = GPT(GPTConfig(**content["model_args"]))
        nanogpt.network.load_state_dict(content["model"])
        exact = run("validate", "--ckpt_path", "last").out.split()[1]
        assert nanogpt.exact_loss() == pytest.approx(float(exact), abs=2e-6)
        assert (content["iter_num"], content["model_args"]["vocab_size"]) == (5, len(ALPHABET))
        best = ours["callbacks"]["Report"]["val_losses"]
        assert content["best_val_loss"] == min(best.values())

    def test_its_optimizer_goes_on_with_our_state(self, run, tiny_run):
        assert run("export", "--format", "nanogpt", "--out", "theirs", "--ckpt_path", "last").code == 0
        content = torch.load("theirs/ckpt.pt", weights_only=True)
        network = GPT(GPTConfig(**content["model_args"]))
        weights = list(network.parameters())
        groups = [[weight for weight in weights if (weight.dim() >= 2) == matrix] for matrix in (True, False)]
        optimizer = AdamW([{"params": group} for group in groups], lr=1.0)
        optimizer.load_state_dict(content["optimizer"])
        ours = torch.load(tiny_run / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
        for place, weight in enumerate(weight for group in groups for weight in group):
            assert optimizer.state[weight]["step"] == 5
            torch.testing.assert_close(optimizer.state[weight]["exp_avg"], ours[place]["exp_avg"])
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]

    def test_what_comes_back_goes_on_to_the_bit(self, run, tiny_run):
        assert run("export", "--format", "nanogpt", "--out", "theirs", "--ckpt_path", "last").code == 0
        more = ["--trainer.max_steps", "9", "--trainer.log_every_n_steps", "1", "--trainer.precision", "32-true"]
        more += ["--data.text", "verse.txt", "--data.batch_size", "2"]
        assert run("fit", "--ckpt_path", "theirs/ckpt.pt", *more, "--trainer.default_root_dir", "back").code == 0
        assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "9").code == 0
        ours, back = (
            [(row["step"], row["train/loss"], row["lr"]) for row in rows(path) if row["train/loss"]]
            for path in (tiny_run, Path("back/version_0"))
        )
        assert ours[-4:] == back

    def test_it_has_our_settings_for_training(self, run):
        accumulated = ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "6"]
        assert run(*TINY, *accumulated, "--trainer.gradient_clip_val", "0.5").code == 0
        assert run("export", "--format", "nanogpt", "--out", "theirs").code == 0
        config = torch.load("theirs/ckpt.pt", weights_only=True)["config"]
        settings = {"grad_clip": 0.5, "batch_size": 2, "gradient_accumulation_steps": 2, "eval_interval": 3}
        settings |= {"eval_iters": 2, "log_interval": 1, "max_iters": 5}
        assert settings.items() <= config.items()
        assert run("export", "--format", "nanogpt", "--out", "again", "--ckpt_path", "theirs/ckpt.pt").code == 0
        assert settings.items() <= torch.load("again/ckpt.pt", weights_only=True)["config"].items()

    def test_the_alphabet_comes_along_and_is_found_from_anywhere(self, run, tiny_run):
        assert run("export", "--format", "nanogpt", "--out", "theirs").code == 0
        assert pickle.loads(Path("theirs/meta.pkl").read_bytes()) == meta(ALPHABET)
        dataset = torch.load("theirs/ckpt.pt", weights_only=True)["config"]["dataset"]
        assert Path("data", dataset, "meta.pkl").samefile("theirs/meta.pkl")  # as sample.py looks for it

    def test_a_run_of_muon_leaves_its_state_behind(self, run):
        assert run(*TINY, "--model.optimizer", "muon").code == 0
        assert run("export", "--format", "nanogpt", "--out", "theirs").code == 0
        content = torch.load("theirs/ckpt.pt", weights_only=True)
        assert content["optimizer"]["state"] == {}
        assert content["iter_num"] == 5
