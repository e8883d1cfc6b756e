"""Test-time training on a real table, beside the plain network: `python examples/tabular.py`."""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ttt_jax.tabular import PFNClassifier, TTTClassifier

X, y = load_breast_cancer(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, train_size=200, random_state=0, stratify=y)

plain = TTTClassifier(n_context=16, mode="none", n_estimators=1).fit(X, y)
tuned = TTTClassifier(n_context=16, steps=20, n_estimators=1).fit(X, y)
print(f"16 rows of context              {plain.score(X_test, y_test):.3f}")
print(f"16 rows, tuned on all 200       {tuned.score(X_test, y_test):.3f}   (kept: update {tuned.chosen_.step})")
print(f"200 rows of context             {PFNClassifier(n_estimators=1).fit(X, y).score(X_test, y_test):.3f}")
logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
print(f"logistic regression on all 200  {logistic.score(X_test, y_test):.3f}")
