//! The messages between agent and guard: frames of one size, little-endian, with a version.

use std::time::Duration;

use super::rule::Refused;
use crate::model::{Epoch, GuardFacts, GuardMethod, GuardState, Incarnation, Mono, Stamp, Version};

/// The size of every frame, in bytes.
pub(super) const FRAME: usize = 80;
const MAGIC: u32 = u32::from_le_bytes(*b"lcmg");
/// Raised with every change of what a frame means.
const VERSION: u16 = 1;
/// No instant, in a place for one.
const NONE: u64 = u64::MAX;

/// One frame.
pub(super) type Bytes = [u8; FRAME];

/// What an agent asks for. Every one is answered with a [`Told`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// First message of a connection: the member's settings.
    Hello { freeze_max: Duration, enforce: bool },
    /// Guard this server from now on. `generation` is the agent's own name for it.
    Watch { postmaster: u32, generation: u64 },
    /// The server may serve until then.
    Arm { deadline: Mono, stamp: Stamp },
    /// It needs no right to serve.
    Disarm { stamp: Stamp },
    /// A higher epoch is known.
    Kill { stamp: Stamp },
    /// End, unless a server is armed or frozen.
    Quit,
    /// Nobody but Locum ends the server's recovery: without a deadline that runs it is frozen when it leaves it.
    Keep,
}

/// What the guard says, as an answer or because something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Of the message that is answered; 0: of none.
    pub(super) seq: u32,
    /// Why it was not done.
    pub(super) refused: Option<Refused>,
    /// How things stand.
    pub(super) facts: GuardFacts,
    /// The agent's name for the server that is guarded.
    pub(super) generation: u64,
}

/// The peer speaks something else, or another version of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other end is of a different release")]
pub(super) struct Foreign;

struct Frame {
    kind: u16,
    seq: u32,
    small: u32,
    words: [u64; 8],
}

impl Frame {
    fn bytes(&self) -> Bytes {
        let mut bytes = [0; FRAME];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.kind.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.seq.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.small.to_le_bytes());
        for (place, word) in bytes[16..].chunks_exact_mut(8).zip(self.words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn parse(bytes: &Bytes) -> Result<Self, Foreign> {
        let four = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let two = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if four(0) != MAGIC || two(4) != VERSION {
            return Err(Foreign);
        }
        let mut words = [0; 8];
        for (word, place) in words.iter_mut().zip(bytes[16..].chunks_exact(8)) {
            *word = place.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        }
        Ok(Self { kind: two(6), seq: four(8), small: four(12), words })
    }
}

fn put_stamp(words: &mut [u64; 8], stamp: Stamp) {
    words[..3].copy_from_slice(&[stamp.incarnation.0, stamp.epoch.0, stamp.version.0]);
}

const fn get_stamp(words: &[u64; 8]) -> Stamp {
    Stamp { incarnation: Incarnation(words[0]), epoch: Epoch(words[1]), version: Version(words[2]) }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

impl Ask {
    /// As a frame with this number, which the answer repeats.
    pub(super) fn bytes(self, seq: u32) -> Bytes {
        let (mut small, mut words) = (0, [0; 8]);
        let kind = match self {
            Self::Hello { freeze_max, enforce } => {
                (small, words[3]) = (u32::from(enforce), micros(freeze_max));
                1
            }
            Self::Watch { postmaster, generation } => {
                (small, words[3]) = (postmaster, generation);
                2
            }
            Self::Arm { deadline, stamp } => {
                put_stamp(&mut words, stamp);
                words[3] = deadline.0;
                3
            }
            Self::Disarm { stamp } => {
                put_stamp(&mut words, stamp);
                4
            }
            Self::Kill { stamp } => {
                put_stamp(&mut words, stamp);
                5
            }
            Self::Quit => 6,
            Self::Keep => 7,
        };
        Frame { kind, seq, small, words }.bytes()
    }

    /// The number and the message; the message None: a kind that is not known here.
    pub(super) fn parse(bytes: &Bytes) -> Result<(u32, Option<Self>), Foreign> {
        let Frame { kind, seq, small, words } = Frame::parse(bytes)?;
        let stamp = get_stamp(&words);
        let ask = match kind {
            1 => Self::Hello { freeze_max: Duration::from_micros(words[3]), enforce: small != 0 },
            2 => Self::Watch { postmaster: small, generation: words[3] },
            3 => Self::Arm { deadline: Mono(words[3]), stamp },
            4 => Self::Disarm { stamp },
            5 => Self::Kill { stamp },
            6 => Self::Quit,
            7 => Self::Keep,
            _ => return Ok((seq, None)),
        };
        Ok((seq, Some(ask)))
    }
}

const TOLD: u16 = 100;
const REFUSALS: [Refused; 7] = [
    Refused::Stale,
    Refused::NoServer,
    Refused::NotIt,
    Refused::Killed,
    Refused::Frozen,
    Refused::Guarding,
    Refused::Unknown,
];
const STATES: [GuardState; 4] = [GuardState::Off, GuardState::Armed, GuardState::Frozen, GuardState::Killed];

/// The place of a value in a list that holds all there are, from 1.
fn place<T: PartialEq>(list: &[T], value: &T) -> u32 {
    list.iter().position(|known| known == value).map_or(0, |at| u32::try_from(at + 1).unwrap_or(0))
}

impl Told {
    pub(super) fn bytes(&self) -> Bytes {
        let facts = &self.facts;
        let flags = [
            facts.method == GuardMethod::Cgroup,
            facts.realtime,
            facts.locked,
            facts.enforce,
            facts.stamp.is_some(),
            facts.keeps,
            facts.strayed,
            // A guard of an earlier release leaves it unset.
            !facts.spared,
        ];
        let refused = self.refused.map_or(0, |refused| place(&REFUSALS, &refused));
        let small = flags.iter().enumerate().fold(0, |sum, (at, flag)| sum | u32::from(*flag) << (16 + at));
        let small = small | refused | place(&STATES, &facts.state) << 8;
        let mut words = [0; 8];
        put_stamp(&mut words, facts.stamp.unwrap_or_default());
        words[3] = facts.deadline.map_or(NONE, |deadline| deadline.0);
        words[4] = facts.since.0;
        words[5] = facts.postmaster.map_or(NONE, u64::from);
        words[6] = self.generation;
        Frame { kind: TOLD, seq: self.seq, small, words }.bytes()
    }

    pub(super) fn parse(bytes: &Bytes) -> Result<Self, Foreign> {
        let Frame { kind, seq, small, words } = Frame::parse(bytes)?;
        let at = |shift: u32| (small >> shift & 0xff) as usize;
        let flag = |number: u32| small >> (16 + number) & 1 == 1;
        if kind != TOLD || at(0) > REFUSALS.len() {
            return Err(Foreign);
        }
        let state = at(8).checked_sub(1).and_then(|place| STATES.get(place)).ok_or(Foreign)?;
        let facts = GuardFacts {
            state: *state,
            since: Mono(words[4]),
            deadline: (words[3] != NONE).then_some(Mono(words[3])),
            stamp: flag(4).then(|| get_stamp(&words)),
            postmaster: u32::try_from(words[5]).ok(),
            method: if flag(0) { GuardMethod::Cgroup } else { GuardMethod::Signals },
            realtime: flag(1),
            locked: flag(2),
            spared: !flag(7),
            enforce: flag(3),
            keeps: flag(5),
            strayed: flag(6),
        };
        let refused = at(0).checked_sub(1).map(|place| REFUSALS[place]);
        Ok(Self { seq, refused, facts, generation: words[6] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { incarnation: Incarnation(1), epoch: Epoch(2), version: Version(3) };

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let all = [
            Ask::Hello { freeze_max: Duration::from_millis(1_500), enforce: true },
            Ask::Watch { postmaster: 4_711, generation: 9 },
            Ask::Arm { deadline: Mono(123_456_789), stamp: STAMP },
            Ask::Disarm { stamp: STAMP },
            Ask::Kill { stamp: STAMP },
            Ask::Quit,
            Ask::Keep,
        ];
        for ask in all {
            assert_eq!(Ask::parse(&ask.bytes(7)), Ok((7, Some(ask))));
        }
    }

    #[test]
    fn every_answer_arrives_as_it_was_sent() {
        let refusals = REFUSALS.iter().copied().map(Some).chain([None]);
        for (refused, state) in refusals.zip(STATES.iter().copied().cycle()) {
            for (flag, some) in [(true, false), (false, true)] {
                let facts = GuardFacts {
                    state,
                    since: Mono(5),
                    deadline: some.then_some(Mono(6)),
                    stamp: some.then_some(STAMP),
                    postmaster: some.then_some(7),
                    method: if flag { GuardMethod::Cgroup } else { GuardMethod::Signals },
                    realtime: flag,
                    locked: some,
                    spared: flag,
                    enforce: flag,
                    keeps: some,
                    strayed: flag,
                };
                let told = Told { seq: 8, refused, facts, generation: 9 };
                assert_eq!(Told::parse(&told.bytes()), Ok(told));
            }
        }
    }

    #[test]
    fn a_frame_of_another_version_is_refused_and_an_unknown_kind_is_answered() {
        let mut bytes = Ask::Quit.bytes(7);
        bytes[6] = 200;
        assert_eq!(Ask::parse(&bytes), Ok((7, None)));
        bytes[4] = 99;
        assert_eq!(Ask::parse(&bytes), Err(Foreign));
    }
}
