"""LightningCLI for CharGPT and CharDataModule: `fit`, `validate` and `predict`."""

import logging
import math
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from chargpt_lightning.callbacks.samples import SampleWriter, accepts_text
from chargpt_lightning.cli.flag_help import HelpTrainer
from chargpt_lightning.cli.import_policy import allow_only_known_imports, texts_in
from chargpt_lightning.cli.nanogpt_file import replace_files
from chargpt_lightning.cli.nanogpt_flags import flags_of_counts, shared_equally, take_counts, training_flags, translate
from chargpt_lightning.cli.parser import Parser, configs_first, help_texts, join_texts, subcommands_asked_for
from chargpt_lightning.cli.run_config import SaveConfig, require_contained
from chargpt_lightning.datamodule import CharDataModule
from chargpt_lightning.module import CharGPT
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.trainer.callback_validation import (
    prepare_callbacks,
    require_callbacks_that_work,
    with_accumulation,
)
from chargpt_lightning.trainer.changes import changes, decay_ends_early
from chargpt_lightning.trainer.resume import Origin, find_origin, load_weights
from chargpt_lightning.trainer.setup import config_errors, count_devices, locked_run, trainer_arguments
from chargpt_lightning.trainer.validation import require_device_per_shard, require_valid_trainer
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.hardware import native_precision
from chargpt_lightning.utils.metrics import VAL_CHARACTERS, VAL_LOSS, VAL_PERPLEXITY
from chargpt_lightning.utils.run_dir import require_writable

log = logging.getLogger(__name__)


class CharCLI(LightningCLI):
    """`fit`, `validate` and `predict` for a CharGPT on a CharDataModule.

    Args:
        args: The command line without the program's name.
        model_class: CharGPT or a subclass.
        datamodule_class: CharDataModule or a subclass.

    Raises:
        ArgumentError: If a flag or a config file cannot be parsed.
        ConfigError: If a setting or an input cannot work.
    """

    def __init__(self, args: list[str], model_class: type[CharGPT], datamodule_class: type[CharDataModule]) -> None:
        self._asked_for = subcommands_asked_for(args)
        super().__init__(
            model_class,
            datamodule_class,
            args=args,
            parser_class=Parser,
            parser_kwargs=help_texts(self._asked_for),
            trainer_defaults={
                "default_root_dir": "runs",
                "check_val_every_n_epoch": None,  # training windows never end, so evaluations are counted in steps
                "num_sanity_val_steps": -1,  # a complete evaluation before the first update
                "enable_model_summary": False,
            },
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=1337,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # not needed: hyperparameters are plain values
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Makes a parser that accepts no abbreviations, and raises errors instead of printing them."""
        return super().init_parser(allow_abbrev=False, exit_on_error=False, **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        """Returns the subcommands to parse, and the parameters of the Trainer's methods that are not flags."""
        set_here = {"model", "datamodule", "weights_only"}
        not_flags = {
            "fit": set_here | {"train_dataloaders", "val_dataloaders"},
            "validate": set_here | {"dataloaders", "verbose"},
            "predict": set_here | {"dataloaders", "return_predictions"},
        }
        return {name: not_flags[name] for name in self._asked_for}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the sampling flags and `--help_trainer`, and links the settings that data and model share."""
        parser.add_argument("--help_trainer", action=HelpTrainer)
        parser.add_class_arguments(SampleConfig, "sample")
        parser.link_arguments("model.block_size", "data.block_size")
        parser.link_arguments("data.alphabet", "model.alphabet", apply_on="instantiate")
        for name in ("prompt", "num_samples", "unknown"):
            parser.link_arguments(f"sample.{name}", f"data.{name}")
        for group in ("data", "model"):
            parser.link_arguments("seed_everything", f"{group}.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line, then again with a checkpoint's settings as defaults."""
        counts, args = take_counts(replace_files(join_texts(args)))
        args = configs_first(translate(args))
        running = [arg for arg in args if not arg.startswith("--print_config")]
        first = parser.parse_args(running)
        asked = first[first.subcommand]
        require_callbacks_that_work(asked.trainer.callbacks)
        self.origin, defaults = None, []
        if asked.ckpt_path or running == args:
            root = Path(asked.trainer.default_root_dir)
            of_subclass = self.model_class is not CharGPT
            self.origin = find_origin(first.subcommand, asked.ckpt_path, root, asked.data.text, of_subclass)
        if self.origin is not None:
            self._restrict_names(self.origin, named=texts_in(parser.dump(first)))
            defaults = [self.origin.settings()]
        if first.subcommand == "fit":
            defaults += self._checkpoint_flags(asked.trainer, counts)
            args = _with_counts(parser, args, running, defaults, counts)
        again = defaults or running != args
        self.config = parser.parse_args([*args[:1], *defaults, *args[1:]]) if again else first
        self._complete(self.config[self.config.subcommand])

    def _restrict_names(self, origin: Origin, named: set[str]) -> None:
        """Restricts the settings of a checkpoint or run to names that are harmless, or that the user gives too."""
        allow_only_known_imports(named)
        if origin.run is not None:
            require_contained(origin.run, named)

    def _complete(self, config: Namespace) -> None:
        seed = config.seed_everything
        if isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise ConfigError(f"seed_everything ({seed}) must be a number from 0 to 2**32 - 1")
        config.ckpt_path = None  # otherwise Lightning would let it override the flags
        if self.origin is not None:
            self.origin.complete(config)

    def _checkpoint_flags(self, trainer: Namespace, counts: dict[str, int]) -> list[str]:
        """Returns the training settings of a checkpoint that is in no run, as flags."""
        if self.origin is None or self.origin.run is not None:
            return []
        trainer = with_accumulation(trainer)
        devices = cache(partial(count_devices, trainer))
        settings = self.origin.facts.training | counts
        if self.origin.converted is None and trainer.accumulate_grad_batches == 1 and not counts:
            settings = shared_equally(settings, devices)
        return training_flags(settings, trainer, devices)

    def before_instantiate_classes(self) -> None:
        """Refuses a run that cannot work, would never end or cannot be written, and chooses its precision."""
        if self.subcommand == "fit":
            trainer = self.config.fit.trainer
            prepare_callbacks(self.config.fit, resumes=self.origin is not None and self.origin.facts.resumable)
            require_valid_trainer(trainer)
            require_writable(Path(trainer.default_root_dir))
            self.precision_is_default = trainer.precision is None
            trainer.precision = trainer.precision or native_precision(trainer.accelerator)

    def instantiate_classes(self) -> None:
        """Instantiates the classes, with one-line errors for arguments that a callback or logger refuses."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if error.__cause__ is None or isinstance(error, ConfigError):
                raise
            raise ConfigError(f"trainer: {error.__cause__}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Makes the Trainer as configured, with the additions of the subcommand."""
        additions = self._subcommand_arguments()
        with config_errors():
            trainer = super().instantiate_trainer(**additions, **kwargs)
        require_device_per_shard(self.config[self.subcommand].trainer.strategy, trainer)
        return trainer

    def _subcommand_arguments(self) -> dict[str, Any]:
        if self.subcommand == "fit":
            fit = self.config_init.fit
            return trainer_arguments(fit.trainer, self.origin, fit.sample)
        self.save_config_callback = None  # only a training run has a directory of its own
        quiet = {"logger": False, "callbacks": [], "enable_progress_bar": False}
        if self.subcommand == "validate":
            return quiet
        devices = self.config_init.predict.trainer.devices
        one = devices[:1] if isinstance(devices, list) else 1  # all samples are one batch
        return quiet | {"callbacks": [SampleWriter()], "devices": one, "num_nodes": 1, "strategy": "auto"}

    def fit(self, model: CharGPT, datamodule: CharDataModule, ckpt_path: None) -> None:
        """Trains, after the text is checked: Lightning would make the run's directory first."""
        if self.origin is not None and 0 <= self.trainer.max_steps <= self.origin.step:
            done, asked = self.origin.step, self.trainer.max_steps
            log.info("finished: the run is at step %d of %d; a larger --trainer.max_steps extends it", done, asked)
            return
        datamodule.setup("fit")
        if any(map(accepts_text, self.trainer.loggers)):
            _ = datamodule.prompt_ids  # refuses a bad prompt now, not at the first evaluation
        parameters = sum(parameter.numel() for parameter in model.gpt.parameters())
        device = self.trainer.strategy.root_device
        log.info("network: %s parameters, on %s in %s", f"{parameters:,}", device, self.trainer.precision)
        if self.precision_is_default:
            log.info("precision: %s is the default here; --trainer.precision overrides it", self.trainer.precision)
        with ExitStack() as stack:
            resumed = None
            if self.origin is not None and self.origin.facts.resumable:
                self._print_resumption(self.origin)
                resumed = stack.enter_context(self.origin.file(self.trainer, model))
            elif self.origin is not None:
                load_weights(model, self.origin)
            stack.enter_context(locked_run(self.trainer, 0 if self.origin is None else self.origin.step))
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=resumed, weights_only=True)

    def _print_resumption(self, origin: Origin) -> None:
        """Prints where the run resumes, which settings have changed, and whether the decay ends before it."""
        log.info(origin.announcement())
        lines = decay_ends_early(self.config.fit)
        if origin.run is not None:
            lines = changes(self.parser.parse_args(["fit", origin.settings()]).fit, self.config.fit)
        for line in lines:
            log.info("%s", line)

    def validate(self, model: CharGPT, datamodule: CharDataModule, ckpt_path: None) -> None:
        """Prints the exact figures of the val split."""
        assert self.origin is not None, "find_origin finds one or raises"
        with self.origin.file(self.trainer, model) as checkpoint:
            (figures,) = self.trainer.validate(
                model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False
            )
        if self.trainer.is_global_zero:
            print(f"loss: {figures[VAL_LOSS]:.6f}")
            print(f"bits_per_character: {figures[VAL_LOSS] / math.log(2):.6f}")
            print(f"perplexity: {figures[VAL_PERPLEXITY]:.6f}")
            print(f"characters: {figures[VAL_CHARACTERS]:.0f}")

    def predict(self, model: CharGPT, datamodule: CharDataModule, ckpt_path: None) -> None:
        """Writes samples to stdout, and refuses a network that has never been trained."""
        assert self.origin is not None, "find_origin finds one or raises"
        if self.origin.facts.resumable and self.origin.step == 0:
            raise ConfigError(f"ckpt_path ({self.origin.path}) must be saved after an update, but it is of step 0")
        model.sampling = self.config_init.predict.sample
        with self.origin.file(self.trainer, model) as checkpoint:
            self.trainer.predict(
                model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True, return_predictions=False
            )


def _with_counts(
    parser: LightningArgumentParser, args: list[str], running: list[str], defaults: list[str], counts: dict[str, int]
) -> list[str]:
    """Adds nanoGPT's counts to a command line; translating them requires all other settings.

    Args:
        parser: Of the whole program.
        args: The command line without the counts.
        running: The same without `--print_config`.
        defaults: Flags from a checkpoint, which the user's override.
        counts: As the user gave them.
    """
    if not counts:
        return args
    trainer = with_accumulation(parser.parse_args([*running[:1], *defaults, *running[1:]]).fit.trainer)
    return configs_first([*args[:1], *flags_of_counts(counts, trainer, partial(count_devices, trainer)), *args[1:]])
