# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Results as JSON text, and back, without loss.

JSON keeps numbers to the last bit and any text (as ASCII, with escapes), so that it can be put into
the header of an ECSV file or into a FITS file alike. What JSON does not know (NaN, tuples, arrays,
quantities, tables, the package's own classes) is an object with the single key ``"@kind"``.
"""

import dataclasses
import json
import math

import numpy as np
from astropy import units as u
from astropy.table import Column, MaskedColumn, QTable, Table

from .flags import FitFlags
from .values import FittedValue

__all__ = ["decode", "encode", "from_json", "to_json"]

# The images behind a fit are large, and belong to the MUSE image rather than to its result.
_NOT_WRITTEN = ("images", "stamps")


def to_json(value):
    """
    Return a value as one line of ASCII JSON.

    Parameters
    ----------
    value : object
        Whatever `encode` accepts.

    Returns
    -------
    str
    """
    return json.dumps(encode(value), ensure_ascii=True, allow_nan=False)


def from_json(text):
    """
    Return the value of a JSON text that `to_json` made.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    object
        Results come back as the dict of their attributes, with their class under ``"class"``.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the text is something else.
    """
    return decode(json.loads(text))


def encode(value):
    """
    Reduce a value to what JSON can hold.

    Parameters
    ----------
    value : object
        Numbers, texts, containers, arrays, quantities, units, tables of such columns,
        `FittedValue`, `FitFlags`, and results. Anything else becomes its text.

    Returns
    -------
    object
    """
    for kind, encoder in _ENCODERS:
        if isinstance(value, kind):
            return encoder(value)
    return _encode_fields(value) if dataclasses.is_dataclass(value) else str(value)


def decode(value):
    """
    Undo `encode`.

    Parameters
    ----------
    value : object
        What `encode` returned, perhaps after a passage through JSON.

    Returns
    -------
    object
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(key, content)] = value.items()
        if key.startswith("@"):
            return _DECODERS[key](content)
    return {key: decode(item) for key, item in value.items()}


def _encode_float(value):
    value = float(value)
    return value if math.isfinite(value) else {"@float": str(value)}


def _encode_dict(value):
    # A key that is no text, or that could be taken for one of ours, goes the long way.
    if all(isinstance(key, str) and not key.startswith("@") for key in value):
        return {key: encode(item) for key, item in value.items()}
    return {"@dict": [[encode(key), encode(item)] for key, item in value.items()]}


def _encode_array(value):
    return {"@array": [value.dtype.str, list(value.shape), _flat(value)]}


def _flat(array):
    """Return the elements of an array in C order."""
    return [encode(item) for item in np.ravel(array).tolist()]


def _decode_array(content):
    dtype, shape, items = content
    if np.dtype(dtype).kind == "O":
        array = np.empty(len(items), dtype=object)
        array[:] = [decode(item) for item in items]
        return array.reshape(shape)
    return np.array([decode(item) for item in items], dtype=dtype).reshape(shape)


def _encode_unit(unit):
    # The text of a unit would give its scale in few digits.
    scale = getattr(unit, "scale", 1.0)
    text = unit.to_string() if scale == 1.0 else u.Unit(unit / scale).to_string()
    return {"@unit": [scale, text]}


def _decode_unit(content):
    scale, text = content
    # It was written by astropy, so that no other spelling has to be understood.
    unit = u.Unit(text)
    return unit if scale == 1.0 else u.Unit(scale * unit)


def _encode_quantity(value):
    return {"@quantity": [encode(np.asarray(value.value)), encode(value.unit)]}


def _decode_quantity(content):
    return u.Quantity(*map(decode, content))


def _encode_table(table):
    """Return a table column by column: texts may hold what would break the rows of a file."""
    columns = [_encode_column(name, table[name]) for name in table.colnames]
    kind = "QTable" if isinstance(table, QTable) else "Table"
    return {"@table": {"class": kind, "columns": columns, "meta": encode(dict(table.meta))}}


def _encode_column(name, column):
    if not isinstance(column, u.Quantity | np.ndarray):
        column = np.array([str(item) for item in column])  # a mixin, such as coordinates
    mask = np.asarray(column.mask) if isinstance(column, np.ma.MaskedArray) else None
    content = np.asarray(column.data if mask is not None else column)
    info = getattr(column, "info", None)
    number_format = getattr(info, "format", None)
    return {
        "name": name,
        "data": encode(content),
        "mask": encode(mask),
        "unit": encode(getattr(column, "unit", None)),
        "description": getattr(info, "description", None),
        # It may be a function, which has no place in a file.
        "format": number_format if isinstance(number_format, str) else None,
    }


def _decode_table(content):
    kind = QTable if content["class"] == "QTable" else Table
    table = kind(meta=decode(content["meta"]))
    for entry in content["columns"]:
        table[entry["name"]] = _decode_column(entry, quantities=kind is QTable)
    return table


def _decode_column(entry, quantities):
    data, mask, unit = (decode(entry[key]) for key in ("data", "mask", "unit"))
    # Files of the first versions say nothing about the format of numbers.
    options = {"description": entry["description"], "format": entry.get("format")}
    if mask is not None:
        return MaskedColumn(data, mask=mask, unit=unit, **options)
    if not (quantities and unit is not None):
        return Column(data, unit=unit, **options)
    column = u.Quantity(data, unit)
    column.info.description, column.info.format = options["description"], options["format"]
    return column


def _encode_fields(value):
    """Return the attributes of a result with the name of its class."""
    names = [field.name for field in dataclasses.fields(value)]
    fields = {name: encode(getattr(value, name)) for name in names if name not in _NOT_WRITTEN}
    return {"class": type(value).__name__, **fields}


def _encode_value(value):
    return {"@value": [encode(value.value), encode(value.stdev), value.fixed]}


# The first kind that fits counts: flags are integers too, quantities are arrays.
_ENCODERS = (
    (FitFlags, lambda value: {"@flags": str(value)}),
    (FittedValue, _encode_value),
    (bool | int | str | None, lambda value: value),
    (float, _encode_float),
    (complex, lambda value: {"@complex": [encode(value.real), encode(value.imag)]}),
    (bytes, lambda value: {"@bytes": value.decode("latin-1")}),
    (u.Quantity, _encode_quantity),
    (u.UnitBase | u.function.FunctionUnitBase, _encode_unit),
    (Table, _encode_table),
    (np.generic, lambda value: encode(value.item())),
    (np.ndarray, _encode_array),
    (dict, _encode_dict),
    (list, lambda value: [encode(item) for item in value]),
    (tuple, lambda value: {"@tuple": [encode(item) for item in value]}),
    (set | frozenset, lambda value: {"@set": [encode(item) for item in sorted(value, key=repr)]}),
)

_DECODERS = {
    "@flags": FitFlags.from_names,
    "@value": lambda content: FittedValue(decode(content[0]), decode(content[1]), content[2]),
    "@float": float,
    "@complex": lambda content: complex(*map(decode, content)),
    "@bytes": lambda content: content.encode("latin-1"),
    "@quantity": _decode_quantity,
    "@unit": _decode_unit,
    "@table": _decode_table,
    "@array": _decode_array,
    "@dict": lambda content: {decode(key): decode(item) for key, item in content},
    "@tuple": lambda content: tuple(map(decode, content)),
    "@set": lambda content: set(map(decode, content)),
}
