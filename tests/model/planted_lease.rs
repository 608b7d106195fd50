//! Planted bugs of lease, vouches and guard.

use crate::{bounds::Bounds, planted::assert_caught, rules::Rules, set::Set, state::Durability};

/// In async: no sync set, and B promotable.
const ASYNC: Bounds = Bounds {
    leases: true,
    durability: Durability::Async,
    begins_with: Set::EMPTY,
    set_changes: false,
    versions: 3,
    late_orders: 0,
    ..Bounds::SMALL
};

#[test]
fn a_failover_that_does_not_wait_for_the_lease_is_caught() {
    let rules = Rules { empty_set_needs_a_fence: false, ..Rules::ALL };
    assert_caught("async: neither fence nor lease waited for", rules, ASYNC);
}

#[test]
fn a_renewal_that_is_not_guarded_by_the_epoch_is_caught() {
    let rules = Rules { renewal_is_guarded: false, ..Rules::ALL };
    assert_caught("lease renewed under an old epoch", rules, ASYNC);
}

#[test]
fn a_lease_counted_from_the_answer_is_caught() {
    let rules = Rules { lease_counts_from_request: false, ..Rules::ALL };
    assert_caught("lease counted from the answer", rules, ASYNC);
}

#[test]
fn a_vanished_key_taken_for_an_expired_lease_is_caught() {
    let rules = Rules { vanished_key_proves_nothing: false, ..Rules::ALL };
    assert_caught("vanished key taken for an expired lease", rules, ASYNC);
}

#[test]
fn a_lease_way_while_the_set_is_not_empty_is_caught() {
    let rules = Rules { set_decides_the_way: false, ..Rules::ALL };
    let bounds = Bounds { nodes: 3, promotable: Set::BC, begins_with: Set::B, ..ASYNC };
    assert_caught("lease way used though the set is not empty", rules, bounds);
}

#[test]
fn a_lease_way_in_a_sync_mode_is_caught() {
    let rules = Rules { lease_way_is_for_async: false, ..Rules::ALL };
    let bounds = Bounds { durability: Durability::Sync, ..ASYNC };
    assert_caught("lease way used in a sync mode with an empty set", rules, bounds);
}

#[test]
fn a_guard_only_in_async_is_caught() {
    let rules = Rules { guard_in_every_mode: false, ..Rules::ALL };
    let bounds = Bounds { durability: Durability::Sync, durability_changes: 1, versions: 4, ..ASYNC };
    assert_caught("guard only in async", rules, bounds);
}

// ---- vouches ----------------------------------------------------------------------------------

#[test]
fn a_vouch_that_is_not_honoured_is_caught() {
    let rules = Rules { vouch_is_honoured: false, ..Rules::ALL };
    assert_caught("vouch not honoured", rules, ASYNC);
}

#[test]
fn a_vouch_forgotten_at_a_restart_is_caught() {
    let rules = Rules { vouch_survives_restart: false, ..Rules::ALL };
    assert_caught("vouch forgotten at a restart", rules, ASYNC);
}

#[test]
fn a_vouch_by_who_knows_a_higher_epoch_is_caught() {
    let rules = Rules { vouch_needs_the_latest_epoch: false, ..Rules::ALL };
    assert_caught("vouch of a node that was recruited", rules, ASYNC);
}

#[test]
fn one_vouch_of_two_is_caught() {
    let rules = Rules { all_promotable_vouch: false, ..Rules::ALL };
    let bounds = Bounds { nodes: 3, promotable: Set::BC, ..ASYNC };
    assert_caught("one vouch of two promotable nodes", rules, bounds);
}

#[test]
fn a_promotion_of_a_node_that_is_not_promotable_is_caught() {
    let rules = Rules { heir_is_promotable: false, ..Rules::ALL };
    let bounds = Bounds { promotable: Set::EMPTY, ..ASYNC };
    assert_caught("a node promoted that is not promotable", rules, bounds);
}

#[test]
fn a_node_promotable_before_the_primary_noted_it_is_caught() {
    let rules = Rules { promotable_is_noted_first: false, ..Rules::ALL };
    let bounds = Bounds { promotable: Set::EMPTY, promotable_changes: true, versions: 5, ..ASYNC };
    assert_caught("promotable before the primary has noted it", rules, bounds);
}

#[test]
fn a_node_promotable_under_a_primary_that_never_noted_it_is_caught() {
    let rules = Rules { declare_empties_the_promotable: false, ..Rules::ALL };
    let bounds = Bounds { nodes: 3, promotable: Set::BC, epochs: 3, versions: 5, ..ASYNC };
    assert_caught("promotable nodes kept by a declare", rules, bounds);
}

#[test]
fn a_node_forgotten_by_the_primary_while_it_is_promotable_is_caught() {
    let rules = Rules { promotable_is_stored_before_forgotten: false, ..Rules::ALL };
    let bounds = Bounds { promotable_changes: true, ..ASYNC };
    assert_caught("forgotten by the primary while promotable", rules, bounds);
}

#[test]
fn a_note_that_shares_a_version_with_its_opposite_is_caught() {
    let rules = Rules { promotable_is_announced_first: false, ..Rules::ALL };
    let bounds =
        Bounds { promotable: Set::EMPTY, promotable_changes: true, versions: 5, late_orders: 1, ..ASYNC };
    assert_caught("noted and forgotten under one version", rules, bounds);
}

// ---- stops in order, and the set that the primary's agent empties ------------------------------

#[test]
fn a_promotion_while_unattended_is_caught() {
    let rules = Rules { unattended_is_not_promoted: false, ..Rules::ALL };
    assert_caught("promoted while unattended", rules, Bounds { leaves: 1, versions: 4, ..ASYNC });
}

#[test]
fn a_guard_disarmed_before_the_store_knows_is_caught() {
    let rules = Rules { disarmed_once_unattended: false, ..Rules::ALL };
    assert_caught("guard disarmed before the store says unattended", rules, Bounds { leaves: 1, ..ASYNC });
}

#[test]
fn a_return_before_the_guard_is_armed_is_caught() {
    let rules = Rules { attended_once_armed: false, ..Rules::ALL };
    let bounds = Bounds { leaves: 1, versions: 5, ..ASYNC };
    assert_caught("attended again before the guard is armed", rules, bounds);
}

#[test]
fn a_return_that_is_still_under_way_at_the_next_stop_is_caught() {
    let rules = Rules { leave_is_written_anew: false, ..Rules::ALL };
    let bounds = Bounds { leaves: 1, versions: 5, late_writes: true, ..ASYNC };
    assert_caught("stop that finds the store unattended already", rules, bounds);
}

#[test]
fn a_set_that_the_agent_empties_before_the_store_is_caught() {
    let rules = Rules { shrink_is_stored_first: false, ..Rules::ALL };
    assert_caught("names emptied by the agent alone", rules, Bounds { self_shrinks: true, ..Bounds::SMALL });
}
