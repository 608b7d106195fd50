//! The rules of SAFETY.md, each a switch, and how far the world around them may go.
//! Locum is [`Rules::ALL`]; a planted bug is one switch off.

/// Which rules are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The store replaces the intent only if it still is the one that the change was decided on.
    pub(crate) compare_and_swap: bool,
    /// An agent refuses an order whose version is below its promise, also within one epoch.
    pub(crate) version_is_checked: bool,
    /// An agent refuses to promote under an epoch below its promise.
    pub(crate) promote_checks_epoch: bool,
    /// The promise is on disk before the agent answers.
    pub(crate) promise_is_persisted: bool,
    /// A recruit starts cut from the old primary after its own restart, too.
    pub(crate) recruit_is_persisted: bool,
    /// Names count once a commit was seen waiting for them, not once they are shown.
    pub(crate) names_are_proven_in_force: bool,
    /// A standby joins the set once it has flushed past the primary's position of the proof.
    pub(crate) member_is_caught_up: bool,
    /// The proof begins once the agent of the standby that joins has promised the version that announced it.
    pub(crate) member_has_promised: bool,
    /// The store names the next set before PostgreSQL does.
    pub(crate) set_is_announced_first: bool,
    /// While the set is changing, a failover must satisfy the old and the next one.
    pub(crate) both_sets_are_satisfied: bool,
    /// A removal that was announced is carried through; it is not taken back in one write.
    pub(crate) removal_is_carried_through: bool,
    /// A node in either set is not cloned.
    pub(crate) members_are_not_cloned: bool,
    /// The write that declares a primary empties the sets.
    pub(crate) declare_empties_the_set: bool,
    /// Without a promise to rely on, the old primary's agent must attest that it is fenced.
    pub(crate) empty_set_needs_a_fence: bool,
    /// In a sync mode, a fenced primary is followed only by a standby that holds everything it had.
    pub(crate) heir_holds_everything: bool,
    /// Whoever is to be promoted is recruited before positions are compared, whichever way the pen is taken.
    pub(crate) heir_is_recruited: bool,
    /// Once a candidate is declared, the old primary is not declared again over its head.
    pub(crate) candidate_is_point_of_no_return: bool,
    /// A candidate that never promoted is passed over only after its agent has promised the next epoch.
    pub(crate) candidate_is_asked_before_passed_over: bool,
    /// A primary that started lets clients in once its names are in force.
    pub(crate) closed_until_names_in_force: bool,
    /// A primary that is being handed over is not started again on the same version.
    pub(crate) no_serve_during_handover: bool,
}

impl Rules {
    /// Locum.
    pub(crate) const ALL: Self = Self {
        compare_and_swap: true,
        version_is_checked: true,
        promote_checks_epoch: true,
        promise_is_persisted: true,
        recruit_is_persisted: true,
        names_are_proven_in_force: true,
        member_is_caught_up: true,
        member_has_promised: true,
        set_is_announced_first: true,
        both_sets_are_satisfied: true,
        removal_is_carried_through: true,
        members_are_not_cloned: true,
        declare_empties_the_set: true,
        empty_set_needs_a_fence: true,
        heir_holds_everything: true,
        heir_is_recruited: true,
        candidate_is_point_of_no_return: true,
        candidate_is_asked_before_passed_over: true,
        closed_until_names_in_force: true,
        no_serve_during_handover: true,
    };
}

/// How far the world may go. Within them the search is exhaustive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The highest epoch. The first is 1.
    pub(crate) epochs: u8,
    /// The highest version. The first is 1.
    pub(crate) versions: u8,
    /// Commits in all, on whichever node.
    pub(crate) commits: u8,
    /// Ends of a server, or of an agent between its promise and the deed, on whichever node.
    pub(crate) crashes: u8,
    /// Orders that are under way for long, at any one time.
    pub(crate) late_orders: usize,
    /// A change of the intent may reach the store long after it was decided.
    pub(crate) late_writes: bool,
    /// The set may be changed.
    pub(crate) set_changes: bool,
    /// Switchovers in all.
    pub(crate) handovers: u8,
    /// Clones in all.
    pub(crate) clones: u8,
    /// Changes of the durability in all.
    pub(crate) durability_changes: u8,
    /// The cluster begins with its standby in the set.
    pub(crate) begins_in_sync: bool,
}

impl Bounds {
    /// A small world: one failover, one late order.
    pub(crate) const SMALL: Self = Self {
        epochs: 2,
        versions: 7,
        commits: 1,
        crashes: 0,
        late_orders: 1,
        late_writes: false,
        set_changes: true,
        handovers: 0,
        clones: 0,
        durability_changes: 0,
        begins_in_sync: true,
    };
}

/// A world to search: what is kept, and how far it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// What is kept.
    pub(crate) rules: Rules,
    /// How far it goes.
    pub(crate) bounds: Bounds,
}
