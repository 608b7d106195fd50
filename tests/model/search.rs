//! An explicit-state search, breadth first: the first counterexample it meets is one of the shortest.
//!
//! Of a state that was expanded only a fingerprint, its parent and the number of the step that led to it are kept; a
//! trace is replayed from the first state. Among ten million states, the odds that any two share one of 2^64
//! fingerprints are about one in 370,000.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

use crate::{
    actions::{Action, Step, steps},
    bounds::World,
    fingerprint::fingerprint,
    milestones::Milestone,
    properties::Property,
    state::State,
};

/// No search goes beyond this number of states: with more, memory would run out before patience does.
const MOST_STATES: usize = 40_000_000;

/// What a search found.
pub(crate) struct Report {
    /// States reached.
    pub(crate) states: usize,
    /// Steps looked at.
    pub(crate) steps: usize,
    /// The number of steps to the farthest state.
    pub(crate) depth: usize,
    /// Milestones reached.
    pub(crate) milestones: BTreeSet<Milestone>,
    /// How a property can be broken.
    pub(crate) counterexample: Option<Counterexample>,
}

/// A way to break a property.
pub(crate) struct Counterexample {
    /// Which.
    pub(crate) broken: Property,
    /// What happens, from the first state on.
    pub(crate) trace: Vec<Action>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.iter().try_for_each(|action| writeln!(f, "    {action}"))?;
        write!(f, "    => {}", self.broken)
    }
}

/// How a state was reached first.
#[derive(Clone, Copy)]
struct Origin {
    parent: u32,
    step: u16,
}

/// Searches every state of the world, until a step breaks one of the properties.
///
/// # Panics
/// If the world has more than [`MOST_STATES`] states.
pub(crate) fn search(world: &World, properties: &[Property]) -> Report {
    let first = State::first(&world.bounds);
    let mut seen = HashSet::<u64, BuildHasherDefault<AsItIs>>::default();
    seen.insert(fingerprint(&first));
    let mut origins = vec![Origin { parent: 0, step: 0 }];
    let mut level = vec![(0_u32, first)];
    let mut report =
        Report { states: 1, steps: 0, depth: 0, milestones: BTreeSet::new(), counterexample: None };
    let mut possible: Vec<Step> = Vec::new();
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for (index, state) in level {
            steps(&state, world, &mut possible);
            report.steps += possible.len();
            for (number, step) in possible.iter().enumerate() {
                let origin = Origin { parent: index, step: u16::try_from(number).expect("few steps") };
                if let Some(broken) = properties.iter().find(|property| property.is_broken(&state, step)) {
                    let trace = replay(&origins, origin, world);
                    report.counterexample = Some(Counterexample { broken: *broken, trace });
                    return report;
                }
                report.milestones.extend(Milestone::of(&state, step));
                if seen.insert(fingerprint(&step.after)) {
                    next_level.push((u32::try_from(origins.len()).expect("bounded"), step.after));
                    origins.push(origin);
                }
            }
        }
        assert!(origins.len() <= MOST_STATES, "{MOST_STATES} states, and no end: the bounds are too wide");
        report.states = origins.len();
        report.depth += usize::from(!next_level.is_empty());
        level = next_level;
    }
    report
}

/// The actions that lead to a step, from the first state on.
fn replay(origins: &[Origin], last: Origin, world: &World) -> Vec<Action> {
    let mut numbers = vec![last.step];
    let mut index = last.parent;
    while index != 0 {
        let origin = origins[index as usize];
        numbers.push(origin.step);
        index = origin.parent;
    }
    let mut state = State::first(&world.bounds);
    let mut possible = Vec::new();
    let mut trace = Vec::new();
    for number in numbers.into_iter().rev() {
        steps(&state, world, &mut possible);
        let step = &possible[usize::from(number)];
        trace.push(step.action);
        state = step.after;
    }
    trace
}

/// What is hashed is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
