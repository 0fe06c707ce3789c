"""Files of engines: manifests, checksums, weights that lie elsewhere, golden values."""
