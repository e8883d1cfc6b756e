"""Time and memory of one prediction: this package's network and the official one, full size, in turn on one machine.

    python benchmarks/tabular_speed.py [--rows 1000] [--features 20] [--repeats 3]

needs PyTorch and tabpfn (docs/tabular.md). Each runs in a process of its own, so that peak memory is its own, and on the CPU.
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
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--only", choices=["official", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.checkpoint = str(Path(folder) / "random.ckpt")
        import_official().write_random_checkpoint(options.checkpoint)
        results = {which: run(which, options) for which in ("official", "ours")}
    for which, result in results.items():
        print(f"{which:9s} first {result['first']:6.2f} s, then {result['best']:6.2f} s, peak {result['peak_mb']:6.0f} MB")
    print(f"largest difference of logits {np.abs(np.subtract(results['ours']['logits'], results['official']['logits'])).max():.1e}")
    print(f"time ratio ours / official   {results['ours']['best'] / results['official']['best']:.2f}")
    print(f"memory ratio ours / official {results['ours']['peak_mb'] / results['official']['peak_mb']:.2f}")


def run(which: str, options: argparse.Namespace) -> dict:
    arguments = ["--only", which, "--checkpoint", options.checkpoint, "--repeats", str(options.repeats)]
    arguments += ["--rows", str(options.rows), "--features", str(options.features)]
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * options.rows, options.features)).astype(np.float32)
    table = x[: options.rows], rng.integers(0, 10, options.rows).astype(np.float32), x[options.rows :]
    predict = {"official": official_prediction, "ours": our_prediction}[options.only](options.checkpoint)
    seconds = []
    for _ in range(1 + options.repeats):
        start = time.perf_counter()
        logits = predict(*table)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": seconds[0], "best": min(seconds[1:]), "peak_mb": peak, "logits": logits[:20].tolist()}


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
    return lambda *table: np.asarray(pfn.apply(pfn.params, *table))


def import_official():
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tabular"))
    import official

    return official


if __name__ == "__main__":
    main()
