//! The pair protocol, searched exhaustively: every order of events within stated bounds.
//!
//! # What is modelled
//!
//! Two nodes, each a PostgreSQL (role, log of commits, names as configured and as in force, open to clients or not)
//! and an agent (promise, epoch of its last promotion, recruited or not); the stored intent (epoch, version, primary,
//! previous, both sync sets, durability, handover); and controllers, any number of them. The words are those of
//! `src/model`. The actors are one file each: [`postgres`], [`agent`], [`controller`] with its [`orders`].
//!
//! * Any controller may do at any time whatever the intent and the facts allow: nothing is detected or timed, so every
//!   wrong suspicion is covered. A change of leader is nothing of its own: what an old leader still does is a late
//!   write or a late order.
//! * An order is obeyed at once, or stays under way: then it arrives at any later time, any number of times, or never.
//!   A write of the intent reaches the store at once, or at any later time.
//! * A crash ends a server; a commit that waited is then in the log, and may be acknowledged after a restart. An agent
//!   may also die between its promise and the deed. What is on disk stays.
//! * Names take effect when the checkpointer takes them; a server that starts begins with none in force.
//! * There is no lease yet: without a recruit, only the old agent's attested fence takes the pen.
//!
//! # What is not
//!
//! Time (so neither leases nor liveness); a third node and ANY 1 of two; endpoints and apps; readers; cancelled waits
//! and sessions that lower `synchronous_commit`; a disk that goes back in time; a PostgreSQL that somebody else starts;
//! a store restored from a copy (incarnations); what tells a foreign data directory (system identifier, history). The
//! greatest flush position ever reported, below which nobody is promoted, is a second net under some of the rules; it
//! is left out, so that these are seen to hold by themselves. The guard of the leader key is left out too: in this
//! model the compare-and-swap on the intent is enough for safety, and the key only keeps deposed leaders quiet.
//!
//! # How it is searched
//!
//! By the short [`search`], not by `stateright`, because the properties are about steps (who acknowledges
//! what, whose promise goes back), which its properties on states cannot see; because the shortest counterexample must
//! be the same in every run; and because it needs half the memory. Both reach the same number of states.
//!
//! Each rule of SAFETY.md that the model knows is a switch of [`rules::Rules`]. [`holds`] searches with all of them on;
//! [`planted`] turns off one at a time. `cargo test --test model -- --nocapture` prints the state counts and a trace
//! for each planted bug.
#![allow(clippy::disallowed_methods, reason = "how long a search took is printed, and decides nothing")]
#![expect(clippy::print_stdout, reason = "state counts and traces are what these tests have to tell")]

mod actions;
mod agent;
mod bounds;
mod changes;
mod controller;
mod fingerprint;
mod holds;
mod holds_lease;
mod holds_store;
mod holds_trio;
mod intent;
mod lease;
mod log;
mod milestones;
mod node;
mod orders;
mod planted;
mod planted_lease;
mod planted_store;
mod planted_trio;
mod postgres;
mod promotable;
mod properties;
mod rules;
mod search;
mod set;
mod sets;
mod state;
mod store;
mod vacancy;
mod words;
