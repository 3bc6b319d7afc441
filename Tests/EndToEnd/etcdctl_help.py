"""What etcdctl itself says that it can do: its subcommands and their options, read from its help."""

import re
from dataclasses import dataclass, field

from harness import run

ENVIRONMENT = {"ETCDCTL_API": "3"}


@dataclass
class Option:
    """`names`: with their dashes, "-w" and "--write-out"."""

    names: tuple
    is_flag: bool


@dataclass
class Help:
    """`commands`: options by subcommand ("lease grant"). `everywhere`: those that every subcommand has."""

    commands: dict = field(default_factory=dict)
    everywhere: list = field(default_factory=list)

    def command_of(self, arguments):
        """The subcommand that these arguments name, None when it is none."""
        words = self._behind_global_options(arguments)
        for count in (2, 1):
            name = " ".join(words[:count])
            if name in self.commands:
                return name
        return None

    def options_in(self, arguments):
        """Names of the options among the arguments of one subcommand; `--` and what comes behind it does not count."""
        command = self.command_of(arguments)
        known = {name: option for option in self.commands[command] + self.everywhere for name in option.names}
        used = set()
        words = iter(arguments)
        for word in words:
            if word == "--":
                break
            option = known.get(word.split("=")[0])
            if option:
                used.update(option.names)
                if "=" not in word and not option.is_flag:
                    next(words, None)
        return used


    def _behind_global_options(self, arguments):
        flags = {name: option.is_flag for option in self.everywhere for name in option.names}
        words = list(arguments)
        while words and words[0].startswith("-"):
            word = words.pop(0)
            if words and "=" not in word and flags.get(word) is False:
                words.pop(0)
        return words


def read_help():
    text = _help()
    found = Help()
    names = re.search(r"^COMMANDS:\n(.*?)\n\n", text, re.S | re.M)[1]
    for line in names.splitlines():
        found.commands[re.match(r"\t(\S+(?: \S+)*)\t", line)[1]] = []
    found.everywhere = _options(text, "OPTIONS")
    own = {option.names for option in found.everywhere}
    for command in found.commands:
        text = _help(*command.split())
        # An option of a group of subcommands (endpoint's --cluster) is listed as a global one.
        inherited = [option for option in _options(text, "GLOBAL OPTIONS") if option.names not in own]
        found.commands[command] = _options(text, "OPTIONS") + inherited
    return found


def _help(*command):
    done = run("etcdctl", *command, "--help", environment=ENVIRONMENT)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


def _options(text, section):
    """Lines such as `  -w, --write-out="simple"   set the output format`. `--help` is what is being read here."""
    block = re.search(rf"^{section}:\n(.*?)(?:\n\n|\Z)", text, re.S | re.M)
    options = []
    for line in block[1].splitlines() if block else []:
        names = re.match(r"\s+((?:-\w, )?--[\w-]+)(=\S*|\[=\S*\])", line)
        if names and "--help" not in names[1]:
            options.append(Option(tuple(names[1].split(", ")), names[2].startswith("[")))
    return options
