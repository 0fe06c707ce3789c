"""How much a face changed, by measures that see what people see, and by PSNR and SSIM, which do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.face.align import Points, aligned_crop
from faceprotect_sdk.face.mesh import Network, mesh_moved
from faceprotect_sdk.judging.mid_band import mid_band
from faceprotect_sdk.judging.ssimulacra import crop_score, face_score


@dataclass(frozen=True)
class Quality:
    """How much one face changed between two photos.

    ``ssimulacra2``: on the aligned crop of 256 px, on its own scale: 90 is not seen in a flicker test, 80 not side by side, 70 barely
    noticed, 50 slightly annoying, 30 annoying; it has no lower end. ``ssimulacra2_face``: the same on the face of the photo as written
    (``ssimulacra.face_score``); None where the photos differ in size or turn, or hold too little of the face. ``mid_band``: how strong the
    change is in the band by which people tell faces apart, in grey levels of 0..255 (``mid_band.mid_band``): the less, the better.
    ``mesh_moved``: mean way of the points of a face mesh, in pixels of the crop; None where no such network is at hand. ``points_moved``:
    how far the farthest of the detector's five points went, as a part of the face's width; None where the detector found no face any more.

    ``psnr`` in dB and ``ssim``, on the crop, are for comparison with what others publish: both hardly see a nose that is bent, and a search
    that is held by them alone bends it.
    """

    ssimulacra2: float
    ssimulacra2_face: float | None
    mid_band: float
    psnr: float
    ssim: float
    points_moved: float | None = None
    mesh_moved: float | None = None

    def __str__(self) -> str:
        """The figures in one line."""
        whole = "" if self.ssimulacra2_face is None else f" (in the photo {self.ssimulacra2_face:.0f})"
        moved = "" if self.points_moved is None else f", points moved {100 * self.points_moved:.1f} %"
        mesh = "" if self.mesh_moved is None else f", mesh moved {self.mesh_moved:.2f} px"
        return (
            f"SSIMULACRA2 {self.ssimulacra2:.0f}{whole}, mid band {self.mid_band:.1f}, "
            f"PSNR {self.psnr:.1f} dB, SSIM {self.ssim:.3f}{moved}{mesh}"
        )


def measure(
    first: NDArray[np.uint8],
    first_points: Points,
    second: NDArray[np.uint8],
    second_points: Points,
    *,
    points_moved: float | None = None,
    mesh: Network | None = None,
) -> Quality:
    """Every figure between a face of the original ``first`` and of ``second``, both uint8 RGB [H, W, 3].

    ``first_points``, ``second_points``: five (x, y) by which each is aligned. ``points_moved`` is handed on.
    """
    before, after = aligned_crop(first, first_points), aligned_crop(second, second_points)
    in_place = first.shape == second.shape and np.array_equal(first_points, second_points)  # not so in a photo that was turned
    return Quality(
        ssimulacra2=crop_score(before, after),
        ssimulacra2_face=face_score(first, second, first_points) if in_place else None,
        mid_band=mid_band(before, after),
        psnr=psnr(before, after),
        ssim=ssim(before, after),
        points_moved=points_moved,
        mesh_moved=None if mesh is None else mesh_moved(before, after, mesh),
    )


def psnr(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Peak signal-to-noise ratio in dB of arrays in 0..1; 100.0 for equal ones, so that it stays a JSON number."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return 100.0 if error < 1e-10 else float(-10.0 * np.log10(error))


def ssim(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean structural similarity of two RGB crops [1, 3, H, W] in 0..1.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004, eq. 13,
    with the 11-tap Gaussian window of 1.5 px, per channel.
    """
    import cv2

    def blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT))

    c1, c2 = 0.01**2, 0.03**2
    x = np.ascontiguousarray(first[0].transpose(1, 2, 0), np.float64)
    y = np.ascontiguousarray(second[0].transpose(1, 2, 0), np.float64)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float((top / bottom)[5:-5, 5:-5].mean())
