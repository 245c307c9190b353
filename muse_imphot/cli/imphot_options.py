# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
For scripts that were written with imphot: a parser with the options of its functions, and what of
the parsed options a function takes.
"""

from types import SimpleNamespace

from .arguments import Parser, add_fit
from .hst_options import hst_options
from .values import number

__all__ = ["FIT_BOTH", "FIT_IMAGE", "FIT_STAR", "ImphotArgumentParser", "extract_function_args"]

# What a script fits; imphot's numbers.
FIT_IMAGE, FIT_STAR, FIT_BOTH = 1, 2, 3

# Options that only the fit of an image has, by their destinations.
_IMAGE_ONLY = (
    *("regions", "segment", "fix_scale", "fix_bg", "fix_dx", "fix_dy", "margin", "taper", "save"),
    *("extramask", "free", "keep_outliers", "keep_noise_bias", "init_dx", "init_dy", "max_offset"),
)


class ImphotArgumentParser(Parser):
    """
    An argument parser that has the options of the fits, to which a script adds its own.

    Parameters
    ----------
    functions : int
        `FIT_IMAGE`, `FIT_STAR` or `FIT_BOTH`: the options of which functions there are.
    **kwargs
        As for `argparse.ArgumentParser`.

    Examples
    --------
    >>> from muse_imphot import FIT_IMAGE, ImphotArgumentParser, extract_function_args
    >>> from muse_imphot import fit_image_photometry
    >>> parser = ImphotArgumentParser(FIT_IMAGE)
    >>> options = parser.parse_args(["--fix_beta", "2.8", "--segment"])
    >>> found = extract_function_args(options, fit_image_photometry)
    >>> found["fix_beta"], found["segment"]
    (2.8, True)
    """

    def __init__(self, functions=FIT_BOTH, **kwargs):
        if functions not in (FIT_IMAGE, FIT_STAR, FIT_BOTH):
            raise ValueError(
                f"functions: found {functions!r}; FIT_IMAGE, FIT_STAR or FIT_BOTH is needed"
            )
        super().__init__(**kwargs)
        self.functions = functions
        add_fit(self, spelling="_", fix_beta=2.5, regions="star")
        add_imphot_output(self)
        add_imphot_masks(self)
        if functions == FIT_STAR:
            self._leave_out(_IMAGE_ONLY)

    def _leave_out(self, names):
        """Take options away again."""
        for action in [action for action in self._actions if action.dest in names]:
            for option in action.option_strings:
                del self._option_string_actions[option]
            self._remove_action(action)
            for group in self._action_groups:
                if action in group._group_actions:
                    group._group_actions.remove(action)


def add_imphot_output(parser):
    """
    Add what imphot's fits leave behind.

    Parameters
    ----------
    parser : `argparse.ArgumentParser`
        The parser.

    Returns
    -------
    group
        The group of these options.
    """
    output = parser.add_argument_group("output (named after the MUSE image)")
    output.add_argument("--hardcopy", metavar="FORMAT", default="none", help="draw a figure: pdf")
    output.add_argument("--title", metavar="TEXT", help="its title (default: the name)")
    output.add_argument("--display", action="store_true", help="show the figure")
    output.add_argument("--nowait", action="store_true", help="do not wait until it is closed")
    output.add_argument("--save", action="store_true", help="write image, model, residual, FFTs")
    output.add_argument("--apply", action="store_true", help="write the corrected image")
    output.add_argument("--resample", action="store_true", help="with --apply: move its pixels")
    return output


def add_imphot_masks(parser):
    """
    Add the options of imphot that other commands do not have.

    Parameters
    ----------
    parser : `argparse.ArgumentParser`
        The parser.
    """
    other = parser.add_argument_group("other")
    other.add_argument("--segment", action="store_true", help="leave out the faint half of HST")
    other.add_argument("--margin", type=number, metavar="ARCSEC", help="accepted; has no effect")
    other.add_argument("--taper", type=number, metavar="PIXELS", help="accepted; has no effect")


def extract_function_args(options, function):
    """
    Return those options that a function takes.

    Parameters
    ----------
    options : `argparse.Namespace` or dict
        Options by name.
    function : callable
        The function; for a class, what makes its objects.

    Returns
    -------
    dict
        Keyword arguments, by the names in the signature of the function. ``regions`` that speak of
        a star are None if there is no star.
    """
    from .._methods import accepted

    values = dict(options if isinstance(options, dict) else vars(options))
    if values.get("star") is None and values.get("regions") in ("star", "notstar"):
        values["regions"] = None  # without a star, all pixels
    if "hst_psf" in values and "hst_weight" in values:
        given = hst_options(SimpleNamespace(**values))
        values |= {name: given.get(name) for name in ("hst_psf", "hst_weight")}
    switches = {"keep_outliers": "reject", "keep_noise_bias": "correct_template_noise"}
    for option, name in switches.items():
        if option in values:
            values[name] = not values[option]
    if values.get("free", ()) is None:
        values["free"] = ()
    if values.get("max_offset", 0.0) is None:
        del values["max_offset"]  # the function has a default
    return accepted(function, values)
