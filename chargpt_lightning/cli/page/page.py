"""The page: its tabs and inputs, and how it is served."""

import logging
import os
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import torch
from docstring_parser import parse

from chargpt_lightning.cli.page import answers
from chargpt_lightning.cli.page.networks import labeled_runs
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.utils.run_dir import checkpoints_beside
from chargpt_lightning.vocab import Unknown

log = logging.getLogger(__name__)

MAX_COLUMNS = 6  # of texts by different checkpoints
EACH: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "multiple"}  # every event is answered
LAST: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}  # of several, the last is
CSS = """
.characters .textfield { display: block; font: 0 var(--font-mono); white-space: nowrap; word-break: normal; }
.characters .textfield .token { margin: 0; padding: 0; }
.characters .textfield .text { background: inherit; font-size: var(--text-md); line-height: 1.5; }
"""  # each character is a token, which Gradio would set apart like a word


def build(name: str, out_dir: Path) -> gr.Blocks:
    """Builds the page.

    Args:
        name: The `--ckpt_path` of the checkpoint to begin with.
        out_dir: The directory of runs to choose from.
    """
    with gr.Blocks(title="chargpt play", analytics_enabled=False, fill_width=True) as page:
        found = labeled_runs(out_dir)
        chosen = _checkpoints(name, found)
        with gr.Tabs() as tabs:
            with gr.Tab("Write"):
                settings = _add_writing(page, chosen)
            with gr.Tab("Surprise"):
                _add_surprise(chosen)
            with gr.Tab("Learning") as tab:
                runs = _runs(name, found)
                _add_learning(tabs, tab, runs, chosen, settings)

        def lists() -> tuple[gr.Dropdown, gr.Dropdown]:
            found = labeled_runs(out_dir)
            return _checkpoints(name, found), _runs(name, found)

        page.load(lists, None, [chosen, runs], show_progress="hidden")
    return page


def _checkpoints(name: str, runs: list[tuple[str, str]]) -> gr.Dropdown:
    others = [] if name in dict(runs).values() else [(name, name)]
    return gr.Dropdown(others + runs, value=name, label="Checkpoint")


def _runs(name: str, runs: list[tuple[str, str]]) -> gr.Dropdown:
    names = [run for _, run in runs]
    first = [run for run in names if Path(name).is_relative_to(run)] or names[:1]
    return gr.Dropdown(runs, value=first, label="Runs", multiselect=True)


def _setting_inputs() -> list[Any]:
    """Adds inputs for the settings of `predict`, in their order; `num_samples` is 1."""
    about = {setting.arg_name: str(setting.description) for setting in parse(SampleConfig.__doc__ or "").params}
    about["prompt"] = "Text to continue; empty stands for a newline."

    def named(name: str, off: str = "") -> dict[str, Any]:
        return {"label": name, "info": " ".join(about[name].replace("null", off).replace("`", "").split())}

    fields: list[Any] = [
        gr.Textbox(lines=3, max_lines=8, **named("prompt")),
        gr.Slider(1, answers.MAX_CHARACTERS, SampleConfig.max_new_tokens, step=1, **named("max_new_tokens")),
        gr.Slider(0, 2, SampleConfig.temperature, step=0.05, **named("temperature")),
        gr.Number(SampleConfig.top_k, precision=0, **named("top_k", off="0")),
        gr.Slider(0.01, 1, 1, step=0.01, **named("top_p", off="1")),
        gr.Number(SampleConfig.seed, precision=0, **named("seed")),
        gr.Radio(get_args(Unknown), value=SampleConfig.unknown, **named("unknown")),
    ]
    for field in fields:
        field.preprocess = lambda value: value  # SampleConfig checks, and Gradio would print a traceback
    return fields


def _add_writing(page: gr.Blocks, chosen: gr.Dropdown) -> list[Any]:
    written, position = gr.State(), gr.State()
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            settings = _setting_inputs()
        with gr.Column(scale=3, min_width=300):
            with gr.Row():
                generate, stop = gr.Button("Generate", variant="primary"), gr.Button("Stop")
            text = gr.HighlightedText(label="Text; click a character to see why", elem_classes="characters")
            with gr.Row():
                bars = [gr.Label(label=label, show_heading=False) for label in ("Network", "After the settings")]
            command = gr.Textbox(label="Copy the command", buttons=["copy"])
    writing = generate.click(answers.write, [chosen, *settings], [text, command, written], show_progress="hidden")
    stop.click(None, cancels=[writing])
    text.select(answers.choose, [written], [text, position], **EACH)
    prompt, _, temperature, top_k, top_p, *_ = settings
    moved = [page.load, chosen.change, prompt.change]
    gr.on(moved, answers.after_prompt, [chosen, prompt, written], [position, text], **LAST)
    moved = [changed.change for changed in (position, temperature, top_k, top_p)]
    gr.on(moved, answers.why, [position, *settings], bars, **LAST)
    return settings


def _add_surprise(chosen: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            text = gr.Textbox(label="text", lines=8, max_lines=16)
            button = gr.Button("How surprised is it?", variant="primary")
        with gr.Column(scale=3, min_width=300):
            figures = gr.Textbox(label="The loss of the text")
            shaded = gr.HighlightedText(label="The redder, the less likely", elem_classes="characters")
    button.click(answers.rate, [chosen, text], [figures, shaded])


def _add_learning(tabs: gr.Tabs, tab: gr.Tab, runs: gr.Dropdown, chosen: gr.Dropdown, settings: list[Any]) -> None:
    plot, drawn, timer = gr.Plot(show_label=False), gr.State(), gr.Timer(10, active=False)  # seconds

    def start_or_stop(selected: gr.SelectData) -> gr.Timer:
        return gr.Timer(active=selected.value == tab.label)

    tabs.select(start_or_stop, None, timer, **EACH)
    gr.on([tab.select, runs.input, timer.tick], answers.curves, [runs, drawn], [plot, drawn], **LAST)
    compare = gr.Button("Write with each checkpoint of the run at the top, with the settings under Write")

    @gr.render(inputs=[chosen, *settings], triggers=[compare.click], concurrency_limit="default")  # type: ignore[untyped-decorator]
    def columns(name: str, *settings: Any) -> None:
        with answers.errors_shown():
            paths = checkpoints_beside(name, MAX_COLUMNS)
            texts = [answers.sample(path, *settings) for path in paths]
        with gr.Row():
            for path, text in zip(paths, texts, strict=True):
                gr.Textbox(text, label=path.name, lines=12, max_lines=24, min_width=200)


def serve(page: gr.Blocks, host: str, port: int) -> None:
    """Serves the page until a signal ends the process; nothing is requested from other hosts."""
    os.environ["no_proxy"] = "*"  # Gradio waits for its own page, which it would ask a proxy for
    torch.set_num_threads(1)  # more would wait for each other whenever the server or a browser needs a core
    page.queue(default_concurrency_limit=8)  # browsers that write at the same time
    page._queue.sleep_when_free = 0.05  # seconds, as on Windows; looking for requests each 0.001 s slows the writing
    private: dict[str, Any] = {"share": False, "run_history": False, "mcp_server": False, "footer_links": []}
    address: dict[str, Any] = {"server_name": host, "server_port": port, "state_session_capacity": 100}  # page loads
    readable = gr.themes.Default().set(block_info_text_color="*neutral_600")  # on a projector too
    page.launch(css=CSS, theme=readable, ssr_mode=False, prevent_thread_lock=True, quiet=True, **address, **private)
    log.info("page: %s (Ctrl-C ends it)", page.local_url)
    page.block_thread()
