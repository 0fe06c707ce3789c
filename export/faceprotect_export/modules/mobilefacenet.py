"""MobileFaceNet, 112 px to 512 numbers.

Chen et al., "MobileFaceNets: Efficient CNNs for accurate real-time face verification on mobile devices", CCBR 2018 (arXiv 1804.07573),
table 1, with an embedding of 512 instead of 128 numbers. Parameters are named as in the state dicts of InsightFace_Pytorch.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

SIZE, EMBEDDING = 112, 512


class Linear(nn.Sequential):
    """Convolution and normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))


class Conv(Linear):
    """Convolution, normalisation, PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, groups)
        self.prelu = nn.PReLU(outputs)


class Bottleneck(nn.Sequential):
    """1x1 to ``inner`` channels, 3x3 channel by channel, 1x1 to ``outputs`` channels."""

    def __init__(self, inputs: int, outputs: int, inner: int, stride: int = 1) -> None:
        depthwise = Conv(inner, inner, 3, stride, 1, groups=inner)
        super().__init__(OrderedDict(conv=Conv(inputs, inner), conv_dw=depthwise, project=Linear(inner, outputs)))


class Residual(Bottleneck):
    """x + bottleneck."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Repeated(nn.Module):
    """``count`` residual bottlenecks: [N, width, H, W] to the same."""

    def __init__(self, width: int, inner: int, count: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(Residual(width, width, inner) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class MobileFaceNet(nn.Sequential):
    """RGB [N, 3, 112, 112] in -1..1 to embeddings [N, 512], not of unit length."""

    def __init__(self) -> None:
        layers = OrderedDict[str, nn.Module](
            conv1=Conv(3, 64, 3, 2, 1),
            conv2_dw=Conv(64, 64, 3, 1, 1, groups=64),
            conv_23=Bottleneck(64, 64, 128, 2),
            conv_3=Repeated(64, 128, 4),
            conv_34=Bottleneck(64, 128, 256, 2),
            conv_4=Repeated(128, 256, 6),
            conv_45=Bottleneck(128, 128, 512, 2),
            conv_5=Repeated(128, 256, 2),
            conv_6_sep=Conv(128, 512),
            conv_6_dw=Linear(512, 512, SIZE // 16, groups=512),
            conv_6_flatten=nn.Flatten(),
            linear=nn.Linear(512, EMBEDDING, bias=False),
            bn=nn.BatchNorm1d(EMBEDDING),
        )
        super().__init__(layers)
