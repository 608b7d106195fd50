//! The rules of SAFETY.md, each a switch.
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
    /// The same for a removal: the next set, then PostgreSQL, then proof, then the set.
    pub(crate) removal_is_announced_first: bool,
    /// Whoever stays has flushed past the primary's position of the proof before a removal is settled.
    pub(crate) removal_is_proven: bool,
    /// A change that was announced is carried through, or both sets are emptied; it is not taken back in one write.
    pub(crate) removal_is_carried_through: bool,
    /// The primary's agent that empties the set by itself writes the store before PostgreSQL.
    pub(crate) shrink_is_stored_first: bool,
    /// A node in either set is not cloned.
    pub(crate) members_are_not_cloned: bool,
    /// With ANY 1, every member of a set is recruited, not just one of them.
    pub(crate) all_members_are_recruited: bool,
    /// Of the recruits, the most advanced is declared.
    pub(crate) most_advanced_is_declared: bool,
    /// Of the recruits of both sets, that is: while a set moves, one that is only in the next may be ahead.
    pub(crate) positions_of_both_sets_count: bool,
    /// Of another history no position counts: who lacks the last switch is no heir.
    pub(crate) heir_shares_the_history: bool,
    /// Nor is it counted as a member that has caught up.
    pub(crate) member_shares_the_history: bool,
    /// The write that declares a primary empties the sets.
    pub(crate) declare_empties_the_set: bool,
    /// Without a promise to rely on, the old primary's agent must attest that it is fenced.
    pub(crate) empty_set_needs_a_fence: bool,
    /// An old primary may be passed with a loss only if a set is empty, whatever the name of the mode.
    pub(crate) set_decides_the_way: bool,
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
    /// The store takes a renewal only from the primary of the stored epoch.
    pub(crate) renewal_is_guarded: bool,
    /// A lease is counted from before its request, not from the answer.
    pub(crate) lease_counts_from_request: bool,
    /// A lease has run out when its time has passed since the last renewal, not when its key is gone.
    pub(crate) vanished_key_proves_nothing: bool,
    /// The lease way is for async: in a sync mode whoever follows must hold everything, and only a fence tells.
    pub(crate) lease_way_is_for_async: bool,
    /// The guard stops a primary without the right to serve in every mode.
    pub(crate) guard_in_every_mode: bool,
    /// Who vouched is neither recruited nor promoted until that has run out.
    pub(crate) vouch_is_honoured: bool,
    /// A vouch binds after a restart, too.
    pub(crate) vouch_survives_restart: bool,
    /// Who has promised a higher epoch does not vouch.
    pub(crate) vouch_needs_the_latest_epoch: bool,
    /// Every promotable node must vouch, not just one of them.
    pub(crate) all_promotable_vouch: bool,
    /// Only a promotable node is promoted.
    pub(crate) heir_is_promotable: bool,
    /// The write that declares a primary makes nobody promotable under it.
    pub(crate) declare_empties_the_promotable: bool,
    /// A node that is no longer promotable is so in the store before the primary's agent forgets it.
    pub(crate) promotable_is_stored_before_forgotten: bool,
    /// A node becomes promotable once the primary's agent has noted it.
    pub(crate) promotable_is_noted_first: bool,
    /// Whom the primary's agent is to note is in the store first, under a version of its own.
    pub(crate) promotable_is_announced_first: bool,
    /// While nobody watches over the primary, nobody is promoted without a person.
    pub(crate) unattended_is_not_promoted: bool,
    /// The guard is disarmed once the store says that nobody watches.
    pub(crate) disarmed_once_unattended: bool,
    /// Only the primary's own agent says that it is back, and who tried to leaves anew before its guard is disarmed.
    pub(crate) leave_is_written_anew: bool,
    /// The store says that somebody watches once the guard is armed and the lease renewed.
    pub(crate) attended_once_armed: bool,
    /// A store that is older than what any agent promised is not believed.
    pub(crate) old_store_is_not_believed: bool,
    /// Nor one that is older than what any member has seen, though no agent has promised it yet.
    pub(crate) members_remember_the_store: bool,
    /// Whoever remembers a later state of the store is heard before the store is believed.
    pub(crate) who_remembers_is_heard: bool,
    /// An agent knows the store by an identity that a copy does not have, and renews its lease in no other.
    pub(crate) store_has_an_identity: bool,
    /// Accepting a store begins a new life of it, above whatever was promised.
    pub(crate) accept_begins_a_new_life: bool,
    /// Accepting a store empties its sets.
    pub(crate) accept_empties_the_set: bool,
    /// An accepted store is unattended until the primary's own agent says otherwise.
    pub(crate) accept_is_unattended: bool,
    /// Accepting a store waits until every agent has promised the new life of it.
    pub(crate) accept_is_promised_first: bool,
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
        removal_is_announced_first: true,
        removal_is_proven: true,
        removal_is_carried_through: true,
        shrink_is_stored_first: true,
        members_are_not_cloned: true,
        all_members_are_recruited: true,
        most_advanced_is_declared: true,
        positions_of_both_sets_count: true,
        heir_shares_the_history: true,
        member_shares_the_history: true,
        declare_empties_the_set: true,
        empty_set_needs_a_fence: true,
        set_decides_the_way: true,
        heir_holds_everything: true,
        heir_is_recruited: true,
        candidate_is_point_of_no_return: true,
        candidate_is_asked_before_passed_over: true,
        closed_until_names_in_force: true,
        no_serve_during_handover: true,
        renewal_is_guarded: true,
        lease_counts_from_request: true,
        vanished_key_proves_nothing: true,
        lease_way_is_for_async: true,
        guard_in_every_mode: true,
        vouch_is_honoured: true,
        vouch_survives_restart: true,
        vouch_needs_the_latest_epoch: true,
        all_promotable_vouch: true,
        heir_is_promotable: true,
        declare_empties_the_promotable: true,
        promotable_is_stored_before_forgotten: true,
        promotable_is_noted_first: true,
        promotable_is_announced_first: true,
        unattended_is_not_promoted: true,
        disarmed_once_unattended: true,
        leave_is_written_anew: true,
        attended_once_armed: true,
        old_store_is_not_believed: true,
        members_remember_the_store: true,
        who_remembers_is_heard: true,
        store_has_an_identity: true,
        accept_begins_a_new_life: true,
        accept_empties_the_set: true,
        accept_is_unattended: true,
        accept_is_promised_first: true,
    };
}
