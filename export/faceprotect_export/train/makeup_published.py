"""The two stages of the published method (DiffAM, CVPR 2024, arXiv 2405.09882) on our denoiser, with the losses as published.

``python -m faceprotect_export.train.makeup_published removal|transfer CROPS.npy... -o DIR``: *removal* learns to take off painted makeup,
guided by text; *transfer* learns one look, guided by its reference. Crops are uint8 RGB [N, 256, 256, 3] as written by
``faceprotect_export.train.crops``. Both resume from ``DIR/state.safetensors`` and write ``DIR/weights.safetensors`` (fp16): what was tuned.
Defaults are the published settings; ``--without TERM`` leaves a term of the loss out. Beside them: the removal may be shown the bare
originals of the painted faces (``--truth``), which the paper had not; and either stage changes a face only where makeup goes.
"""

from __future__ import annotations

import click

from faceprotect_export.train.makeup_removal import removal
from faceprotect_export.train.makeup_transfer import transfer


@click.group()
def main() -> None:
    """Train a stage of the published method, logging to DIR/curve.jsonl."""


main.add_command(removal)
main.add_command(transfer)


if __name__ == "__main__":
    main()
