"""Training scripts: resumable, with their seed, data and curve beside the weights."""
