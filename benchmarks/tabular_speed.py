"""Time and memory of one prediction: this package's network and the official one, full size, in turn on one machine.

    python benchmarks/tabular_speed.py [--rows 1000] [--features 20] [--repeats 3]

needs PyTorch and tabpfn (docs/tabular.md). Both run on the CPU, each in a process with a peak memory of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000, help="context rows, and as many query rows")
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timings, after one each to warm up")
    parser.add_argument("--worker", choices=["official", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.checkpoint = str(Path(folder) / "random.ckpt")
        import_official().write_random_checkpoint(options.checkpoint)
        workers = {which: start(which, options) for which in ("official", "ours")}
        first = {which: ask(worker) for which, worker in workers.items()}
        # In turn, so that a machine that is busy for a while is busy for both.
        rounds = [{which: ask(worker) for which, worker in workers.items()} for _ in range(options.repeats)]
        for worker in workers.values():
            worker.communicate()
    for which in workers:
        seconds = [round_[which]["seconds"] for round_ in rounds]
        print(
            f"{which:9s} first {first[which]['seconds']:.2f} s, then fastest {min(seconds):.2f} s, "
            f"median {np.median(seconds):.2f} s, peak memory {rounds[-1][which]['peak_mb']:.0f} MB"
        )
    difference = np.subtract(first["ours"]["logits"], first["official"]["logits"])
    fastest = {which: min(round_[which]["seconds"] for round_ in rounds) for which in workers}
    paired = np.median([round_["ours"]["seconds"] / round_["official"]["seconds"] for round_ in rounds])
    memory = rounds[-1]["ours"]["peak_mb"] / rounds[-1]["official"]["peak_mb"]
    print(f"largest difference of the logits {np.abs(difference).max():.1e}")
    print(f"time, ours / official: fastest {fastest['ours'] / fastest['official']:.2f}, median of pairs {paired:.2f}")
    print(f"peak memory, ours / official: {memory:.2f}")


def start(which: str, options: argparse.Namespace) -> subprocess.Popen:
    arguments = ["--worker", which, "--checkpoint", options.checkpoint]
    arguments += ["--rows", str(options.rows), "--features", str(options.features)]
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(worker: subprocess.Popen) -> dict:
    print(file=worker.stdin, flush=True)
    return json.loads(worker.stdout.readline())


def serve(options: argparse.Namespace) -> None:
    """Predict once per line of input, and print the time."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * options.rows, options.features)).astype(np.float32)
    table = x[: options.rows], rng.integers(0, 10, options.rows).astype(np.float32), x[options.rows :]
    predict = {"official": official_prediction, "ours": our_prediction}[options.worker](options.checkpoint)
    for _ in sys.stdin:
        begin = time.perf_counter()
        logits = predict(*table)
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak, "logits": logits[:20].tolist()}), flush=True)


def official_prediction(checkpoint: str):
    import torch

    official = import_official()
    model = official.load(checkpoint)

    def predict(*table):
        with torch.inference_mode():
            return official.logits(model, *table).numpy()

    return predict


def our_prediction(checkpoint: str):
    import jax

    from ttt_jax.tabular import load_tabpfn_checkpoint

    jax.config.update("jax_platforms", "cpu")
    pfn = load_tabpfn_checkpoint(checkpoint)
    return lambda *table: np.asarray(pfn.apply(*table))


def import_official():
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tabular"))
    import official

    return official


if __name__ == "__main__":
    main()
