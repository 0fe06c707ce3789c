"""The engines that ship: ``python -m faceprotect_export.zoo`` builds them."""
