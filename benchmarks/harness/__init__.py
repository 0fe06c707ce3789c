"""What the benchmark scripts share: pairs, recognisers that score, methods, variants, quality, and what the numbers say."""
