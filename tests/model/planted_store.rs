//! Planted bugs around a store that is put back from a copy.

use crate::{
    bounds::{Bounds, World},
    planted::{assert_broken, assert_caught},
    properties::Property,
    rules::Rules,
    search::search,
    set::Set,
    state::Durability,
};

/// A pair in sync; a copy of the store is put back once.
const PUT_BACK: Bounds = Bounds { restores: 1, versions: 5, ..Bounds::SMALL };

#[test]
fn an_old_store_that_is_believed_is_caught() {
    let rules = Rules { old_store_is_not_believed: false, ..Rules::ALL };
    assert_caught("old store believed", rules, Bounds { late_orders: 0, ..PUT_BACK });
}

#[test]
fn a_store_that_only_agents_remember_is_caught() {
    let rules = Rules { members_remember_the_store: false, ..Rules::ALL };
    assert_caught("old store believed, as no agent has promised what it lacks", rules, PUT_BACK);
}

#[test]
fn an_accepted_store_that_keeps_its_set_is_caught() {
    let rules = Rules { accept_empties_the_set: false, ..Rules::ALL };
    assert_caught("accepted store keeps its set", rules, Bounds { late_orders: 0, ..PUT_BACK });
}

#[test]
fn an_accepted_store_in_the_same_life_is_caught() {
    let rules = Rules { accept_begins_a_new_life: false, accept_is_promised_first: false, ..Rules::ALL };
    assert_caught("accepted store without a new life", rules, PUT_BACK);
}

#[test]
fn an_accepted_store_that_an_agent_has_not_heard_of_is_caught() {
    let rules = Rules { accept_is_promised_first: false, ..Rules::ALL };
    assert_caught("store accepted before every agent promised its new life", rules, PUT_BACK);
}

/// What nobody can help who is heard: a copy that has the identity of the store it was made of, put back while the one
/// that knows better is silent.
#[test]
fn an_old_store_whose_only_witness_is_silent_is_caught() {
    let rules = Rules { who_remembers_is_heard: false, ..Rules::ALL };
    assert_caught("old store believed, as who remembers is silent", rules, PUT_BACK);
}

/// The same in async, with a lease.
const ASYNC: Bounds = Bounds {
    leases: true,
    durability: Durability::Async,
    begins_with: Set::EMPTY,
    set_changes: false,
    versions: 3,
    late_orders: 0,
    ..PUT_BACK
};

#[test]
fn a_lease_renewed_in_a_copy_of_the_store_is_caught() {
    let rules = Rules { store_has_an_identity: false, ..Rules::ALL };
    assert_caught("lease renewed in a copy of the store", rules, ASYNC);
}

/// The copy is older than the stop of the primary's member. That B would have to become promotable anew only makes the way
/// longer, and is left out.
#[test]
fn an_accepted_store_that_counts_as_attended_is_caught() {
    let short = Rules { heir_is_promotable: false, ..Rules::ALL };
    let bounds = Bounds { leaves: 1, versions: 4, ..ASYNC };
    let rules = Rules { accept_is_unattended: false, ..short };
    assert_broken("accepted store counts as attended", rules, bounds);
    assert!(search(&World { rules: short, bounds }, &Property::ALL).counterexample.is_none());
}
