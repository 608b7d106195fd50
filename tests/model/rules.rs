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
    /// How far a standby was is not only what the present leader has seen. (Off: the first rule that Locum had.)
    pub(crate) floors_outlive_the_leader: bool,
    /// What the primary saw each standby flush is in the store, where no disk that goes back takes it along.
    pub(crate) floors_are_stored: bool,
    /// Also of a standby that is no longer connected when the renewal is made.
    pub(crate) floors_of_the_vanished_are_kept: bool,
    /// Within a timeline, a floor never goes down.
    pub(crate) floors_only_grow: bool,
    /// A floor is never beyond the primary's own position.
    pub(crate) floors_are_within_the_primary: bool,
    /// A member that is below its floor is no witness of what was acknowledged, unless the candidate contains that floor.
    pub(crate) members_are_at_their_floors: bool,
    /// Such a member must still be cut and have promised.
    pub(crate) members_below_their_floor_are_cut: bool,
    /// A floor is reached by position and timeline, not by position alone.
    pub(crate) timelines_of_floors_are_compared: bool,
    /// What is known of older timelines is cut to the place where the new one begins.
    pub(crate) floors_are_cut_at_the_switch: bool,
    /// A primary starts with the names that the intent lists, not with those in its data directory, which may be older.
    pub(crate) starts_with_the_names_of_the_intent: bool,
    /// A primary that is started in place writes where its recovery ended, and what was known above it is cut.
    pub(crate) starting_in_place_cuts: bool,
    /// Half of a record that is on the disk counts, though it is never replayed.
    pub(crate) torn_record_is_not_below: bool,
    /// An old primary below a floor of its sets, or below its own, is not started.
    pub(crate) primary_is_at_its_floor: bool,
    /// The position that the primary itself had reached is one of those.
    pub(crate) reached_is_judged: bool,
    /// Nor is it started while a standby of the same history that is heard has more.
    pub(crate) nobody_heard_is_ahead: bool,
    /// Nor is the end of its WAL taken for the end of what there was.
    pub(crate) fenced_primary_is_whole: bool,
    /// Nor is it declared again.
    pub(crate) reinstated_primary_is_whole: bool,
    /// A recruit, and the write that empties the sets for an old primary, raise what it must have.
    pub(crate) emptied_sets_raise_reached: bool,
    /// The position of a recruit is written as its floor.
    pub(crate) recruited_position_is_a_floor: bool,
    /// If its history has the last switch in it.
    pub(crate) recruited_floor_is_of_the_history: bool,
    /// The write that declares a candidate says how far it is.
    pub(crate) declaring_sets_reached: bool,
    /// It is not promoted below that, nor again in an epoch for which a lease was written.
    pub(crate) promotion_is_judged: bool,
    /// The write that settles a set carries the floors of who was proven.
    pub(crate) settling_writes_the_floor: bool,
    /// A candidate for whose epoch a lease was written was primary, whatever its data directory says.
    pub(crate) candidate_that_was_leased_is_not_passed_over: bool,
    /// An agent whose host started confirms and vouches nothing, and lets its standby stream nowhere, until it has read the intent.
    pub(crate) intent_is_read_in_this_life: bool,
    /// An agent whose host started may have vouched: it is neither recruited nor promoted for the time of a lease.
    pub(crate) grants_are_waited_for_after_a_start: bool,
    /// A primary whose host started serves on vouches once a renewal has told it who may be promoted.
    pub(crate) list_is_confirmed_after_a_start: bool,
    /// While the store is silent, the primary tells the others the floors, and they write them down.
    pub(crate) failsafe_carries_floors: bool,
    /// And how far it is itself.
    pub(crate) failsafe_carries_reached: bool,
    /// It notes them as well, and its next renewal carries what anybody noted.
    pub(crate) renewals_carry_the_notes: bool,
    /// After that nobody is promoted or started before one other who noted is heard.
    pub(crate) a_third_is_heard_after_failsafe: bool,
    /// The store counts its writes, members remember the count, and one below it is not believed.
    pub(crate) writes_are_counted: bool,
    /// All writes are counted, not just renewals.
    pub(crate) every_write_is_counted: bool,
    /// A data directory of a later epoch than the store's tells that the store went back, too.
    pub(crate) newer_directory_is_remembered: bool,
    /// Where the end of an old primary's WAL says nothing, because its disk went back, whoever follows has reached all that it is known
    /// to have had. (Not a switch that makes a bug: without it nobody follows.)
    pub(crate) heir_has_what_was_reached: bool,
    /// A standby that was cut off follows again only a primary of at least the epoch that its agent promised.
    pub(crate) follows_nobody_older_than_its_promise: bool,
    /// A standby that was started cut off is no recruit.
    pub(crate) cut_off_is_not_recruited: bool,
    /// It takes over by itself only where a set says what must be recruited.
    pub(crate) cut_off_needs_a_set: bool,
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
        floors_outlive_the_leader: true,
        floors_are_stored: true,
        floors_of_the_vanished_are_kept: true,
        floors_only_grow: true,
        floors_are_within_the_primary: true,
        members_are_at_their_floors: true,
        members_below_their_floor_are_cut: true,
        timelines_of_floors_are_compared: true,
        floors_are_cut_at_the_switch: true,
        starts_with_the_names_of_the_intent: true,
        starting_in_place_cuts: true,
        torn_record_is_not_below: true,
        primary_is_at_its_floor: true,
        reached_is_judged: true,
        nobody_heard_is_ahead: true,
        fenced_primary_is_whole: true,
        reinstated_primary_is_whole: true,
        emptied_sets_raise_reached: true,
        recruited_position_is_a_floor: true,
        recruited_floor_is_of_the_history: true,
        declaring_sets_reached: true,
        promotion_is_judged: true,
        settling_writes_the_floor: true,
        candidate_that_was_leased_is_not_passed_over: true,
        intent_is_read_in_this_life: true,
        grants_are_waited_for_after_a_start: true,
        list_is_confirmed_after_a_start: true,
        failsafe_carries_floors: true,
        failsafe_carries_reached: true,
        renewals_carry_the_notes: true,
        a_third_is_heard_after_failsafe: true,
        writes_are_counted: true,
        every_write_is_counted: true,
        newer_directory_is_remembered: true,
        heir_has_what_was_reached: true,
        follows_nobody_older_than_its_promise: true,
        cut_off_is_not_recruited: true,
        cut_off_needs_a_set: true,
    };
}
