"""Remaining TTLs against the client's own clock, because the two servers do not run at the same pace."""

# An outage is not counted against a lease, nor are the last seconds before it that Leasehold had not yet recorded.
UNRECORDED_SECONDS = 11
CLOCK_SECONDS = 0.1


class LeaseTimes:
    """What one server's client knows of its leases: when they were granted or renewed last."""

    def __init__(self, is_control):
        self.is_control = is_control
        # {lease: (when the renewal was sent, when it was answered, the outages since)}
        self._renewals = {}

    def learn(self, method, answer, asked, answered):
        """Takes note of a renewal. A remaining TTL that fits to it is replaced by the granted one, so that the answers
        of two servers can be compared; one that is too short or too long stays and will be seen."""
        if answer is None:
            return
        if method in ("LeaseGrant", "LeaseKeepAlive") and answer.TTL > 0:
            self._renewals[answer.ID] = (asked, answered, 0)
        elif method == "LeaseTimeToLive" and answer.ID in self._renewals and answer.TTL >= 0:
            least, most = self._bounds(answer, asked, answered)
            if least - 1 - CLOCK_SECONDS <= answer.TTL <= most + CLOCK_SECONDS:
                answer.TTL = answer.grantedTTL

    def _bounds(self, answer, asked, answered):
        sent, acknowledged, outages = self._renewals[answer.ID]
        least, most = answer.grantedTTL - (answered - sent), answer.grantedTTL - (asked - acknowledged)
        if outages:
            # etcd gives every lease its full TTL again.
            most = answer.grantedTTL if self.is_control else min(most + outages, answer.grantedTTL)
        return least, most

    def add_outage(self, seconds):
        for lease, (sent, acknowledged, outages) in self._renewals.items():
            self._renewals[lease] = (sent, acknowledged, outages + seconds + UNRECORDED_SECONDS)
