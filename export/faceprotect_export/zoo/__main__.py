"""``python -m faceprotect_export.zoo``."""

from faceprotect_export.zoo.builders import main

main()
