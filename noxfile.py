"""The suite on every supported Python, with the newest and the oldest dependencies, and the wheel on its own: `nox`.

nox -s tests-3.12 -- tests/test_problem.py     what follows -- goes to pytest
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False  # a Python that is not installed is skipped, and the summary says so
nox.options.default_venv_backend = "uv"  # pip searched ten minutes for the oldest versions that fit together

ROOT = Path(__file__).parent
PACKAGE_DATA = (
    "py.typed",
    "tabular/default.safetensors",
    "tabular/small.safetensors",
    "tabular/network/column_draws_seed0.npy",
)
TESTED = ("--editable", ".[proofs,experiments,parquet,examples]", "--group", "test")
SWEEP = """[sweep]
num_tasks = 1000
[grid]
d = 8
n = 8
k = [8, 16]
"""
MAKE_TABLE = "from sklearn.datasets import load_iris; load_iris(as_frame=True).frame.to_csv('table.csv', index=False)"


def run_tests(session: nox.Session, *options: str) -> None:
    session.run("python", "-c", "import jax, flax; print('jax', jax.__version__, 'flax', flax.__version__)")
    session.run("python", "-m", "pytest", *options, *(session.posargs or ["-n", "auto"]))


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The suite with the newest JAX and the newest of everything else."""
    session.install(*TESTED)
    run_tests(session)


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The suite with the oldest JAX, and the oldest of everything that a user needs."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    bounds = [*project["dependencies"], *extras["tabular"], *extras["parquet"], *extras["proofs"]]
    constraints = Path(session.create_tmp()) / "oldest.txt"
    constraints.write_text("\n".join(bound.replace(">=", "==") for bound in bounds))
    session.install("--constraint", str(constraints), *TESTED)
    run_tests(session, "-W", "ignore::DeprecationWarning")  # of old packages about newer ones


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it in an empty environment, and use it far from the checkout."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        away = Path(folder) / "away"
        away.mkdir()
        session.run("python", "-m", "build", "--outdir", folder, str(ROOT), silent=True)
        (built,) = Path(folder).glob("*.whl")
        check_contents(built, session)
        session.run("python", "-m", "venv", f"{folder}/empty")
        python, command = f"{folder}/empty/bin/python", f"{folder}/empty/bin/ttt-jax"

        def run(*arguments: str, **options) -> str:
            return session.run(*arguments, external=True, env={"PYTHONPATH": None}, **options)

        with session.chdir(away):
            run(python, "-m", "pip", "install", "--quiet", str(built))
            run(python, "-c", "import ttt_jax, sys; assert ttt_jax.__file__.startswith(sys.prefix)")
            printed = run(
                command, "risk", "--d", "8", "--n", "8", "--k", "16", "--tasks", "2000", "--json", silent=True
            )
            session.log(f"ttt-jax risk: z = {json.loads(printed)['z']:.2f}")
            Path("sweep.toml").write_text(SWEEP)
            run(command, "sweep", "sweep.toml", "--out", "out")
            run(command, "report", "out")
            assert len(Path("out/results.csv").read_text().splitlines()) == 3
            run(command, "tabular", "table.csv", "--target", "target", success_codes=[2])  # names the extra
            run(python, "-m", "pip", "install", "--quiet", f"{built}[tabular]")
            run(python, "-c", MAKE_TABLE)
            run(command, "tabular", "table.csv", "--target", "target", "--ttt", "one")
            for example in ("quickstart.py", "tabular.py"):
                Path(example).write_text((ROOT / "examples" / example).read_text())
                run(python, example)


def check_contents(built: Path, session: nox.Session) -> None:
    """The wheel has the package with its data and its licence, and nothing else."""
    names = zipfile.ZipFile(built).namelist()
    for file in PACKAGE_DATA:
        assert f"ttt_jax/{file}" in names, file
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ttt_jax"}
    session.log(f"{built.name}: {len(names)} files, {built.stat().st_size / 2**20:.1f} MiB")
