"""Extended xyz, read strictly: what is missing, misplaced or not a number is an error with file and line.

A frame is a line with the number of atoms, a line of ``key=value`` pairs, and a line for each atom, whose
columns the key ``Properties`` names. The grammar is that of ASE and of the libAtoms project.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
    "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl "
    "Mc Lv Ts Og "
)
SYMBOLS = _NAMES.split()
NUMBER = {symbol: z for z, symbol in enumerate(SYMBOLS)}
_PAIR = re.compile(
    r"""\s*([^\s=,"'{}\[\]]+)          # key
        (?:\s*=\s*(?:
            "((?:[^"\\]|\\.)*)"         # value in double quotes
          | '((?:[^'\\]|\\.)*)'         # in single quotes
          | \{([^}]*)\}                 # in braces
          | \[([^\]]*(?:\][^\]=]*)*?)\](?=\s|$)  # in brackets
          | ([^\s"'{}]+)                # bare
        ))?(?=\s|$)""",
    re.VERBOSE,
)
_KINDS = {"S": str, "R": float, "I": int, "L": bool}
_TRUE_FALSE = {b"T": True, b"F": False, b"True": True, b"False": False, b"TRUE": True, b"FALSE": False,
               b"1": True, b"0": False, b".true.": True, b".false.": False}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One structure of a file.

    Args:
        header: Values of the second line, as text.
        columns: Arrays ``[n]`` or ``[n, k]`` by property.
        where: File and line of the header, for messages.
    """

    header: dict[str, str]
    columns: dict[str, np.ndarray]
    where: str

    def number(self, key: str) -> float:
        """A finite number of the header.

        Raises:
            ValueError: If it is missing or no finite number.
        """
        return float(self.numbers(key, 1)[0])

    def numbers(self, key: str, count: int) -> np.ndarray:
        """So many finite numbers of the header.

        Raises:
            ValueError: If they are missing, too few, too many or not finite.
        """
        if key not in self.header:
            raise ValueError(f"{self.where}: the header has no {key}; it has {', '.join(self.header) or 'nothing'}")
        parts = re.split(r"[\s,]+", self.header[key].strip().strip("[]").strip())
        try:
            found = np.array([float(part.strip("[]")) for part in parts])
        except ValueError:
            found = np.array([np.nan])
        if found.size != count or not np.isfinite(found).all():
            what = f"{count} finite numbers" if count > 1 else "a finite number"
            raise ValueError(f"{self.where}: {key} must be {what}, got {self.header[key]!r}")
        return found


def read_count(line: bytes, path: Path, number: int) -> int:
    """The number of atoms from the first line of a frame.

    Raises:
        ValueError: If it is none.
    """
    text = line.strip()
    if not text.isdigit() or int(text) < 1:
        raise ValueError(
            f"{path}, line {number}: expected the number of atoms of a frame, got {_show(line)}; the frame before may "
            "have more or fewer lines than it says"
        )
    return int(text)


def parse(content: bytes, path: Path, number: int) -> Frame:
    """One frame.

    Args:
        content: Its lines, the number of atoms first.
        path: For messages.
        number: Line of the file, from 1, where ``content`` begins.

    Raises:
        ValueError: For whatever is wrong with it, with file and line.
    """
    lines = content.split(b"\n")
    count = read_count(lines[0], path, number)
    if len(lines) < count + 2 or (len(lines) == count + 2 and not lines[-1].strip()):
        given = sum(bool(line.strip()) for line in lines[2:])
        raise ValueError(f"{path}, line {number}: the frame should have {count} atoms, but the file ends after {given}")
    where = f"{path}, line {number + 1}"
    header = parse_header(lines[1], where)
    columns = _parse_rows(lines[2 : count + 2], _properties(header, where), path, number + 2)
    return Frame(header, columns, where)


def parse_header(line: bytes, where: str) -> dict[str, str]:
    """The ``key=value`` pairs of a line; a key alone means true.

    Raises:
        ValueError: If a quote does not end, or a key comes twice.
    """
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: the header is not text ({error})") from None
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            raise ValueError(
                f"{where}: expected key=value in the header, got {_show(text[at:])}; is a quote not closed?"
            )
        key, double, single, braces, brackets, bare = match.groups()
        quoted = double if double is not None else single
        if quoted is not None:
            value = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], quoted)
        else:
            value = next((v for v in (braces, brackets, bare) if v is not None), "T")
        if key in found:
            raise ValueError(f"{where}: the header has {key} twice")
        found[key] = value
        at = match.end()
    return found


def _properties(header: dict[str, str], where: str) -> list[tuple[str, str, int]]:
    """Name, kind and number of columns of each property."""
    if "Properties" not in header:
        raise ValueError(
            f"{where}: the header has no Properties=, which names the columns, such as "
            f"Properties=species:S:1:pos:R:3:forces:R:3; it has {', '.join(header) or 'nothing'}"
        )
    parts = header["Properties"].split(":")
    found = [(parts[k], *parts[k + 1 : k + 3]) for k in range(0, len(parts), 3)]
    for entry in found:
        if len(entry) != 3 or entry[1] not in _KINDS or not entry[2].isdigit() or entry[2] == "0":
            raise ValueError(
                f"{where}: Properties must be name:kind:columns, with kind one of S, R, I, L, again and again; got "
                f"{header['Properties']!r}"
            )
    names = [name for name, *_ in found]
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: Properties names a property twice: {header['Properties']!r}")
    return [(name, kind, int(columns)) for name, kind, columns in found]


def _parse_rows(
    lines: list[bytes], properties: list[tuple[str, str, int]], path: Path, first: int
) -> dict[str, np.ndarray]:
    width = sum(columns for *_, columns in properties)
    rows = [line.split() for line in lines]
    for k, row in enumerate(rows):
        if len(row) != width:
            names = ", ".join(f"{name} ({columns})" for name, _, columns in properties)
            raise ValueError(
                f"{path}, line {first + k}: expected {width} columns, {names}, got {len(row)}: {_show(lines[k])}"
            )
    found, at = {}, 0
    for name, kind, columns in properties:
        part = [value for row in rows for value in row[at : at + columns]]
        array = _convert(part, kind, name, columns, path, first)
        found[name] = array if columns == 1 else array.reshape(-1, columns)
        at += columns
    return found


def _convert(part: list[bytes], kind: str, name: str, columns: int, path: Path, first: int) -> np.ndarray:
    try:
        if kind == "R":
            array: np.ndarray = np.array(part, dtype=bytes).astype(np.float64)
            if np.isfinite(array).all():
                return array
        elif kind == "I":
            return np.array([int(value) for value in part], dtype=np.int64)
        elif kind == "L":
            return np.array([_TRUE_FALSE[value] for value in part])
        else:
            return np.array([value.decode() for value in part])
    except (ValueError, KeyError):
        pass
    k = next(k for k, value in enumerate(part) if not _fits(value, kind))
    wanted = {"R": "a finite number", "I": "an integer", "L": "T or F", "S": "text"}[kind]
    raise ValueError(
        f"{path}, line {first + k // columns}: {name} must be {wanted}, got {_show(part[k])}; are the columns in the "
        "order that Properties= gives?"
    )


def _fits(value: bytes, kind: str) -> bool:
    try:
        if kind == "R":
            return bool(np.isfinite(float(value)))
        if kind == "I":
            int(value)
        elif kind == "S":
            value.decode()
        return kind != "L" or value in _TRUE_FALSE
    except ValueError:
        return False


def _show(text: Any) -> str:
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return repr(text if len(text) <= 60 else text[:57] + "...")
