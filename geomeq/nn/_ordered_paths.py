"""Three ways to compute a layer over ordered neighbours, and their transposes."""

import torch
from torch import Tensor, nn

from geomeq.ops import taps_linear, taps_transposed, typed_linear

from ._ordered_compass import CompassPlan, compass_mix
from ._ordered_plan import EdgePlan, FacePlan, Plan, TablePlan


def apply_plan(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, groups: int) -> Tensor:
    """``x`` ``[B, N, C]``, ``weight`` ``[T, C / groups, O]`` to ``[B, M, O]``."""
    if isinstance(plan, FacePlan):
        return _faces(x, weight, bias, plan, groups)
    weight = dense_weight(weight, groups)
    if isinstance(plan, CompassPlan):
        y = compass_mix(x, weight, plan.there, plan.back)
        return y if bias is None else y + bias.to(y.dtype)
    x = x if plan.extend is None else plan.extend(x)
    if isinstance(plan, TablePlan):
        y = taps_linear(x, weight, plan.table, plan.scale)
    elif plan.scale is None:
        y = typed_linear(x, weight, plan.pattern)
    else:
        y = _weighted_messages(x, weight, plan, reverse=False)
    y = y if plan.factor is None else y * plan.factor.to(y.dtype)[:, None]
    return y if bias is None else y + bias.to(y.dtype)


def apply_transposed(y: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, groups: int) -> Tensor:
    """``y`` ``[B, M, O]``, ``weight`` ``[T, C / groups, O]`` to ``[B, N, C]``: the transpose of ``apply_plan``."""
    if isinstance(plan, FacePlan):
        return _faces_transposed(y, weight, bias, plan, groups)
    weight = dense_weight(weight, groups)
    if isinstance(plan, CompassPlan):
        x = compass_mix(y, weight.transpose(1, 2), plan.back, plan.there)
        return x if bias is None else x + bias.to(x.dtype)
    y = y if plan.factor is None else y * plan.factor.to(y.dtype)[:, None]
    if isinstance(plan, TablePlan):
        x = taps_transposed(y, weight, plan.table, plan.num_rows, plan.scale)
    elif plan.scale is None:
        x = typed_linear(y, weight.transpose(1, 2), plan.back)
    else:
        x = _weighted_messages(y, weight, plan, reverse=True)
    x = x if plan.extend is None else plan.extend.transposed(x)
    return x if bias is None else x + bias.to(x.dtype)


def dense_weight(weight: Tensor, groups: int) -> Tensor:
    """``[T, C / groups, O]`` to ``[T, C, O]``, zero between groups."""
    if groups == 1:
        return weight
    taps, channels, outputs = weight.shape
    blocks = torch.diag_embed(weight.view(taps, channels, groups, outputs // groups).transpose(2, 3))
    return blocks.permute(0, 4, 1, 3, 2).reshape(taps, groups * channels, outputs)


def _kernel(weight: Tensor, plan: FacePlan) -> Tensor:
    """``[O, C / groups, k, k]``."""
    rows = plan.order(weight.reshape(1, weight.size(0), -1))
    return rows.view(plan.width, plan.width, *weight.shape[1:]).permute(3, 2, 0, 1)


def _faces(x: Tensor, weight: Tensor, bias: Tensor | None, plan: FacePlan, groups: int) -> Tensor:
    # Rows of pixels with all their channels are images in the layout "channels last": nothing is copied but rows.
    image = plan.halo(x).view(x.size(0) * plan.images, plan.padded, plan.padded, x.size(2)).permute(0, 3, 1, 2)
    inside = None if plan.bias_after else bias
    out = nn.functional.conv2d(image, _kernel(weight, plan), inside, plan.step, 0, plan.dilation, groups)
    out = plan.nested(out.permute(0, 2, 3, 1).reshape(x.size(0), plan.images * plan.side**2, weight.size(2)))
    return out + bias.to(out.dtype) if plan.bias_after and bias is not None else out


def _faces_transposed(y: Tensor, weight: Tensor, bias: Tensor | None, plan: FacePlan, groups: int) -> Tensor:
    image = plan.nested.transposed(y).view(y.size(0) * plan.images, plan.side, plan.side, y.size(2))
    more = plan.step - 1  # a last row and column that no output of the strided layer has read
    out = nn.functional.conv_transpose2d(
        image.permute(0, 3, 1, 2), _kernel(weight, plan), None, plan.step, 0, more, groups, plan.dilation
    )
    out = out.permute(0, 2, 3, 1).reshape(y.size(0), plan.images * plan.padded**2, weight.size(1) * groups)
    out = plan.halo.transposed(out)
    return out if bias is None else out + bias.to(out.dtype)


def _weighted_messages(x: Tensor, weight: Tensor, plan: EdgePlan, reverse: bool) -> Tensor:
    """The definition: every edge scales what it carries, one type of edges at a time."""
    assert plan.scale is not None
    source, target = plan.pattern.edge_index.flip(0) if reverse else plan.pattern.edge_index
    num_rows, channels = plan.pattern.size[0 if reverse else 1], weight.size(1 if reverse else 2)
    out = x.new_zeros(x.size(0), num_rows, channels)
    for edges, matrix in zip(plan.by_type, weight, strict=True):
        message = x.index_select(1, source[edges]) * plan.scale[edges].to(x.dtype)[:, None]
        out = out.index_add(1, target[edges], message @ (matrix.T if reverse else matrix))
    return out
