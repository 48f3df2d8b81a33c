"""Measures this package beside nanoGPT and Hugging Face, in one run, in turns, as ratios.

    python -m benchmarks --nanogpt ~/nanoGPT --out figures.json

Prints a table, and writes all figures with a description of the machine. nanoGPT is a checkout of its own, with
data/shakespeare_char prepared; without it the rest is measured. A full run takes about 70 minutes on two cores, and
should have the machine to itself.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import ablation, compilation, fast, growth, process, sampling, startup, step
from benchmarks.contenders import Bench
from benchmarks.figures import Row, table
from benchmarks.machine import describe
from benchmarks.sizes import QUICK, Sizes
from chargpt_lightning.data.corpus import load_corpus

SECTIONS = {
    "step": step.measure,
    "process": process.measure,
    "fast": fast.measure,
    "ablation": ablation.measure,
    "sampling": sampling.measure,
    "growth": growth.measure,
    "startup": startup.measure,
    "compile": compilation.measure,
}


def main() -> None:
    """Runs the sections that are asked for."""
    options = parse()
    report = {"machine": describe(), "sizes": asdict(options.sizes)}
    sections: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), write_text(options, Path(directory)), options.nanogpt, options.sizes)
        for name in options.only:
            sections[name] = SECTIONS[name](bench)
            if options.out:  # after each section, for a long run may be broken off
                figures = {section: [asdict(row) for row in rows] for section, rows in sections.items()}
                options.out.write_text(json.dumps(report | {"sections": figures}, indent=2), encoding="utf-8")
    print(table(sections))


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanogpt", type=lambda path: Path(path).resolve(), metavar="DIR")
    parser.add_argument("--text", help="as --data.text; by default nanoGPT's input.txt if it is there, else plays")
    parser.add_argument("--only", type=sections_named, default=list(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--quick", dest="sizes", action="store_const", const=QUICK, default=Sizes(), help="minutes")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    return parser.parse_args()


def sections_named(names: str) -> list[str]:
    """Splits at commas."""
    sections = names.split(",")
    if unknown := set(sections) - SECTIONS.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: must be of {', '.join(SECTIONS)}")
    return sections


def write_text(options: argparse.Namespace, directory: Path) -> Path:
    """Puts the text that both sides train on into a file."""
    theirs = options.nanogpt and options.nanogpt / "data/shakespeare_char/input.txt"
    source = options.text or (str(theirs) if theirs and theirs.exists() else "plays")
    text = directory / "text.txt"
    text.write_bytes("".join(load_corpus(source).chunks()).encode())
    return text


if __name__ == "__main__":
    main()
