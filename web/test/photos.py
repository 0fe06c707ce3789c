"""Photos for the end-to-end tests, drawn from scikit-image's astronaut (NASA, public domain): photos.py ASTRONAUT FOLDER."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

astronaut, folder = Image.open(sys.argv[1]).convert("RGB"), Path(sys.argv[2])

rows, columns = np.mgrid[0:300, 0:400]
Image.fromarray(np.stack([rows * 0.8, columns * 0.5, 255 - rows * 0.8], -1).astype(np.uint8)).save(folder / "sky.png")

exif = Image.Exif()
exif[0x0112] = 6  # orientation: turned by 90 degrees with the clock for showing
exif[0x010F] = "Camera"
exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 0.0), 3: "E", 4: (8.0, 32.0, 0.0)})
astronaut.transpose(Image.Transpose.ROTATE_90).save(folder / "sideways.jpg", quality=92, exif=exif)

astronaut.save(folder / "astronaut.webp", quality=90)
astronaut.resize((4480, 4480), Image.Resampling.LANCZOS).save(folder / "large.jpg", quality=90)
(folder / "cut.jpg").write_bytes((folder / "large.jpg").read_bytes()[:50_000])
