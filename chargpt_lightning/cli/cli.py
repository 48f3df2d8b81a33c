"""LightningCLI for our module and data module: how they are linked, completed and run."""

import logging
import math
import sys
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from chargpt_lightning.callbacks.samples import SampleWriter, takes_text
from chargpt_lightning.cli.import_policy import allow_only_known_imports, texts_in
from chargpt_lightning.cli.nanogpt_flags import flags_of_a_run, flags_of_counts, shared_equally, take_counts, translate
from chargpt_lightning.cli.parser import Parser, configs_first, texts_together
from chargpt_lightning.cli.recipes import recipes
from chargpt_lightning.cli.run_config import SaveConfig, require_contained
from chargpt_lightning.datamodule import CharDataModule
from chargpt_lightning.module import CharGPT
from chargpt_lightning.sampling import SampleConfig
from chargpt_lightning.trainer.resume import Origin, changes, find_origin
from chargpt_lightning.trainer.setup import count_devices, one_line_errors, run_held, settings_of_a_run
from chargpt_lightning.trainer.validation import (
    accumulated_batches,
    require_callbacks_that_work,
    require_sound,
    settle_callbacks,
)
from chargpt_lightning.utils.console import program_name
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.hardware import native_precision
from chargpt_lightning.utils.run_dir import require_writable

log = logging.getLogger(__name__)

_USAGE = "%(prog)s [-c CONFIG] [--GROUP.OPTION VALUE ...]"  # argparse's own would name every option first


class CharCLI(LightningCLI):
    """`fit`, `validate` and `predict` for a CharGPT on a CharDataModule.

    Args:
        args: The command line without the program's name; None takes the process's.

    Raises:
        ArgumentError: If a flag or a file of settings cannot be read.
        ConfigError: If a setting or an input cannot work.
    """

    def __init__(self, args: list[str] | None) -> None:
        super().__init__(
            CharGPT,
            CharDataModule,
            args=sys.argv[1:] if args is None else args,
            parser_class=Parser,
            parser_kwargs={
                "prog": program_name(),
                "description": "Trains, validates and samples a character-level GPT.",
                "epilog": f"Recipes, which --config takes by name: {', '.join(recipes())}.",
                "fit": {"description": "Trains a network and keeps the best.", "usage": _USAGE},
                "validate": {"description": "Measures a checkpoint on the whole val split.", "usage": _USAGE},
                "predict": {"description": "Samples text from a checkpoint.", "usage": _USAGE},
            },
            trainer_defaults={
                "default_root_dir": "runs",
                "check_val_every_n_epoch": None,  # windows never end, so evaluations go by steps
                "num_sanity_val_steps": -1,  # the whole first evaluation, before any update
                "enable_model_summary": False,
            },
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=1337,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # the hyperparameters are plain, and load without it
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that wants whole names, and leaves it to the caller how to say an error."""
        return super().init_parser(allow_abbrev=False, exit_on_error=False, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, and which parameters of the trainer's methods are no flags."""
        ours = {"model", "datamodule", "weights_only"}
        return {
            "fit": ours | {"train_dataloaders", "val_dataloaders"},
            "validate": ours | {"dataloaders", "verbose"},
            "predict": ours | {"dataloaders", "return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The sampling flags, and the links by which data and model meet."""
        parser.add_class_arguments(SampleConfig, "sample")
        parser.link_arguments("model.block_size", "data.block_size")
        parser.link_arguments("data.alphabet", "model.alphabet", apply_on="instantiate")
        for name in ("prompt", "num_samples", "unknown"):
            parser.link_arguments(f"sample.{name}", f"data.{name}")
        for group in ("data", "model"):
            parser.link_arguments("seed_everything", f"{group}.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line, and parses it again with a checkpoint's settings as defaults."""
        counts, args = take_counts(texts_together(args))
        args = configs_first(translate(args))
        running = [arg for arg in args if not arg.startswith("--print_config")]
        first = parser.parse_args(running)
        asked = first[first.subcommand]
        require_callbacks_that_work(asked.trainer.callbacks)
        self.origin = None
        if asked.ckpt_path or running == args:
            root = Path(asked.trainer.default_root_dir)
            self.origin = find_origin(first.subcommand, asked.ckpt_path, root, asked.data.text)
        beneath = [] if self.origin is None else [self.origin.settings()]
        if self.origin is not None:
            self._distrust(self.origin, named=texts_in(parser.dump(first)))
        if first.subcommand == "fit":
            beneath += self._settings_of_the_training(asked.trainer, counts)
            args = _with_counts(parser, args, running, beneath, counts)
        again = beneath or running != args
        self.config = parser.parse_args([*args[:1], *beneath, *args[1:]]) if again else first
        self._complete(self.config[self.config.subcommand])

    def _distrust(self, origin: Origin, named: set[str]) -> None:
        """Limits what the settings of a checkpoint or its run may name to what is harmless, or named by the user."""
        allow_only_known_imports(named)
        if origin.run is not None:
            require_contained(origin.run, named)

    def _complete(self, config: Namespace) -> None:
        seed = config.seed_everything
        if isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise ConfigError(
                f"seed_everything ({seed}) must be a number from 0 to 2**32 - 1, for a run to be repeatable"
            )
        config.ckpt_path = None  # Lightning would let it beat the flags
        if self.origin is not None:
            self.origin.complete(config)

    def _settings_of_the_training(self, trainer: Namespace, counts: dict[str, int]) -> list[str]:
        """What a checkpoint says of its training, as flags, where no run's config.yaml says it."""
        if self.origin is None or self.origin.run is not None:
            return []
        trainer = _with_accumulation(trainer)
        devices = cache(partial(count_devices, trainer))
        settings = self.origin.facts.training | counts
        if self.origin.translated is None and trainer.accumulate_grad_batches == 1 and not counts:
            settings = shared_equally(settings, devices)
        return flags_of_a_run(settings, trainer, devices)

    def before_instantiate_classes(self) -> None:
        """Refuses a run that could not be made, would never end, or could not be written; chooses its precision."""
        if self.subcommand == "fit":
            trainer = self.config.fit.trainer
            settle_callbacks(self.config.fit, goes_on=self.origin is not None and self.origin.facts.resumable)
            require_sound(trainer)
            require_writable(Path(trainer.default_root_dir))
            self.precision_is_chosen = trainer.precision is None
            trainer.precision = trainer.precision or native_precision(trainer.accelerator)

    def instantiate_classes(self) -> None:
        """As Lightning does it, but in one line what a callback or a logger says against its arguments."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if error.__cause__ is None or isinstance(error, ConfigError):
                raise
            raise ConfigError(f"trainer: {error.__cause__}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The trainer as configured, with what every run of the subcommand has."""
        ours = self._settings_of_the_subcommand()
        with one_line_errors():
            return super().instantiate_trainer(**ours, **kwargs)

    def _settings_of_the_subcommand(self) -> dict[str, Any]:
        if self.subcommand == "fit":
            fit = self.config_init.fit
            return settings_of_a_run(fit.trainer, self.origin, fit.sample)
        self.save_config_callback = None  # only a training run has a directory of its own
        quiet = {"logger": False, "callbacks": [], "enable_progress_bar": False}
        if self.subcommand == "validate":
            return quiet
        devices = self.config_init.predict.trainer.devices
        one = devices[:1] if isinstance(devices, list) else 1  # all samples are one batch
        return quiet | {"callbacks": [SampleWriter()], "devices": one, "num_nodes": 1, "strategy": "auto"}

    def fit(self, model: CharGPT, datamodule: CharDataModule, ckpt_path: None) -> None:
        """Trains, once the text is known to serve: Lightning would make the run's directory first."""
        if self.origin is not None and 0 <= self.trainer.max_steps <= self.origin.step:
            done, asked = self.origin.step, self.trainer.max_steps
            log.info("finished: at step %d of %d; a larger trainer.max_steps goes on", done, asked)
            return
        datamodule.setup("fit")
        if any(map(takes_text, self.trainer.loggers)):
            _ = datamodule.prompt_ids  # refused now rather than at the first evaluation
        parameters = sum(parameter.numel() for parameter in model.gpt.parameters())
        device = self.trainer.strategy.root_device
        log.info("network: %s parameters, on %s in %s", f"{parameters:,}", device, self.trainer.precision)
        if self.precision_is_chosen:
            log.info("precision: %s is the fastest here; --trainer.precision takes another", self.trainer.precision)
        with ExitStack() as stack:
            resumed = None
            if self.origin is not None and self.origin.facts.resumable:
                self._say_what_goes_on(self.origin)
                resumed = stack.enter_context(self.origin.file(self.trainer))
            elif self.origin is not None:
                _put_weights_into(model, self.origin)
            stack.enter_context(run_held(self.trainer, 0 if self.origin is None else self.origin.step))
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=resumed, weights_only=True)

    def _say_what_goes_on(self, origin: Origin) -> None:
        """How a resumed run stands to what it was."""
        log.info(origin.announcement())
        if origin.run is not None:
            before = self.parser.parse_args(["fit", origin.settings()]).fit
            for line in changes(before, self.config.fit):
                log.info("changed: %s", line)

    def validate(self, model: CharGPT, datamodule: CharDataModule, ckpt_path: None) -> None:
        """Prints the exact figures of the val split."""
        assert self.origin is not None, "find_origin finds one or raises"
        with self.origin.file(self.trainer) as checkpoint:
            (figures,) = self.trainer.validate(
                model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False
            )
        if not self.trainer.is_global_zero:
            return
        print(f"loss: {figures['val/loss']:.6f}")
        print(f"bits_per_character: {figures['val/loss'] / math.log(2):.6f}")
        print(f"perplexity: {figures['val/perplexity']:.6f}")
        print(f"characters: {figures['val/characters']:.0f}")

    def predict(self, model: CharGPT, datamodule: CharDataModule, ckpt_path: None) -> None:
        """Writes samples to stdout; what has never been trained would only write noise."""
        assert self.origin is not None, "find_origin finds one or raises"
        if self.origin.facts.resumable and self.origin.step == 0:
            raise ConfigError(f"ckpt_path ({self.origin.path}) must be of a trained network, but it has made 0 updates")
        model.sampling = self.config_init.predict.sample
        with self.origin.file(self.trainer) as checkpoint:
            self.trainer.predict(
                model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True, return_predictions=False
            )


def _put_weights_into(model: CharGPT, origin: Origin) -> None:
    """Begins with the weights of a checkpoint that Lightning cannot resume from."""
    log.info("starting at step 0 with the weights of %s, which holds no optimizer's state", origin.path)
    _warn_of_one_dropout(origin, model.gpt.config.dropout)
    checkpoint = origin.content()
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])


def _warn_of_one_dropout(origin: Origin, ratio: float) -> None:
    """Names the dropouts of a Hugging Face folder if they differ."""
    dropouts = origin.facts.dropouts
    if len(set(dropouts.values())) > 1:
        theirs = ", ".join(f"{name} {ratio:g}" for name, ratio in dropouts.items())
        message = "dropout: %s has %s, but this network has one for all three: it trains with %s (--model.dropout)"
        log.warning(message, origin.path, theirs, ratio)


def _with_accumulation(trainer: Namespace) -> Namespace:
    """The Trainer's arguments with the batches per update that a GradientAccumulationScheduler sets."""
    trainer = trainer.clone()
    trainer.accumulate_grad_batches = accumulated_batches(trainer)
    return trainer


def _with_counts(
    parser: LightningArgumentParser, args: list[str], running: list[str], beneath: list[str], counts: dict[str, int]
) -> list[str]:
    """Adds nanoGPT's counts to a command line; they can only be translated once all other settings are known.

    Args:
        parser: Of the whole program.
        args: The command line without the counts.
        running: The same without `--print_config`.
        beneath: What a checkpoint puts beneath it.
        counts: As the user gave them.
    """
    if not counts:
        return args
    trainer = _with_accumulation(parser.parse_args([*running[:1], *beneath, *running[1:]]).fit.trainer)
    return configs_first([*args[:1], *flags_of_counts(counts, trainer, partial(count_devices, trainer)), *args[1:]])
