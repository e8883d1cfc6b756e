"""The README's first example prints what the README says, and its command line too."""

import contextlib
import io
import re
import shlex
from pathlib import Path

from ttt_jax.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_first_example_prints_what_the_readme_says():
    code, output = re.search(r"```python\n(.*?)```\s*```\n(.*?)```", README, re.DOTALL).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == output


def test_command_prints_what_the_readme_says(capsys):
    command, output = re.search(r"```\n\$ ttt-jax (.*?)\n(.*?)```", README, re.DOTALL).groups()
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out == output


def test_files_named_in_the_readme_exist():
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert path.startswith("http") or (Path(__file__).parent.parent / path).exists(), path
