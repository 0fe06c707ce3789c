"""Photos as files: read in every container, kept with what belongs to them, and written whole or not at all."""
