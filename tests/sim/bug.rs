//! Mistakes planted on purpose. A simulation that does not notice them proves nothing.

impl Bug {
    pub(crate) const ALL: [Self; 10] = [
        Self::NoCompareAndSwap,
        Self::NoLeaderGuard,
        Self::StaleEpoch,
        Self::LateSameEpoch,
        Self::NamesShown,
        Self::RecruitForgotten,
        Self::PromiseNotKept,
        Self::OldStoreBelieved,
        Self::PositionsForgotten,
        Self::FenceLeavesProcesses,
    ];

    /// The one of that name, as `{:?}` prints it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
    }
}

/// One planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The store takes an intent whatever it was based on.
    NoCompareAndSwap,
    /// The store takes a write of a leader that was deposed.
    NoLeaderGuard,
    /// Agents carry out orders of an earlier epoch.
    StaleEpoch,
    /// Agents carry out late orders of the same epoch.
    LateSameEpoch,
    /// Names that a session shows are taken for names in force.
    NamesShown,
    /// A recruited standby streams from the old primary again after its member restarted.
    RecruitForgotten,
    /// The promise is kept in memory only.
    PromiseNotKept,
    /// A store restored from a copy is believed, against what the agents remember.
    OldStoreBelieved,
    /// Nobody compares a standby's position with what it had reported before its disk went back in time.
    PositionsForgotten,
    /// A fence is attested while processes of the server are left.
    FenceLeavesProcesses,
}
