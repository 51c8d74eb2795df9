"""Between a fine and a coarse level of a surface: features are carried into the frame where they are added."""

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps
from geomeq.ops import segment_sum

from ._so2 import check_features, layout, rotate


class GaugePool(nn.Module):
    r"""The mean over each cluster, in the frame of its coarse node.

    .. math:: y_c = \frac{1}{\sum_f w_f} \sum_{f \to c} w_f \, \rho(g_{cf}) \, x_f

    :math:`g_{cf}` is ``pool_transport``: it turns components in the frame of the fine node into components in the
    frame of the coarse node. A cluster without nodes is zero. A maximum would depend on the frames, so there is none.

    Args:
        types: Type of input and output.

    Example:
        >>> pool = GaugePool("1x0+1x1")
        >>> x = torch.tensor([[1.0, 1.0, 0.0], [3.0, 0.0, -1.0]])
        >>> pool(x, torch.tensor([0, 0]), torch.tensor([0.0, torch.pi / 2]), 1)[:, :2]
        tensor([[2., 1.]])

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425, app. on pooling.
    """

    def __init__(self, types: SO2Irreps | str) -> None:
        super().__init__()
        self.types = self.types_in = self.types_out = SO2Irreps(types)
        self._blocks, self._dim = layout(self.types), self.types.dim
        self._hint = f"the layer was built for types={self.types}"

    def forward(
        self,
        x: Tensor,
        pool_index: Tensor,
        pool_transport: Tensor,
        num_coarse: int,
        area: Tensor | None = None,
    ) -> Tensor:
        """Pools.

        Args:
            x: Features of the fine nodes, ``[N, dim]`` or ``[B, N, dim]``.
            pool_index: Coarse node of each fine node, ``[N]``.
            pool_transport: Angle from the fine to the coarse frame, radians, ``[N]``.
            num_coarse: Number of coarse nodes.
            area: Weights of the mean, ``[N]``; default equal ones.

        Returns:
            ``[num_coarse, dim]`` or ``[B, num_coarse, dim]``.

        Raises:
            ValueError: If a shape does not fit or ``pool_index`` names a node that is not there.
        """
        check_features(x, self._dim, self._hint)
        _check_pool(x.size(-2), pool_index, pool_transport, num_coarse)
        turned = rotate(x, pool_transport, self._blocks)
        weight = x.new_ones(x.size(-2))
        if area is not None:
            check_shape("area", area, x.size(-2))
            weight = area.to(x.dtype)
            turned = turned * weight[:, None]
        cluster, order = pool_index.sort(stable=True)
        total = segment_sum(weight.index_select(0, order), cluster, num_coarse)
        rows = turned.index_select(-2, order)
        rows = rows if x.dim() == 2 else rows.movedim(-2, 0)
        out = segment_sum(rows, cluster, num_coarse)
        out = out if x.dim() == 2 else out.movedim(0, -2)
        return out / torch.where(total > 0, total, torch.ones_like(total))[:, None]

    def extra_repr(self) -> str:
        """The type."""
        return str(self.types)


class GaugeUnpool(nn.Module):
    r"""Copies each coarse feature to the nodes of its cluster, in their frames: :math:`x_f = \rho(-g_{cf})\, y_c`.

    The right inverse of :class:`GaugePool`: pooling what was unpooled changes nothing.

    Args:
        types: Type of input and output.

    Example:
        >>> unpool = GaugeUnpool("1x0+1x1")
        >>> unpool(torch.ones(1, 3), torch.tensor([0, 0]), torch.zeros(2)).shape
        torch.Size([2, 3])
    """

    def __init__(self, types: SO2Irreps | str) -> None:
        super().__init__()
        self.types = self.types_in = self.types_out = SO2Irreps(types)
        self._blocks, self._dim = layout(self.types), self.types.dim
        self._hint = f"the layer was built for types={self.types}"

    def forward(self, x: Tensor, pool_index: Tensor, pool_transport: Tensor, num_coarse: int | None = None) -> Tensor:
        """Unpools.

        Args:
            x: Features of the coarse nodes, ``[M, dim]`` or ``[B, M, dim]``.
            pool_index: Coarse node of each fine node, ``[N]``.
            pool_transport: Angle from the fine to the coarse frame, radians, ``[N]``.
            num_coarse: If given, checked against ``M``.

        Returns:
            ``[N, dim]`` or ``[B, N, dim]``.

        Raises:
            ValueError: If a shape does not fit or ``pool_index`` names a node that is not there.
        """
        check_features(x, self._dim, self._hint)
        if num_coarse is not None:
            check_shape("x", x, "...", num_coarse, self._dim, hint="one row for each coarse node")
        _check_pool(pool_index.size(0), pool_index, pool_transport, x.size(-2))
        return rotate(x.index_select(-2, pool_index), -pool_transport, self._blocks)

    def extra_repr(self) -> str:
        """The type."""
        return str(self.types)


def _check_pool(num_fine: int, pool_index: Tensor, pool_transport: Tensor, num_coarse: int) -> None:
    check_shape("pool_index", pool_index, num_fine, hint="one coarse node for each fine node; see MultiScale")
    check_shape("pool_transport", pool_transport, num_fine, hint="one angle for each fine node; see MultiScale")
    if pool_index.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"pool_index must hold integers (torch.long), got {pool_index.dtype}")
    if pool_index.numel() and not torch.compiler.is_compiling():  # a compiled graph cannot branch on values
        low, high = int(pool_index.min()), int(pool_index.max())
        if low < 0 or high >= num_coarse:
            raise ValueError(f"pool_index names coarse nodes {low}..{high}, but there are only {num_coarse}")
