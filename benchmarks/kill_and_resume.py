"""Kill a sweep at random moments, again and again, resume it, and compare with an undisturbed run.

    python benchmarks/kill_and_resume.py --kills 20

Also fills the disk under a sweep (a tmpfs of one MiB, in a user namespace where the system allows it). Exit status 1
if a result differs.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = """
[sweep]
num_tasks = 2_000_000
sampler = "law"
[grid]
d = 16
n_over_d = [0.5, 1.0, 2.0]
k_over_d = [0.5, 1.0, 2.0]
evaluation = ["fresh", "same"]
"""
TIMING = ("seconds",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = folder / "spec.toml"
        spec.write_text(SPEC)
        started = time.perf_counter()
        sweep(spec, folder / "whole").wait()
        whole = time.perf_counter() - started
        print(f"undisturbed: {whole:.1f} s")
        kills, round_number = 0, 0
        while kills < options.kills:
            round_number += 1
            killed = folder / f"killed-{round_number}"
            process = sweep(spec, killed)
            while process.poll() is None:
                try:
                    process.wait(rng.uniform(0.5, 0.6 * whole))
                except subprocess.TimeoutExpired:
                    if kills == options.kills:
                        process.wait()
                        break
                    process.kill()
                    process.wait()
                    kills += 1
                    process = sweep(spec, killed)
            same = results(killed) == results(folder / "whole")
            print(
                f"round {round_number}: {kills} kills so far, results {'identical' if same else 'DIFFER'}", flush=True
            )
            if not same:
                return 1
            shutil.rmtree(killed)
        return full_disk(spec, folder)


def sweep(spec: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ttt_jax", "sweep", str(spec), "--out", str(out), "--resume"], stdout=subprocess.DEVNULL
    )


def results(out: Path) -> list[dict[str, str]]:
    rows = []
    for name in ("results.csv", "convergence.csv"):
        with (out / name).open() as stream:
            rows += [{k: v for k, v in row.items() if k not in TIMING} for row in csv.DictReader(stream)]
    return rows


def full_disk(spec: Path, folder: Path) -> int:
    """A sweep on a disk of one MiB of which almost nothing is left, then again once there is room."""
    small = folder / "small"
    small.mkdir()
    script = f"""
mount -t tmpfs -o size=1m none {small} || exit 77
head -c 1010000 /dev/zero > {small}/filler
{sys.executable} -m ttt_jax sweep {spec} --out {small}/out --resume 2> {folder}/message
echo "status with a full disk: $?"
rm {small}/filler
{sys.executable} -m ttt_jax sweep {spec} --out {small}/out --resume || exit 1
cp -r {small}/out {folder}/filled
"""
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or not done.stdout:
        print(f"full disk: not tried, no user namespaces here ({done.stderr.strip()})")
        return 0
    print(done.stdout.splitlines()[0], "|", (folder / "message").read_text().strip().splitlines()[-1])
    same = done.returncode == 0 and results(folder / "filled") == results(folder / "whole")
    print(f"resumed after a full disk: results {'identical' if same else 'DIFFER ' + done.stderr}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
