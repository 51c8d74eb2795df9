"""What doctests of single files need."""

import geomeq.transforms  # noqa: F401 - else pytest runs a module again after its package: "DataPipe name taken"
