"""Compares the speed of this package, nanoGPT and Hugging Face in interleaved measurements.

    python -m benchmarks --nanogpt ~/nanoGPT --out figures.json

Prints a table with the ratios, and writes all figures and a description of the machine to a file. A full run takes
hours on two cores; nothing else should run on the machine meanwhile.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks import ablation, compilation, growth, ladder, ladder_picture, play, processes, sampling, step
from benchmarks.bench import QUICK, Bench, Sizes
from benchmarks.figures import Row, table
from benchmarks.machine import describe
from chargpt_lightning.data.corpus import load_corpus

SECTIONS: dict[str, Callable[[Bench], Iterable[Row]]] = {
    "step": step.measure,
    "process": processes.measure_recipe,
    "nanogpt": ladder.measure_nanogpt,
    **{recipe: partial(ladder.measure, recipe=recipe) for recipe in ladder.RUNGS},
    "ablation": ablation.measure,
    "sampling": sampling.measure,
    "play": play.measure,
    "growth": growth.measure,
    "startup": processes.measure_startup,
    "compile": compilation.measure,
}


def main() -> None:
    """Runs the selected sections."""
    options = parse()
    report = {"machine": describe(), "sizes": asdict(options.sizes)}
    sections: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), write_text(options, Path(directory)), options.nanogpt, options.sizes)
        for name in options.only:
            sections[name] = list(SECTIONS[name](bench))
            if options.out:  # after each section, so that an interrupted run keeps its figures
                figures = {section: [asdict(row) for row in rows] for section, rows in sections.items()}
                options.out.write_text(json.dumps(report | {"sections": figures}, indent=2), encoding="utf-8")
    print(table(sections))
    if options.out and (
        rungs := ladder_picture.ladder(row for name in ladder.SECTIONS for row in sections.get(name, []))
    ):
        print(ladder_picture.table(rungs))
        ladder_picture.draw(rungs, options.out.with_suffix(".png"))


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    nanogpt = "a checkout with data/shakespeare_char prepared; without it nanoGPT is not measured"
    parser.add_argument("--nanogpt", type=lambda path: Path(path).resolve(), metavar="DIR", help=nanogpt)
    text = "as --data.text; default: the input.txt in nanoGPT's data folder if it exists, otherwise plays"
    parser.add_argument("--text", help=text)
    only = f"sections, comma-separated, or ladder for {','.join(ladder.SECTIONS)}; default: {','.join(SECTIONS)}"
    parser.add_argument("--only", type=sections_named, default=list(SECTIONS), help=only)
    quick = "measure small sizes, in minutes"
    parser.add_argument("--quick", dest="sizes", action="store_const", const=QUICK, default=Sizes(), help=quick)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where to write the figures")
    return parser.parse_args()


def sections_named(names: str) -> list[str]:
    """Splits a comma-separated list of sections; `ladder` is all of its rungs."""
    sections = names.replace("ladder", ",".join(ladder.SECTIONS)).split(",")
    if unknown := set(sections) - SECTIONS.keys():
        raise argparse.ArgumentTypeError(f"section ({', '.join(sorted(unknown))}) must be one of {', '.join(SECTIONS)}")
    return sections


def write_text(options: argparse.Namespace, directory: Path) -> Path:
    """Writes the text that all contenders train on to a file."""
    prepared = options.nanogpt and options.nanogpt / "data/shakespeare_char/input.txt"
    source = options.text or (str(prepared) if prepared and prepared.exists() else "plays")
    text = directory / "text.txt"
    text.write_bytes("".join(load_corpus(source).chunks()).encode())
    return text


if __name__ == "__main__":
    main()
