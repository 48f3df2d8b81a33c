"""A resumed run prints what has changed, as a user would write it, and that its learning rate stays low."""

from jsonargparse import Namespace

from chargpt_lightning.trainer.changes import changes


def test_a_run_lengthened_beyond_its_decay_says_so(run, tiny_run):
    decay = ["--model.lr_decay_iters", "6"]
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6", *decay).code == 0
    note = "the learning rate is model.min_lr (0.0001) from step 6 on; --model.lr_decay_iters 8 decays it until the end"
    longer = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "8"]
    assert note in run(*longer).err.splitlines()
    for more in (["--trainer.max_steps", "9", "--model.lr_decay_iters", "9"], ["--trainer.max_steps", "10"]):
        last = run("fit", "--ckpt_path", "last", *more, "--model.decay_lr", str(len(more) > 2)).err
        assert "--model.lr_decay_iters" not in last


def test_changes_are_compared_as_values_and_printed_as_a_user_writes_them():
    def settings(**trainer: object) -> Namespace:
        model = Namespace(lr_decay_iters=9, decay_lr=True)
        given = {"default_root_dir": "runs", "max_steps": 5, "gradient_clip_val": None, "precision": 32} | trainer
        data = Namespace(sha256=None, text="verse.txt", alphabet=None)
        return Namespace(seed_everything=1, trainer=Namespace(given), model=model, data=data)

    stop = Namespace(class_path="EarlyStopping", init_args=Namespace(monitor="val/loss", strict=True))
    before = settings(devices=2, callbacks=[stop], gradient_clip_val=1.0, limit_val_batches=1.0, max_time=None)
    assert (
        list(
            changes(
                before,
                settings(**vars(before.trainer) | {"devices": "2", "gradient_clip_val": 1, "precision": "32-true"}),
            )
        )
        == []
    )
    now = settings(devices="auto", callbacks=None, gradient_clip_val=0.5, limit_val_batches=1, max_time="00:01:00:00")
    assert list(changes(before, now)) == [
        "changed: trainer.gradient_clip_val is 0.5, was 1.0",
        "changed: trainer.devices is auto, was 2",
        "changed: trainer.callbacks is null, was "
        '[{"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "strict": true}}]',
        "changed: trainer.limit_val_batches is 1, was 1.0",
        "changed: trainer.max_time is 00:01:00:00, was null",
    ]
