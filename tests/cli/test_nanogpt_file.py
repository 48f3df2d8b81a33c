"""nanoGPT's config files: read as flags in their place, never run; anything but settings is refused by its line."""

from pathlib import Path

import pytest
import yaml
from support.command_line import TINY, VERSE, refused, rows
from support.nanogpt_folder import prepare

from chargpt_lightning.checkpoints.training_settings import COUNTS
from chargpt_lightning.cli.nanogpt_file import CHARACTERS, DEFAULTS, OF_SAMPLE, replace_files
from chargpt_lightning.cli.nanogpt_flags import OTHERS, RENAMED
from chargpt_lightning.utils.errors import ConfigError

SMALL = {
    **{"out_dir": "out-verse", "dataset": "verse", "compile": False, "gradient_accumulation_steps": 1},
    **{"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "batch_size": 2, "eval_iters": 2},
    **{"eval_interval": 2, "max_iters": 4, "warmup_iters": 1, "wandb_log": False},
}
COMMAND = (  # nanoGPT's, for a CPU
    *("--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12"),
    *("--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"),
)


def write(name: str, text: str) -> str:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return name


def small(name: str = "verse.py", **others: object) -> str:
    """Writes a file with these settings."""
    return write(name, "".join(f"{name} = {value!r}  # a comment\n" for name, value in (SMALL | others).items()))


def flags(*args: str) -> list[str]:
    """The flags that a file means, without train.py's defaults."""
    defaults = [f"--{name}={value}" for name, value in DEFAULTS.items()]
    subcommand, *given = replace_files(list(args))
    if args[0] == "fit":
        assert given[: len(defaults)] == defaults
        given = given[len(defaults) :]
    assert subcommand == args[0]
    return given


def settings(run, *args: str) -> dict:
    result = run(*args, "--print_config")
    assert result.code == 0, result.err
    return yaml.safe_load(result.out)


def test_a_nanogpt_user_trains_resumes_evaluates_samples_and_exports(run):
    prepare("data/verse", VERSE * 20)
    config = small()
    assert run("fit", config, "--device=cpu", "--log_interval=1", "--max_iters=3").code == 0
    logged = rows(Path("out-verse/version_0"))
    assert [row["step"] for row in logged if row["val/loss"]] == ["0", "2", "3"]
    resumed = run("fit", small(n_layer=2, dataset="other"), "--device=cpu", "--init_from=resume")
    assert "resuming out-verse/version_0 at step 3" in resumed.err, "with the network and the dataset of the checkpoint"
    evaluated = run("validate", config, "--device=cpu", "--eval_only=True", "--init_from=resume")
    assert evaluated.out.splitlines()[-1] == "characters: 128"
    sampled = run("predict", "--out_dir=out-verse", "--start=When", "--num_samples=1", "--max_new_tokens=4")
    assert sampled.out.startswith("When")
    assert len(sampled.out) == len("When1234\n")
    assert run("export", "--format=nanogpt", "--out=exported", "--out_dir=out-verse").code == 0
    assert run("fit", "--init_from=resume", "--out_dir=exported", "--device=cpu", "--max_iters=6").code == 0
    assert Path("exported/version_0/checkpoints/best.ckpt").exists()


def test_without_nanogpts_file_its_name_is_the_recipe(run):
    pasted = settings(run, "fit", CHARACTERS.as_posix(), *COMMAND)
    recipe = settings(
        run, "fit", "--config=shakespeare_char", "--trainer.accelerator=cpu", "--trainer.precision=32-true"
    )
    assert recipe["trainer"].pop("default_root_dir") == "runs/shakespeare_char"
    assert pasted["trainer"].pop("default_root_dir") == "out-shakespeare-char"
    assert pasted == recipe


def test_nanogpts_own_file_overrides_the_recipe(run):
    small(CHARACTERS.as_posix(), n_layer=3)
    prepare("data/verse", VERSE * 20)
    assert settings(run, "fit", CHARACTERS.as_posix())["model"]["n_layer"] == 3


def test_files_and_flags_apply_in_their_order(run):
    write("one.py", "n_layer = 1\nn_head = 1\n")
    write("two.py", "n_layer = 2\n")
    assert flags("fit", "one.py", "--n_head=4", "two.py") == [
        "--n_layer=1",
        "--n_head=1",
        "--n_head=4",
        "--n_layer=2",
    ]
    model = settings(run, "fit", "one.py", "--n_head=4", "two.py", "--model.n_embd=64", "--compile=False")["model"]
    assert (model["n_layer"], model["n_head"], model["n_embd"]) == (2, 4, 64)


def test_where_a_file_is_silent_train_py_decides(run):
    config = settings(run, "fit", write("mine.py", "n_layer = 1\n"), "--device=cpu")
    model, trainer = config["model"], config["trainer"]
    assert (model["n_layer"], model["block_size"], model["beta2"], model["compile"]) == (1, 1024, 0.95, True)
    assert (trainer["gradient_clip_val"], trainer["accumulate_grad_batches"]) == (1.0, 40)
    assert trainer["val_check_interval"] == 40 * 2000


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("gradient_accumulation_steps = 5 * 8", "gradient_accumulation_steps=40"),
        ("max_iters = 2 * (1 + 3) - 6 // 4", "max_iters=7"),
        ("learning_rate = 6e-4 / 2", "learning_rate=0.0003"),
        ("min_lr = -1e-4", "min_lr=-0.0001"),
        ("bias = True", "bias=True"),
        ("top_k = None", "top_k=None"),
        ("start = 'a = \"b\"\\n'", 'start=a = "b"\n'),
        ("start = 'a' 'b'", "start=ab"),
        ("n_layer = 1; # two\nn_layer = 2", "n_layer=2"),
        ("", None),
    ],
)
def test_a_literal_becomes_a_flag(line, flag):
    assert flags("fit", write("mine.py", line)) == ([f"--{flag}"] if flag else [])


LITERAL = "must be a text, a number, True, False or None, because the file is not run"
ASSIGNMENT = "must be an assignment such as `n_layer = 4`, because the file is not run"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("import os", ASSIGNMENT),
        ("print('n_layer')", ASSIGNMENT),
        ("n_layer += 1", ASSIGNMENT),
        ("n_layer = n_head = 4", ASSIGNMENT),
        ("n_layer, n_head = 4, 4", ASSIGNMENT),
        ("n_layer: int = 4", ASSIGNMENT),
        ("if True: n_layer = 4", ASSIGNMENT),
        ("out_dir = 'out-' + str(1)", f"out_dir {LITERAL}"),
        ("out_dir = 'out' + 'x'", f"out_dir {LITERAL}"),
        ("out_dir = f'out'", f"out_dir {LITERAL}"),
        ("out_dir = b'out'", f"out_dir {LITERAL}"),
        ("n_layer = n_head", f"n_layer {LITERAL}"),
        ("n_layer = 9 ** 9", f"n_layer {LITERAL}"),
        ("n_layer = 1 / 0", f"n_layer {LITERAL}"),
        ("n_layer = 'x' * 9", f"n_layer {LITERAL}"),
        (f"n_layer = {'9' * 4000} * {'9' * 4000}", f"n_layer {LITERAL}"),
        (f"min_lr = {'9' * 4000} / 3", f"min_lr {LITERAL}"),
        (f"n_layer = {'-' * 150}'x'", f"n_layer {LITERAL}"),
        ("layers = 4", "layers must be one of nanoGPT's settings"),
        ("n_layer = = 4", "invalid syntax"),
    ],
)
def test_anything_else_is_refused_by_its_line(line, problem):
    with pytest.raises(ConfigError) as error:
        replace_files(["fit", write("mine.py", f"# mine\n\nn_head = 2\n{line}\n")])
    assert str(error.value) == f"mine.py, line 4: {problem}"


@pytest.mark.parametrize("content", [b"\0", b"n_layer = '\xff'", b"# coding: x\n", b"(" * 999, b"-" * 99_999 + b"1"])
def test_a_file_that_is_no_python_is_refused(content):
    Path("mine.py").write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.py"):
        replace_files(["fit", "mine.py"])


def test_a_file_is_not_run(run):
    write("mine.py", "n_layer = open('made', 'w').write('x')\n")
    assert refused(run, "fit", "mine.py") == f"mine.py, line 1: n_layer {LITERAL}"


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("name", ["config/train_gpt2.py", "config/finetune_shakespeare.py", "config/eval_gpt2_xl.py"])
def test_nanogpts_files_for_tokens_are_refused_by_their_names(name, exists):
    if exists:
        write(name, "batch_size = 2\n")
    with pytest.raises(ConfigError) as error:
        replace_files(["fit", name])
    assert str(error.value) == (
        f"config ({name}) must be for characters, because this package has no BPE tokens; "
        "nanoGPT's file for characters is config/train_shakespeare_char.py"
    )


def test_a_missing_file_is_refused(run):
    assert refused(run, "fit", "config/mine.py") == (
        "config (config/mine.py) must be a file, but there is no such file"
    )


def test_what_a_checkpoint_has_is_not_taken_from_a_file():
    config = small()
    of_run = [f"--{name}={SMALL[name]}" for name in ("eval_iters", "eval_interval", "max_iters")]
    for start in (["--init_from=resume"], ["--init_from", "resume"], ["--ckpt_path", "last"]):
        given = flags("validate", config, *start)
        assert set(of_run) < set(given)
        assert given == replace_files(["fit", config, *start])[1:]
        assert not any(flag.startswith(("--n_layer", "--dataset", "--block_size")) for flag in given)
    assert replace_files(["fit", small(init_from="resume")])[1:-1] == flags("validate", config)[:-1]
    assert "--n_layer=1" in flags("fit", small(init_from="resume"), "--init_from=scratch")


def test_sample_py_ignores_the_settings_of_a_training():
    assert flags("predict", small(start="When"), "--top_k=5") == [
        "--out_dir=out-verse",
        "--compile=False",
        "--start=When",
        "--top_k=5",
    ]
    assert set(RENAMED) | set(OTHERS) >= OF_SAMPLE
    assert set(DEFAULTS) <= set(RENAMED) | set(OTHERS) | set(COUNTS)


def test_the_recipe_is_not_used_with_a_checkpoint():
    for subcommand in ("validate", "predict"):
        assert flags(subcommand, CHARACTERS.as_posix()) == ["--out_dir=out-shakespeare-char"]


def test_the_value_of_a_flag_is_no_file():
    for args in (["--data.text", "code.py"], ["--start", "a.py"], ["-c", "a.py"], ["--data.text=code.py"]):
        assert replace_files(["fit", *args]) == ["fit", *args]
    assert replace_files(TINY) == TINY
