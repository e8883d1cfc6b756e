"""scikit-learn's own checks of a classifier, with tables padded to the sizes that users have.

Not to those of `few_sizes`: there the last bits of a prediction depend on its row with JAX 0.8.1.
"""

from pathlib import Path

from sklearn.utils.estimator_checks import parametrize_with_checks

from ttt_jax.tabular import PFNClassifier

BLOBS = Path(__file__).parent / "fixtures" / "blobs.safetensors"


@parametrize_with_checks([PFNClassifier(weights=str(BLOBS), n_estimators=1)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
