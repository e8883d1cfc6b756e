"""Every command and every example in the README runs and prints what the README says."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
EXAMPLES = [(code, output) for (kind, code), (_, output) in pairwise(BLOCKS) if kind == "python"]
SESSIONS = [block for _, block in BLOCKS if block.startswith("$ ")]


def without_seconds(text):
    """Run times are the last number of a line."""
    return re.sub(r" +\d+\.\d *$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(("code", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_prints_what_the_readme_says(code, output, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == output


@pytest.mark.parametrize("session", SESSIONS, ids=[re.findall(r"^\$ (.*)", s, re.MULTILINE)[-1][:40] for s in SESSIONS])
def test_session_prints_what_the_readme_says(session, tmp_path):
    for folder in ("examples", "proofs_check"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    commands = session.split("$ ")[1:]
    for command, _, output in (piece.partition("\n") for piece in commands):
        if "ttt-jax tabular" in command:
            pytest.importorskip("sklearn")
            command += " --steps 2"  # 30 show no more
        program = f"export PATH={Path(sys.executable).parent}:$PATH; {command}"
        done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if output:
            assert without_seconds(done.stdout) == without_seconds(output)


def test_every_command_is_in_a_session_or_a_set_up():
    """Nothing that a reader would type is outside the blocks that are run."""
    assert len(EXAMPLES) >= 2
    assert len(SESSIONS) >= 3
    others = [block for kind, block in BLOCKS if kind != "python" and block not in SESSIONS]
    typed = [line for block in others for line in block.splitlines() if re.match(r"(ttt-jax|python|pip|make) ", line)]
    assert [line.split("#")[0].strip() for line in typed] == ["make demo", "make test"]


def test_it_is_short():
    assert len(README.split()) <= 800


def test_files_named_in_the_readme_exist():
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert path.startswith("http") or (ROOT / path).exists(), path
