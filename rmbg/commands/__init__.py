"""The commands of the command line, one small module each, in one literal table.

A command is a module with ``add_arguments(parser)`` and ``run(arguments)``; the first line of its docstring is its help.
"""

from types import ModuleType

from rmbg.commands import benchmark, compare, download, providers, remove, replace, serve, spent

COMMANDS: dict[str, ModuleType] = {
    "remove": remove,
    "replace": replace,
    "compare": compare,
    "benchmark": benchmark,
    "providers": providers,
    "spent": spent,
    "download": download,
    "serve": serve,
}
