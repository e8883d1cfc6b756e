import sys

from ttt_jax.tabular.pretraining.loop import main

sys.exit(main())
