"""The risk of a test-time training step three ways, and a figure: `python examples/quickstart.py [OUT.png]`."""

import sys

import numpy as np

import ttt_jax as ttt
from ttt_jax.plotting import Series, draw

d = 40
problem = ttt.Problem(n=20, k=80, task=np.ones(d) / d**0.5)
W = ttt.pretrained_weights(ttt.Pretraining(n=20, d=d))
print(ttt.compare(problem, W, num_tasks=5_000))

# The best step against the number of training pairs: pretrained weights or a start from zero?
k = np.unique(np.geomspace(1, 400, 25).astype(int))
points = [10, 40, 160]
series = []
for name, start in (("pretrained", W), ("zero", 0.0)):

    def problem_at(k):
        return ttt.Problem(n=20, k=int(k), task=problem.task)

    exact = [ttt.exact_risk(problem_at(each), start).optimal for each in k]
    simulated = [ttt.compare(problem_at(each), start, num_tasks=2_000).estimate for each in points]
    means, stderrs = zip(*[(each.mean, each.stderr) for each in simulated], strict=True)
    series.append(Series(name, k / d, exact, points=np.array(points) / d, means=means, stderrs=stderrs))
figure = draw(series, x_label="training pairs k / d", y_label="risk after one step", title="n = 20, d = 40")
if sys.argv[1:]:
    figure.savefig(sys.argv[1])
