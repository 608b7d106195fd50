//! The protocol, searched exhaustively: every order of events within stated bounds.
//!
//! # What is modelled
//!
//! Two nodes or three, each a PostgreSQL (role, log of commits, history, names as configured and as in force, open to
//! clients or not), an agent (promise, epoch of its last promotion, recruited or not, lease, vouches) and a guard; the
//! stored intent (life, epoch, version, primary, previous, both sync sets, durability, handover, who is promotable,
//! whether the primary is attended); and controllers, any number of them. The words are those of `src/model`. The actors
//! are one file each: [`postgres`], [`agent`], [`lease`], [`store`], and [`controller`] with [`sets`], [`promotable`],
//! [`vacancy`] and [`orders`].
//!
//! * Any controller may do at any time whatever the intent and the facts allow: nothing is detected or timed, so every
//!   wrong suspicion is covered. A change of leader is nothing of its own: what an old leader still does is a late
//!   write or a late order.
//! * An order is obeyed at once, or stays under way: then it arrives at any later time, any number of times, or never.
//!   A write of the intent reaches the store at once, or at any later time.
//! * A crash ends a server; a commit that waited is then in the log, and may be acknowledged after a restart. An agent
//!   may also die between its promise and the deed. What is on disk stays.
//! * Names take effect when the checkpointer takes them; a server that starts begins with none in force.
//! * Sets are ANY 1 of their members: moved in joint steps to any other set, settled by the proof, emptied midway, or
//!   emptied by the primary's own agent. A failover recruits all of both, and the most advanced follows.
//! * A third node streams from whom it was told to. It may be ahead of the switch: then its history is another, its
//!   position says nothing, and it is rewound or cloned before it counts, as a member or as an heir.
//! * Where a world has no leases, only the old agent's attested fence takes the pen where no promise does.
//!
//! Leases, without a clock: that one runs out is an event, possible at any moment, and what clocks promise is only which of
//! two comes first. A lease is over at its holder before anybody concludes so, because the one counts from before it asked
//! and the other from when it saw the renewal; what was vouched is over at who asked before it is at who vouched. An answer
//! of the store may be slow. The guard freezes a server at the very moment its right to serve ends, and may kill it at any
//! later one; what was sent before may still arrive. The right returns with a renewal, or with the vouches of all whom the
//! primary's agent has noted; with nobody noted it is never missing. Who vouched promises a higher epoch at once, and is
//! recruited when the vouch has run out. An orderly stop of the member disarms the guard.
//!
//! The store may be put back from a copy of any moment. It is then older than what some member remembers, and nothing is
//! done until a person accepts it: a new life, the highest epoch that any node promised, the newest primary, nothing
//! promised, nobody promotable, unattended.
//!
//! Where a world has floors, it has hosts: one goes down, and what of its disk is an older copy when it comes back (data
//! directory, memory file of the agent, or both) is any copy of an earlier moment. Nobody hears it meanwhile, and what its
//! processes knew is gone. How far each disk was is in the store, carried by the renewals of the primary, and noted by the
//! others while the store is silent ([`floors`]); what is decided by that is in [`floors_judged`], what else writes it in
//! [`floors_written`]. A commit may be lost with a disk only if, since it was acknowledged, neither a renewal nor a round of
//! failsafe was made, or the primary's host went down before the next one. A leader remembers nothing, so that its changes
//! are no steps; with the planted bug that Locum had at first it does, and a new one forgets. A store that is put back there
//! is known by its count of writes, which each agent that is heard keeps on its own disk, and nobody accepts it.
//!
//! # What is not
//!
//! Time (so neither liveness, nor how long anything takes; that clocks drift less than the lease's margin, and that the
//! guard freezes within it, is taken for granted); k above 1; more than three nodes; endpoints and apps; readers; cancelled
//! waits and sessions that lower `synchronous_commit`; `sync-strict` but with floors; forced failovers and fence commands; a
//! PostgreSQL that somebody else starts; a host whose clock stops with it (a paused virtual machine); a
//! write of the intent that is under way while the store is put back; a second copy put back after the first. With floors: a
//! standby name that changes with a clone; a switch that is recorded later than the promotion; that somebody knows whether
//! the primary used failsafe since its last renewal is taken for granted. In the worlds without floors these are left out,
//! so that the other rules are seen to hold by themselves. The guard of the leader key is left out too: in this model the
//! compare-and-swap on the intent is enough for safety, and the key only keeps deposed leaders quiet. `max_data_loss` is
//! infinite: an async failover may lose whatever was acknowledged before it, but with a filled set nothing, and afterwards
//! nobody acknowledges what the new primary lacks.
//!
//! # How it is searched
//!
//! By the short [`search`], not by `stateright`, because the properties are about steps (who acknowledges
//! what, whose promise goes back), which its properties on states cannot see; because the shortest counterexample must
//! be the same in every run; and because it needs half the memory. Both reach the same number of states.
//!
//! Each rule of SAFETY.md that the model knows is a switch of [`rules::Rules`]; how far a world goes is its
//! [`bounds::Bounds`]. The files `holds*.rs` search with all rules on: the pair, the trio, the lease, the store that is put
//! back, the disks that go back. The files `planted*.rs` turn off one at a time. `cargo test --test model -- --nocapture` prints the state counts
//! and a trace for each planted bug; with `--ignored` it searches the wide worlds, which takes minutes and gigabytes.
#![allow(clippy::disallowed_methods, reason = "how long a search took is printed, and decides nothing")]
#![expect(clippy::print_stdout, reason = "state counts and traces are what these tests have to tell")]

mod actions;
mod agent;
mod bounds;
mod changes;
mod controller;
mod disk;
mod fingerprint;
mod floor;
mod floors;
mod floors_judged;
mod floors_written;
mod ghost;
mod holds;
mod holds_floors;
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
mod planted_floors;
mod planted_lease;
mod planted_memory;
mod planted_reached;
mod planted_store;
mod planted_stuck;
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
