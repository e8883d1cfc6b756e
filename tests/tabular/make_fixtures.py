"""Write the committed fixtures: a small random official checkpoint and the official package's answers.

    python tests/tabular/make_fixtures.py

in an environment with PyTorch and tabpfn (docs/tabular.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import official
import tables
import torch

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = {"max_num_classes": 10, "num_buckets": 1000, "emsize": 16, "nhead": 4, "nlayers": 3, "nhid_factor": 2}


def main() -> None:
    FIXTURES.mkdir(exist_ok=True)
    checkpoint = FIXTURES / "small.ckpt"
    official.write_random_checkpoint(checkpoint, SMALL, seed=1)
    answers = {}
    for name, case in tables.cases().items():
        for dtype in (torch.float32, torch.float64):
            model = official.load(checkpoint, case.outlier_sigma, dtype)
            with torch.inference_mode():
                answers[f"{name}/{str(dtype).removeprefix('torch.')}"] = official.logits(model, *case[:3]).numpy()
    case = tables.cases()["NaN and infinities"]
    loss, gradients = official.loss_and_gradients(official.load(checkpoint), *case[:3])
    answers["loss"] = loss
    answers |= {f"gradient/{name}": gradient for name, gradient in gradients.items()}
    np.savez_compressed(FIXTURES / "answers.npz", **answers)


if __name__ == "__main__":
    main()
