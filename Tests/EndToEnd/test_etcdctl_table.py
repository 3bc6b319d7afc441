"""The same command lines of etcdctl 3.4 against Debian's etcd and against Leasehold: every subcommand and every option that
etcdctl's own help names. Both transcripts must be equal, but for what the table lists as a deviation and why.

ETCDCTL_TRANSCRIPTS=FOLDER keeps both transcripts of each script there."""

import concurrent.futures
import difflib
import os
import re
import sys
import unittest

import etcdctl_help
from etcdctl_auth_table import AUTH_SCRIPTS
from etcdctl_session import FORMATS_OPTION, Session, command_lines
from etcdctl_sides import PROGRAMS, Side
from etcdctl_table import FORMATS, SCRIPTS
from harness import PKI, Workspace

SHOWN_LINES = 120


class Table(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.help = etcdctl_help.read_help()
        space = Workspace()
        cls.addClassCleanup(space.close)
        cls.pki = PKI(space / "pki")
        cls.pki.other = PKI(space / "other-pki").authority
        cls.pool = concurrent.futures.ThreadPoolExecutor(4)
        cls.addClassCleanup(cls.pool.shutdown)
        # What takes a minute whatever the server does goes on while the others run.
        chosen = [name for name in sys.argv if "Table.test_" in name]
        cls.begun = {
            script.name: cls.begin(script) for script in SCRIPTS.values()
            if script.is_long and (not chosen or any(name.endswith(script.name) for name in chosen))}

    @classmethod
    def begin(cls, script):
        """Runs a script at both, each on a thread: (workspace, both sessions in the future)."""
        space = Workspace()

        def run_on(program):
            side = Side(program, space, cls.pki, script.size, script.tls, script.flags).start()
            session = Session(side, cls.help, space)
            if script.prepare:
                script.prepare(session)
            session.perform(script.steps)
            return session
        return space, [cls.pool.submit(run_on, program) for program in PROGRAMS]

    def compare(self, script):
        space, runs = self.begun.pop(script.name, None) or self.begin(script)
        self.addCleanup(space.close)
        theirs, ours = [run.result() for run in runs]
        if folder := os.environ.get("ETCDCTL_TRANSCRIPTS"):
            for program, session in zip(PROGRAMS, (theirs, ours)):
                with open(f"{folder}/{self._testMethodName}-{program}", "w") as file:
                    file.write("\n".join(session.transcript))
        difference = list(difflib.unified_diff(
            theirs.transcript, ours.transcript, "etcd 3.4", "leasehold", lineterm="", n=3))
        self.assertFalse(difference, "\n" + "\n".join(line[:300] for line in difference[:SHOWN_LINES]))
        for (step, control), (_, product) in zip(theirs.deviations, ours.deviations):
            with self.subTest(step.line, deviation=step.deviation.reason):
                self.assertRegex(control, step.deviation.control)
                self.assertRegex(product, step.deviation.product)

    def require_auth(self):
        """Skips when Leasehold has no Auth service yet."""
        space = Workspace()
        self.addCleanup(space.close)
        said = Side("leasehold", space, self.pki).start().members[0].etcdctl("auth", "enable").stderr
        if "Unimplemented" in said:
            self.skipTest("the server has no Auth service")

    def test_every_subcommand_and_option_is_in_the_table(self):
        lines = [line for script in ALL_SCRIPTS.values() for line in command_lines(script.steps)]
        used, written = {}, set()
        for line in lines:
            command = self.help.command_of(line)
            if command:
                used.setdefault(command, set()).update(self.help.options_in(line))
                written.update(re.findall(FORMATS_OPTION, " ".join(line)))
        missing = [command for command in self.help.commands if command not in used]
        everywhere = set().union(*used.values())
        for command, options in self.help.commands.items():
            missing += [f"{command} {option.names[-1]}" for option in options
                        if option.names[-1] not in used.get(command, ())]
        missing += [option.names[-1] for option in self.help.everywhere if option.names[-1] not in everywhere]
        missing += [f"-w {name}" for name in FORMATS if name not in written]
        self.assertEqual(missing, [], "no script of the table has these")


def test_of(script, needs_auth):
    def test(self):
        if needs_auth:
            self.require_auth()
        self.compare(script)
    return test


ALL_SCRIPTS = {**SCRIPTS, **AUTH_SCRIPTS}
for name, script in ALL_SCRIPTS.items():
    script.name = name
    setattr(Table, f"test_{name}", test_of(script, needs_auth=name in AUTH_SCRIPTS))


if __name__ == "__main__":
    unittest.main()
