"""`scripts/bench`: the product's figures, as ratios within one run, since machines differ and are noisy."""
