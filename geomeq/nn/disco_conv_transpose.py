"""The adjoint of DISCO convolution, for going to a finer sampling."""

from ._disco_layer import DiscoLayer


class DiscoConvTranspose(DiscoLayer):
    r"""Transposed DISCO convolution: caps around the nodes of the input, of which each spreads its value.

    .. math:: y_{io} = b_o + \sum_{c k} W_{ock} \sum_{j :\, r_{ji} \le r_c} q_j \,
              \frac{\psi_k(r_{ji}, a_{ji})}{s_k} \, x_{jc}

    where :math:`r_{ji}, a_{ji}` is the place of the output node i as seen from the input node j. With ``norm="none"``
    and transposed weights it is the exact adjoint of :class:`DiscoConv` from ``s_out`` to ``s_in``:

    .. math:: \langle \mathrm{conv}(x), y \rangle_{q} = \langle x, \mathrm{conv}^T(y) \rangle_{q},
              \qquad \langle x, y \rangle_q = \sum_i q_i \, x_i \cdot y_i

    Arguments, attributes, paths and errors are those of :class:`DiscoConv`; every node of ``s_out`` must lie in the cap
    of some node of ``s_in``, and the ring path needs ``nlon_out`` to be a multiple of ``nlon_in``.

    Example:
        >>> import torch
        >>> from geomeq import spheres
        >>> DiscoConvTranspose(8, 3, spheres.healpix(4), spheres.healpix(8))(torch.randn(192, 8)).shape
        torch.Size([768, 3])

    Source: Ocampo, Price, McEwen (2023), https://arxiv.org/abs/2209.13603
    """

    transposed = True
