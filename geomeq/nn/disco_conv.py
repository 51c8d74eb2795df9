"""DISCO: convolution with continuous filters on any sampling of the sphere."""

from ._disco_layer import DiscoLayer


class DiscoConv(DiscoLayer):
    r"""Discrete-continuous convolution on the sphere, from any sampling to any other.

    .. math:: y_{io} = b_o + \sum_{c k} W_{ock} \sum_{j :\, r_{ij} \le r_c} q_j \,
              \frac{\psi_k(r_{ij}, a_{ij})}{s_k} \, x_{jc}

    Filters :math:`\psi_k` are functions on a disc, evaluated exactly wherever the nodes lie; only the integral is a
    sum, with the weights :math:`q_j` of the sampling (total 1). :math:`r_{ij}` is the distance of j from i and
    :math:`a_{ij}` its azimuth there, from south towards east.

    With filters that do not depend on the azimuth (``kernel_shape=(n, 1)``) the layer commutes with every rotation, up
    to the error of the quadrature. The others see the sphere in the frame of the meridian: they commute with turns
    about the polar axis only, and for a general rotation the error is as large as the signal. Where that matters take
    :class:`SteerableDiscoConv`.

    Paths, all equal to rounding, with the same parameters:

    - ``"ring"``: both samplings are grids, ``nlon_in`` a multiple of ``nlon_out``; one meridian of caps, multiplied
      in Fourier space; the only one that never builds the edges, for grids of any size.
    - ``"csr"``: sparse rows, block by block; the channels are mixed first where that is less work.
    - ``"gather"``: tables of neighbours and batched products, for GPUs and samplings of nearly equal degree.
    - ``"edge"``: the definition, message by message.

    Geometry is computed once in float64 for all layers with the same samplings and filters; it is no part of the
    ``state_dict``.

    Args:
        in_channels: ``C``.
        out_channels: ``O``.
        s_in: Sampling of the input.
        s_out: Sampling of the output, finer, coarser or of another kind; default ``s_in``.
        basis: Name of the filters, see :func:`geomeq.harmonics.filter_basis`.
        kernel_shape: Their number, see there.
        cutoff: Their radius, radians; default :func:`geomeq.harmonics.default_cutoff`.
        norm: ``"mean"``, ``"none"``, ``"nodal"``, ``"modal"``, ``"support"`` or ``"geometric"``, see
            :func:`geomeq.harmonics.disco_geometry`. The first two keep the quadrature what it is.
        groups: Blocks of channels that do not mix.
        bias: Whether there is :math:`b`.
        path: As above; ``"auto"`` chooses by samplings and device.
        chunk: Nodes of the output at a time, for paths ``"edge"`` and ``"gather"``: less memory.
        recompute: Whether the ``K`` sums per node are made again in the backward pass rather than kept.

    Attributes:
        weight: ``[O, C / groups, K]``.
        bias: ``[O]`` or ``None``.
        geometry: The :class:`geomeq.harmonics.DiscoGeometry`.

    Raises:
        TypeError: If a sampling is none.
        ValueError: If an option does not exist, groups do not divide, or a cap holds no node of ``s_in``.

    Example:
        >>> import torch
        >>> from geomeq import spheres
        >>> conv = DiscoConv(3, 8, spheres.gauss_legendre(16), spheres.healpix(4))
        >>> conv(torch.randn(2, 512, 3)).shape
        torch.Size([2, 192, 8])

    Source: Ocampo, Price, McEwen (2023), https://arxiv.org/abs/2209.13603
    """

    transposed = False
