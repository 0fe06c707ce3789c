"""``python -m faceprotect_sdk``."""

from faceprotect_sdk.cli.main import entry

if __name__ == "__main__":
    entry()
