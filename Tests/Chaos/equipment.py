"""Libraries that are loaded into members: a wall clock that jumps, and a disk that is slow, stuck, full or broken."""

import shared
from preloads import compiled, faketime_library


class Equipment:
    def __init__(self, space, profile):
        self.space = space
        self.clock_library = faketime_library() if profile.takes_preloads else None
        self.disk_library = compiled(space, "failing_disk") if profile.takes_preloads else None
        self.timer_library = compiled(space, "steady_timers") if self.clock_library else None

    @property
    def _libraries(self):
        return self.disk_library, self.timer_library, self.clock_library

    def equip(self, member):
        """`env` because libfaketime changes the environment."""
        libraries = [str(library) for library in self._libraries if library]
        if not libraries:
            return
        member.prefix = ["/usr/bin/env"]
        # A member that must end ends at once: looking up names for its last words can take a minute on a busy machine.
        member.environment = {
            "LD_PRELOAD": ":".join(libraries), "FAIL_ARM": str(self.disk_setting(member)),
            "SWIFT_BACKTRACE": "symbolicate=off"}
        if self.clock_library:
            # Wall clock only: a kernel never moves the monotonic one.
            self._clock_setting(member).write_text("+0")
            member.environment |= {
                "FAKETIME_TIMESTAMP_FILE": str(self._clock_setting(member)), "FAKETIME_NO_CACHE": "1",
                "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def _clock_setting(self, member):
        return self.space / f"{member.name}.faketime"

    def shift_clock(self, member, seconds):
        fresh = self.space / f"{member.name}.faketime.new"
        fresh.write_text(f"{seconds:+d}")
        fresh.rename(self._clock_setting(member))

    def disk_setting(self, member):
        """Where failing_disk.so reads what the disk does; a healthy one's file is not there."""
        return self.space / f"{member.name}.disk"

    def heal(self, members):
        for member in members:
            self.disk_setting(member).unlink(missing_ok=True)
