"""Atoms: graphs of molecules and crystals, to and from ASE, and a calculator for relaxations and dynamics.

Units throughout: Angstrom, eV, eV/Angstrom for forces, eV/Angstrom^3 for stresses (positive under tension, as in ASE).
"""

from ._periodic_graph import periodic_graph

__all__ = ["periodic_graph"]
