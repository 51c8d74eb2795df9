"""G-CNN: networks of group convolutions on images, plain and residual."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.groups import PointGroup
from geomeq.nn import (
    AntiAliasedPool2d,
    GlobalGroupPool,
    GroupBatchNorm,
    GroupConv2d,
    GroupPool,
    LiftingConv2d,
    SpatialPool2d,
)

_CHOICES = {"form": ("plain", "resnet"), "pool": ("antialiased", "max", "stride")}


@dataclass(frozen=True)
class GCNNConfig:
    """Everything that defines a :class:`GCNN`; plain values, so it can be saved as JSON.

    Attributes:
        point_group: ``"C4"`` (p4), ``"D4"`` (p4m), ``"C1"`` (an ordinary network), any ``"C<n>"`` or ``"D<n>"``.
        in_channels: Channels of the image.
        num_classes: Number of logits.
        form: ``"plain"`` (P4CNN) or ``"resnet"``.
        channels: Fields, one number for all layers (plain) or one per stage (resnet). Each has ``|H|`` maps.
        num_layers: Of the plain form, the last one included.
        num_blocks: Of the residual form, per stage.
        kernel_size: Width of the filters. The plain form does not pad, the residual form does.
        last_kernel: Width of the last filters of the plain form.
        pool_after: Of the plain form: numbers of the layers, from 1, after which the size is halved.
        pool: How it is halved: ``"antialiased"`` keeps the symmetry exactly at every size; as published, ``"max"``
            (2 x 2, plain) or ``"stride"`` (resnet), which warn where a size is illegal.
        dropout: Of whole fields, after every hidden layer of the plain form.
    """

    point_group: str = "C4"
    in_channels: int = 1
    num_classes: int = 10
    form: Literal["plain", "resnet"] = "plain"
    channels: tuple[int, ...] = (10,)
    num_layers: int = 7
    num_blocks: int = 7
    kernel_size: int = 3
    last_kernel: int = 4
    pool_after: tuple[int, ...] = (2,)
    pool: Literal["antialiased", "max", "stride"] = "antialiased"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        PointGroup.parse(self.point_group)
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        wrong = "stride" if self.form == "plain" else "max"
        if self.pool == wrong:
            raise ValueError(f"pool={wrong!r} does not go with form={self.form!r}; use 'antialiased'")
        if not self.channels or (self.form == "plain" and len(self.channels) != 1):
            raise ValueError(f"channels must hold one number (plain) or one per stage (resnet), got {self.channels}")
        if self.num_layers < 2 or self.num_blocks < 1:
            raise ValueError(f"too few layers: num_layers={self.num_layers}, num_blocks={self.num_blocks}")
        if not all(1 <= layer < self.num_layers for layer in self.pool_after):
            raise ValueError(f"pool_after must hold numbers of hidden layers, 1..{self.num_layers - 1}")

    @classmethod
    def p4cnn(cls, point_group: str = "C4", **options: object) -> "GCNNConfig":
        """The published network for rotated digits of 28 x 28 pixels: 10 fields on p4; on C1, Z2CNN with 20."""
        channels = {1: 20, 4: 10, 8: 7}.get(PointGroup.parse(point_group).order, 10)
        return cls(point_group, **{"channels": (channels,), "dropout": 0.3, **options})  # type: ignore[arg-type]

    @classmethod
    def resnet44(cls, point_group: str = "D4", **options: object) -> "GCNNConfig":
        """The published residual network of 44 layers for colour images of 32 x 32 pixels."""
        return cls._resnet(point_group, 7, (32, 64, 128), (11, 23, 45), options)

    @classmethod
    def resnet26_wide(cls, point_group: str = "D4", **options: object) -> "GCNNConfig":
        """The published wide residual network of 26 layers."""
        return cls._resnet(point_group, 4, (71, 142, 284), (25, 50, 100), options)

    @classmethod
    def _resnet(
        cls,
        point_group: str,
        blocks: int,
        plain: tuple[int, ...],
        p4m: tuple[int, ...],
        options: dict[str, object],
    ) -> "GCNNConfig":
        order = PointGroup.parse(point_group).order
        channels = p4m if order == 8 else tuple(round(c / order**0.5) for c in plain)  # about as many weights
        made = {"in_channels": 3, "form": "resnet", "channels": channels, "num_blocks": blocks, **options}
        return cls(point_group, **made)  # type: ignore[arg-type]


class GCNN(nn.Module):
    """A network on a plane group whose logits do not see turns (and mirrors) of the image.

    The plain form is P4CNN: convolutions without padding, each with batch norm and ReLU, one halving of the size, a
    last convolution to one field per class, and the largest entry over orientations, then over space. The residual
    form has three or more stages of blocks, each stage but the first at half the size, then the mean over orientations
    and space, and one linear map. On C1, C2, C4, D1, D2, D4 logits are exactly invariant (for images of equal sides);
    on other groups exactly under the turns that the grid has, and nearly under the others.

    Args:
        config: The network.

    Example:
        >>> model = GCNN(GCNNConfig.p4cnn("C4")).eval()
        >>> image = torch.randn(2, 1, 28, 28)
        >>> torch.allclose(model(image), model(image.rot90(1, (-2, -1))), atol=1e-5)
        True

    Source: Cohen and Welling (2016), https://arxiv.org/abs/1602.07576, section 8.
    """

    def __init__(self, config: GCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Sequential(*(_plain if config.form == "plain" else _residual)(config))
        self.orientations = GroupPool(config.point_group, reduce="max" if config.form == "plain" else "mean")
        self.space = GlobalGroupPool("max" if config.form == "plain" else "mean")
        self.linear = None if config.form == "plain" else nn.Linear(config.channels[-1], config.num_classes)

    def forward(self, data: Tensor | Data) -> Tensor:
        """Logits of images.

        Args:
            data: Images ``[B, C, Y, X]``, or a ``Data`` or ``Batch`` with the attribute ``image``: ``[C, Y, X]`` or
                ``[1, C, Y, X]`` of each sample.

        Returns:
            ``[B, num_classes]``.

        Raises:
            ValueError: If the images have another number of channels or are too small.
        """
        y = self.orientations(self.body(self._images(data)))
        y = self.space(y)
        return y if self.linear is None else self.linear(y)

    def _images(self, data: Tensor | Data) -> Tensor:
        channels = self.config.in_channels
        if isinstance(data, Tensor):
            check_shape("image", data, "B", channels, "Y", "X", hint=f"the model has in_channels={channels}")
            return data
        image = data.get("image")
        if image is None:
            raise ValueError(f"data has no image, only {sorted(data.keys())}; set data.image = [C, Y, X]")
        image = image.reshape(-1, channels, *image.shape[-2:]) if image.dim() == 3 else image
        check_shape("data.image", image, "B", channels, "Y", "X", hint=f"the model has in_channels={channels}")
        return image


def _plain(config: GCNNConfig) -> list[nn.Module]:
    group, width, layers = config.point_group, config.channels[0], list[nn.Module]()
    for layer in range(1, config.num_layers):
        if layer == 1:
            layers.append(LiftingConv2d(group, config.in_channels, width, config.kernel_size))
        else:
            layers.append(GroupConv2d(group, width, width, config.kernel_size))
        layers += [GroupBatchNorm(width, layout="grid"), nn.ReLU()]
        if config.dropout:
            layers.append(nn.Dropout3d(config.dropout))
        if layer in config.pool_after:
            layers.append(_halving(config))
    return [*layers, GroupConv2d(group, width, config.num_classes, config.last_kernel)]


def _halving(config: GCNNConfig) -> nn.Module:
    return AntiAliasedPool2d(2) if config.pool == "antialiased" else SpatialPool2d(2, point_group=config.point_group)


def _residual(config: GCNNConfig) -> list[nn.Module]:
    width = config.channels[0]
    layers: list[nn.Module] = [
        LiftingConv2d(config.point_group, config.in_channels, width, config.kernel_size, padding="same"),
        GroupBatchNorm(width, layout="grid"),
        nn.ReLU(),
    ]
    for stage, wider in enumerate(config.channels):
        for block in range(config.num_blocks):
            layers.append(_Block(config, width, wider, halve=stage > 0 and block == 0))
            width = wider
    return layers


class _Block(nn.Module):
    """Two convolutions with norms, added to the input (or to its projection)."""

    def __init__(self, config: GCNNConfig, width: int, wider: int, halve: bool) -> None:
        super().__init__()
        group, size = config.point_group, config.kernel_size
        stride = 2 if halve and config.pool == "stride" else 1
        self.first = GroupConv2d(group, width, wider, size, stride, padding="same")
        self.second = GroupConv2d(group, wider, wider, size, padding="same")
        self.norms = nn.ModuleList(GroupBatchNorm(wider, layout="grid") for _ in range(2))
        self.pool = AntiAliasedPool2d(2) if halve and config.pool == "antialiased" else nn.Identity()
        same = width == wider and stride == 1
        self.shortcut = (  # it takes the pixels that the first convolution takes, which warns for both
            nn.Identity() if same else GroupConv2d(group, width, wider, 1, stride, on_illegal="ignore")
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(torch.relu(self.norms[0](self.first(x))))
        y = self.norms[1](self.second(y))
        return torch.relu(y + self.shortcut(self.pool(x)))
