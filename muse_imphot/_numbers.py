# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""How options that are numbers, perhaps with a unit, are read."""

import numpy as np
from astropy import units as u

from .exceptions import UserError

__all__ = ["read_number"]


def read_number(name, value, unit=u.dimensionless_unscaled, above=-np.inf):
    """
    Return an option as a plain number.

    Parameters
    ----------
    name : str
        The option, for the message.
    value : float, `~astropy.units.Quantity` or None
        What was given.
    unit : `~astropy.units.Unit`, optional
        The unit that the number is to be in.
    above : float, optional
        What the number must exceed.

    Returns
    -------
    float or None
        None if nothing was given.

    Raises
    ------
    UserError
        If it is no finite number, too small, or in a unit that cannot be converted.
    """
    if value is None:
        return None
    try:
        number = float(value.to_value(unit) if isinstance(value, u.Quantity) else value)
    except (TypeError, ValueError, u.UnitConversionError) as exc:
        wanted = f"a number in {unit}" if unit != u.dimensionless_unscaled else "a plain number"
        raise UserError(f"{name}: {value!r} was given; {wanted} is needed") from exc
    if not np.isfinite(number) or number <= above:
        limit = f" above {above:g}" if np.isfinite(above) else ""
        raise UserError(f"{name}: {number:g} was given; a finite number{limit} is needed")
    return number
