"""Which coefficient each row of a table of spherical channels holds."""


def signed_orders(mmax: int) -> list[int]:
    """0, 1, -1, 2, -2, ...: the order of an edge frame's rows."""
    return [0, *(sign * m for m in range(1, mmax + 1) for sign in (1, -1))]


def row_degrees(lmax: int, mmax: int | None = None) -> list[int]:
    """Degree of each row: of all coefficients ``l * l + l + m``, or with ``mmax`` of an edge frame, m-primary."""
    if mmax is None:
        return [degree for degree in range(lmax + 1) for _ in range(2 * degree + 1)]
    return [degree for m in signed_orders(min(lmax, mmax)) for degree in range(abs(m), lmax + 1)]


def primary_rows(lmax: int, mmax: int | None = None) -> list[int]:
    """Coefficient ``l * l + l + m`` of each row in m-primary order."""
    mmax = lmax if mmax is None else min(lmax, mmax)
    return [degree * degree + degree + m for m in signed_orders(mmax) for degree in range(abs(m), lmax + 1)]


def check_degrees(lmax: int, mmax: int | None = None) -> None:
    """Raises unless ``0 <= mmax <= lmax``."""
    if lmax < 0:
        raise ValueError(f"lmax must not be negative, got {lmax}")
    if mmax is not None and not 0 <= mmax <= lmax:
        raise ValueError(f"mmax must lie between 0 and lmax={lmax}, got {mmax}")
