"""The `basewise` command: collects the verbs, shows errors as one line, sets up logging and progress."""

import logging
import sys
from importlib import import_module
from typing import Annotated

import typer

from basewise.errors import BasewiseError

# One module a verb, in the order of --help. A module offers either a function of the verb's name or, for a verb with
# sub-verbs, a Typer named `app`. Verb modules import nothing heavy at the top: help must start in well under a second.
VERBS: tuple[str, ...] = (
    "scan",
    "merge",
    "predict",
    "build",
    "pretrain",
    "train",
    "ensemble",
    "baseline",
    "fewshot",
    "first-stage",
    "evaluate",
    "leakage",
    "overlap",
    "explain",
    "kmers",
    "perturb",
    "attention",
    "report",
    "embed",
    "models",
    "individuals",
    "trait",
    "recipes",
    "reproduce",
)

app = typer.Typer(
    name="basewise",
    help="Genome language models, from a genome and a question to base-resolution answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from basewise.provenance import version

        typer.echo(f"basewise {version()}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logging.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr, force=True
    )


for _verb in VERBS:
    _function = _verb.replace("-", "_")
    _module = import_module(f"basewise.cli.{_function}")
    if hasattr(_module, "app"):
        app.add_typer(_module.app, name=_verb)
    else:
        app.command(_verb)(getattr(_module, _function))


def main() -> None:
    """Run the command line. Exit 0, 1 (an error of ours, one line on stderr) or 2 (usage)."""
    try:
        app()
    except BasewiseError as error:
        if "--debug" in sys.argv:
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
