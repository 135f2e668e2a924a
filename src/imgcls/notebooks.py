"""For notebooks: commands as calls that give back the run, and a paper's tables with our runs beside them."""

from imgcls import naming, papers
from imgcls.__main__ import main
from imgcls.cli import command
from imgcls.errors import ConfigError
from imgcls.reproduce import rows, texts
from imgcls.reproduce.composer import composing
from imgcls.reproduce.outcome import Outcome
from imgcls.runs import Run


def run(*words: str) -> Run:
    """Do what `python -m imgcls` does with these words; returns the folder it was done in.

    Raises:
        ConfigError: with the first thing that is wrong.
    """
    config, problems = command.check(words)
    if problems:
        raise ConfigError(problems[0])
    main(list(words))
    return Run(naming.folder(config))


def beside(paper: str, output: str = "outputs") -> Outcome:
    """The rows of a paper, with those of their runs that are in `output`; nothing is trained."""
    with composing(None, [f"output={output}"], None) as composer:
        return Outcome(papers.paper(paper), rows.entries(composer, papers.rows(name=paper), 1))


def tables(outcome: Outcome) -> str:
    """Its tables as Markdown: as reported, ours where there are any, and what the paper leaves open."""
    return texts.markdown(outcome)
