//! Mistakes planted on purpose. A simulation that does not notice them proves nothing.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One planted mistake. Those of the planner are planted around it: in what it sees, or in what it asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

impl Bug {
    /// The one of that name, as `{:?}` prints it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| format!("{bug:?}") == name)
    }
}

bugs! {
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
    /// Nobody counts the renewals of the lease: a store that was put back and holds the same intent is believed.
    RenewalsUncounted,
    /// What a primary tells while the store is silent is written down by nobody.
    NotesForgotten,
    /// What a disk is known to have had is remembered by nobody: neither the store's floors nor the intent's are looked at.
    FloorsForgotten,
    /// A member of the sync sets counts although it has less than the primary saw it confirm.
    CountedBelowFloor,
    /// A candidate whose disk went back after it was declared is promoted.
    PromotedBelowFloor,
    /// A stopped primary is taken for one that its agent saw end: its disk cannot have gone back.
    WentBackStarted,
    /// After a start of its host an agent gives its word, and attests what it remembers, before it knows the present term.
    MemoryBelieved,
    /// After a start of its host an agent is recruited at once, whatever word it may have given and forgotten. The exhaustive model catches it;
    /// here it shows in one of some ten thousand schedules, which is too rare for the tests.
    RecruitedAtBoot,
    /// After a start of its host a primary asks those for their word whom its disk lists. The exhaustive model shows what comes of it;
    /// no seed of this simulation has so far.
    ListBelieved,
    /// A fence is attested while processes of the server are left.
    FenceLeavesProcesses,
    /// The guard is armed in async only.
    GuardOnlyAsync,
    /// The lease is counted from the store's answer, not from before the request.
    LeaseFromReply,
    /// A right that had run out is taken from the store again without a question to those who may know better.
    LapsedUnasked,
    /// A recruit does not wait until the word given to the old primary has run out.
    WordNotKept,
    /// A member forgets the word it gave when it is started anew.
    WordForgotten,
    /// A node counts as promotable before the primary's agent has noted it.
    PromotableUnconfirmed,
    /// A renewal of the primary lease is not guarded by the reign.
    RenewalUnguarded,
    /// A set of several that shrinks is stored as shrunk at once, in the order that is right for a pair.
    JointSkipped,
    /// A member of the set that is down is cloned instead of led on.
    MemberRecloned,
    /// The old primary is declared again although a candidate was declared.
    OldDeclaredAgain,
    /// The least advanced recruit is declared.
    LeastAdvanced,
    /// A recruit attests with the position that was last seen, before it was cut.
    StaleAttest,
    /// A leader that was stalled takes what it did not hear meanwhile for silence.
    SilenceAfterStall,
    /// The primary's own member replaces the intent without compare-and-swap.
    AmendBlind,
    /// A rescue attests the position before what it brought is applied.
    RescueAttestedEarly,
    /// A rescue that broke off counts as one that brought everything.
    RescueHalf,
}
