# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands. This is the only room that prints.

Nothing heavy is imported before a command has understood its arguments: ``--help`` answers at once.
"""
