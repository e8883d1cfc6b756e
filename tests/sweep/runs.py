"""Sweeps of one small specification, in this process or in one of their own."""

import csv
import os
import subprocess
import sys
import time

SPEC = """
[sweep]
num_tasks = 3000
block_size = 64
sampler = "{sampler}"
[grid]
d = 3
n = [4, 9]
k = 6
evaluation = ["fresh", "same"]
noise_var = 0.1
"""
CHANGING = ("device",)


def write_spec(directory, sampler="law", text=SPEC):
    file = directory / "spec.toml"
    file.write_text(text.replace("{sampler}", sampler))
    return file


def command(*arguments, **environment):
    process = [sys.executable, "-m", "ttt_jax", *map(str, arguments)]
    return subprocess.Popen(
        process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def wait_until_started(out):
    for _ in range(600):
        if (out / "sweep.sqlite").exists():
            break
        time.sleep(0.1)
    time.sleep(1)


def table(directory, name="results.csv"):
    with (directory / name).open() as stream:
        return [{k: v for k, v in row.items() if k not in CHANGING} for row in csv.DictReader(stream)]
