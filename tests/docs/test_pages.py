"""The documentation does what it says: its code runs, its options exist.

Every fenced block of python or bash in README.md and docs/ is run, those of a page one
after the other, from an empty folder. Blocks of python share one namespace, each block
of bash has a shell of its own. What differs on purpose is told by a comment directly
before the fence:

`<!-- not run: REASON -->`
    It cannot run here, for one of `REASONS`. It still has to be code, with options
    that exist. Of a block that installs packages, the commands of qnp-xp are run. One
    that needs PyTorch, Keras or ONNX is run where it is installed.
`<!-- no output -->`
    A block of text that is not what the code before it prints.

A block of ``text`` behind one of code, with no other block between, is compared with
what that code wrote to stdout, or to stderr. Three dots stand for anything, and a time
in seconds for any other.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import qnp_xp
from qnp_xp import cli

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("api/*.md"))]
#: Pages on scripts beside the package, whose code must be code, but is not run.
SCRIPTS = [ROOT / "benchmarks" / "README.md", ROOT / "training" / "README.md"]

#: Why a block may not be run.
REASONS = (
    "installs packages",
    "needs a checkout",
    "needs a network",
    "needs a GPU",
    "needs Keras",
    "needs ONNX",
    "needs PyTorch",
    "needs SLURM",
    "needs real spectra",
    "runs nox",
)
#: Pages that a user follows from top to bottom, and why a block of them may not run.
FOLLOWED = ("README.md", "docs/guide.md", "docs/inspect.md", "docs/pictures.md")
FOLLOWED += ("docs/quickstart.md",)
FOLLOWED_REASONS = ("installs packages", "needs PyTorch", "runs nox")
#: What is run where a library is installed.
NEEDED = {"needs Keras": "keras", "needs ONNX": "onnxruntime", "needs PyTorch": "torch"}

#: What answers in the place of a network, of which tests have none.
STAND_IN = str(Path(__file__).with_name("stand_in"))

CODE = ("bash", "python")
OTHER_LANGUAGES = ("text", "toml", "yaml", "bibtex", "ini", "diff")
_FENCED = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*) -->\n)?"
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[^\s`]*)[^\n]*\n"
    r"(?P<code>.*?)^ *(?P=fence) *$",
    re.DOTALL | re.MULTILINE,
)
_TIME = re.compile(r"\b\d+(\.\d+)? (?=(ms|s|min)\b)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, whose name starts at the root of the project."""

    page: str
    line: int  # its first
    language: str
    code: str
    mark: str  # the comment before it

    @property
    def where(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"

    @property
    def padded(self) -> str:
        """The code behind empty lines, so that errors name lines of the page."""
        return "\n" * (self.line - 1) + self.code

    @property
    def reason(self) -> str:
        """Why it is not run, if it is not."""
        return self.mark.removeprefix("not run: ") if self.mark[:7] == "not run" else ""

    @property
    def to_run(self) -> str:
        """What of it is to be run here."""
        if self.language not in CODE:
            return ""
        if self.reason == "installs packages":
            commands = (["qnp-xp", *words] for words in commands_in(self.code))
            return "\n".join(map(shlex.join, commands))
        library = NEEDED.get(self.reason)
        if library and importlib.util.find_spec(library):
            return self.code
        return "" if self.reason else self.code


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    return list(_blocks(name_of(page), page.read_text("utf-8")))


def _blocks(name: str, text: str) -> Iterator[Block]:
    for found in _FENCED.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        code = re.sub(rf"^{found['indent']}", "", found["code"], flags=re.MULTILINE)
        yield Block(name, line, found["language"], code, found["mark"] or "")


_END = set("();<>|&")  # of which the sign consists that ends a command


def commands_in(code: str) -> Iterator[list[str]]:
    """The arguments of each qnp-xp in a block of bash."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        for start, word in enumerate(words):
            installed = words[start - 1 : start] == ["install"]
            if not installed and (word == "qnp-xp" or word.endswith("/qnp-xp")):
                rest = words[start + 1 :]
                yield list(itertools.takewhile(lambda w: set(w) - _END, rest))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
every_page_and_script = pytest.mark.parametrize("page", PAGES + SCRIPTS, ids=name_of)


# Blocks.


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.to_run for b in blocks_of(p))], ids=name_of
)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(
    page: Path, tmp_path: Path
) -> None:
    blocks = blocks_of(page)
    todo = [block for block in blocks if block.to_run]
    asked = [
        {**dataclasses.asdict(b), "code": b.to_run, "padded": b.padded} for b in todo
    ]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_page.py")],
        input=json.dumps(asked),
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    last = todo[len(outcomes) - 1]
    assert outcomes[-1]["good"], f"{last.where}: {outcomes[-1]['stderr']}"
    printed = dict(zip(todo, outcomes, strict=True))
    for code, shown in itertools.pairwise(blocks):
        if shown.language == "text" and code in printed and shown.mark != "no output":
            out, err = printed[code]["stdout"], printed[code]["stderr"]
            expected = pattern(shown.code)
            assert any(expected.fullmatch(text) for text in (out, err)), (
                f"{shown.where}: the block of {code.where} printed\n{out}\n"
                f"and on stderr\n{err}"
            )


def environment(home: Path) -> dict[str, str]:
    """That of a user who has set nothing, with this package and its command."""
    set_here = ("DESI", "MPLBACKEND", "QN")
    env = {k: v for k, v in os.environ.items() if not k.startswith(set_here)}
    package = str(Path(qnp_xp.__file__).parents[1])
    paths = [str(Path(p).absolute()) for p in env.get("PYTHONPATH", "").split(":") if p]
    env["PYTHONPATH"] = ":".join([package, *paths, STAND_IN])
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    env.update(HOME=str(home), OMP_NUM_THREADS="1")
    # A cache in an empty home would be filled anew, with the fonts of the system.
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    env.setdefault("MPLCONFIGDIR", str(default / "matplotlib"))
    return env


def pattern(shown: str) -> re.Pattern[str]:
    """What a printed text has to match."""
    parts = [_TIME.sub("<time> ", part) for part in shown.split("...")]
    text = ".*".join(re.escape(part) for part in parts)
    return re.compile(text.replace(re.escape("<time> "), r"\d+(\.\d+)? "), re.DOTALL)


def test_what_is_printed_is_compared_but_for_times_and_dots() -> None:
    expected = pattern("a.fits: 5 rows, 0.02 s -> ...\n3 quasars\n")
    assert expected.fullmatch("a.fits: 5 rows, 1.5 s -> b\nc\n3 quasars\n")
    assert not expected.fullmatch("a.fits: 6 rows, 0.02 s -> b\n3 quasars\n")
    assert not expected.fullmatch("a.fits: 5 rows, 0.02 s -> b\n3 quasars\nmore\n")
    assert not expected.fullmatch("axfits: 5 rows, 0.02 s -> b\n3 quasars\n")


def test_blocks_are_found_with_their_lines_and_marks() -> None:
    text = (
        "a\n\n<!-- not run: needs a GPU -->\n```bash\necho `x`\n```\n"
        "- b\n  ```python\n  if x:\n      y\n  ```\n"
        "~~~~python\n```\n~~~~\n"
    )
    first, second, third = _blocks("p.md", text)
    assert first == Block("p.md", 5, "bash", "echo `x`\n", "not run: needs a GPU")
    assert second == Block("p.md", 9, "python", "if x:\n    y\n", "")
    assert third == Block("p.md", 13, "python", "```\n", "")
    assert [bool(b.to_run) for b in (first, second, third)] == [False, True, True]


def test_only_the_commands_of_a_block_that_installs_are_run() -> None:
    code = "pip install -q '.[fast]' && x/bin/qnp-xp demo --keep-coadd\n"
    block = Block("p.md", 1, "bash", code, "not run: installs packages")
    assert block.to_run == "qnp-xp demo --keep-coadd"


@every_page_and_script
def test_blocks_name_their_language_and_why_they_are_not_run(page: Path) -> None:
    for block in blocks_of(page):
        directive = block.language.startswith("{")
        assert directive or block.language in CODE + OTHER_LANGUAGES, block.where
        if block.reason:
            allowed = FOLLOWED_REASONS if block.page in FOLLOWED else REASONS
            assert block.reason in allowed, f"{block.where}: {block.reason!r}"
            assert block.language in CODE, block.where
        elif block.mark.startswith("no "):
            assert (block.mark, block.language) == ("no output", "text"), block.where


@every_page
def test_marks_stand_directly_before_a_block(page: Path) -> None:
    text = page.read_text("utf-8")
    marks = re.findall(r"<!-- no(?:t run)?\b.*-->", text)
    assert len(marks) == sum(b.mark.startswith("no") for b in blocks_of(page))


@every_page_and_script
def test_code_that_is_not_run_is_code_all_the_same(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            compile(block.padded, block.page, "exec")
        elif block.language == "bash":
            done = subprocess.run(
                ["bash", "-n", "-c", block.code],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{block.where}: {done.stderr}"


# The tutorial.


def test_the_tutorial_prints_what_is_stored_in_it(tmp_path: Path) -> None:
    out = tmp_path / "tutorial.ipynb"
    subprocess.run(
        [sys.executable, Path(__file__).with_name("run_tutorial.py"), out],
        cwd=tmp_path,
        env=environment(tmp_path),
        check=True,
        timeout=300,
    )
    stored, run = (
        json.loads(path.read_text("utf-8"))["cells"] for path in (TUTORIAL, out)
    )
    renew = "python tests/docs/run_tutorial.py docs/tutorial.ipynb renews the outputs"
    for before, after in zip(stored, run, strict=True):
        expected, text = printed_by(before), printed_by(after)
        where = f"cell {before['id']}: {renew}; it printed\n{text}"
        assert pattern(expected).fullmatch(text), where
        assert drawn_by(before) == drawn_by(after), where
    assert sum(map(drawn_by, run)) == 4


def printed_by(cell: dict[str, Any]) -> str:
    """The text that a cell of a notebook has written."""
    outputs = cell.get("outputs", [])
    return "".join(line for output in outputs for line in output.get("text", []))


def drawn_by(cell: dict[str, Any]) -> int:
    """How many pictures a cell of a notebook has drawn."""
    outputs = cell.get("outputs", [])
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_tutorial_is_small_and_tells_nothing_of_a_machine() -> None:
    text = TUTORIAL.read_text("utf-8")
    assert len(text) < 600_000
    cells = json.loads(text)["cells"]
    outputs = json.dumps([printed_by(cell) for cell in cells])
    assert not re.search(r"/(home|root|tmp|usr|Users|work)/|\w+Warning\b", outputs)


# Options.


def test_commands_are_found_in_a_script() -> None:
    code = (
        "x=$(qnp-xp info a.h5)  # qnp-xp no\nsrun -n 2 v/bin/qnp-xp \\\n  merge a b"
        " > log 2>&1; qnp-xp demo && qnp-xp --version\npip install qnp-xp\n"
    )
    found = [["info", "a.h5"], ["merge", "a", "b"], ["demo"], ["--version"]]
    assert list(commands_in(code)) == found


@every_page_and_script
def test_commands_in_blocks_are_as_the_parser_wants_them(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [block for block in blocks_of(page) if block.language == "bash"]
    for block, arguments in ((b, a) for b in blocks for a in commands_in(b.code)):
        try:
            cli._parser().parse_args(arguments)
        except SystemExit as end:
            if end.code:  # 0 for --help
                pytest.fail(f"{block.where}: {capsys.readouterr().err}")
        options = {word.split("=")[0] for word in arguments[1:] if word[0] == "-"}
        # The parser takes abbreviations too.
        assert options <= options_of(arguments[0]), f"{block.where}: {options}"


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each subcommand."""
    actions = cli._parser()._actions
    (commands,) = (a for a in actions if isinstance(a, argparse._SubParsersAction))
    return dict(commands.choices)


def options_of(command: str) -> set[str]:
    """The names of its options; of qnp-xp itself, if there is no such subcommand."""
    parser = subparsers().get(command, cli._parser())
    return {name for action in parser._actions for name in action.option_strings}


def inline_code(text: str) -> list[str]:
    """What stands between single backticks."""
    text = re.sub(r"^ *(```+|~~~+).*?^ *\1 *$", "", text, flags=re.DOTALL | re.M)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


@every_page
def test_options_in_the_text_exist(page: Path) -> None:
    everywhere = {option for name in subparsers() for option in options_of(name)}
    everywhere |= {"--version", "--help"}
    for code in inline_code(page.read_text("utf-8")):
        words = code.split()
        if words[0] == "qnp-xp" and len(words) > 1 and words[1] in subparsers():
            known = options_of(words[1])
        elif words[0] == "qnp-xp" or words[0].startswith("--"):
            known = everywhere
        else:  # of another program
            continue
        for word in words:
            if re.match(r"--?[a-z]", word):
                option = re.split("[=,]", word)[0]
                assert option in known, f"{name_of(page)}: `{code}`: {option}"


@pytest.mark.parametrize("command", subparsers())
def test_help_says_what_a_command_and_its_options_mean(command: str) -> None:
    assert subparsers()[command].description
    assert [a.dest for a in subparsers()[command]._actions if not a.help] == []
    assert f"qnp-xp {command}" in (ROOT / "docs" / "quickstart.md").read_text("utf-8")


# The README.


def test_the_readme_begins_with_one_line_to_try_it_and_tells_how_to_test_it() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for heading in ("## Quick start", "## Tests"):
        (first, *_) = _blocks("README.md", text[text.index(f"\n{heading}\n") :])
        assert first.language == "bash"
        assert len(first.code.splitlines()) == 1


@every_page
def test_links_to_files_and_pictures_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"\w+:", target):
            assert (page.parent / target).exists(), target


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub and MyST give to the headings of a page."""
    text = re.sub(
        r"^ *(```+|~~~+).*?^ *\1 *$",
        "",
        page.read_text("utf-8"),
        flags=re.DOTALL | re.M,
    )
    headings = re.findall(r"^#+ +(.+?) *$", text, re.M)
    found = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    if page == DOCS / "cli.md":  # whose sections come from the parser
        found |= {f"qnp-xp-{command}" for command in subparsers()}
    return found


@every_page
def test_links_to_headings_lead_to_one(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", page.read_text("utf-8"))
    for target, anchor in re.findall(r"\]\(([^)#:\s]*\.md|)#([^)\s]+)\)", text):
        assert anchor in anchors_of(page.parent / target if target else page), anchor
