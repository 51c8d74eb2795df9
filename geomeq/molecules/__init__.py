"""Atoms: graphs of molecules and crystals, to and from ASE, and a calculator for relaxations and dynamics.

- :func:`periodic_graph`: all neighbours within a cutoff, periodic images included.
- :func:`from_ase`, :func:`to_ase`: structures with their energies, forces, constraints and tags.
- :class:`GeomeqCalculator`: any energy model as a calculator of ASE.

Units throughout: Angstrom, eV, eV/Angstrom for forces, eV/Angstrom^3 for stresses (positive under tension, as in ASE).
"""

from ._ase import AtomsInfo, from_ase, to_ase
from ._calculator import GeomeqCalculator
from ._periodic_graph import periodic_graph

__all__ = ["AtomsInfo", "GeomeqCalculator", "from_ase", "periodic_graph", "to_ase"]
