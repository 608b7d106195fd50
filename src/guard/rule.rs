//! What the guard does when: a function of messages and the clock. No I/O.

use std::time::Duration;

use crate::model::{GuardState, Mono, Stamp};

/// Why the guard did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was given a higher stamp before.
    #[error("a higher stamp was given before")]
    Stale,
    /// There is no server to be guarded.
    #[error("no server is guarded")]
    NoServer,
    /// That process is no server of this data directory, or has ended.
    #[error("that process does not serve this data directory")]
    NotIt,
    /// The server was killed.
    #[error("the server was killed")]
    Killed,
    /// The server stands still: only a later deadline of its own epoch lets it go on.
    #[error("the server stands still; only a later deadline of its own epoch lets it go on")]
    Frozen,
    /// Something is guarded, so that the guard does not end.
    #[error("a server is guarded")]
    Guarding,
    /// The message was not understood: the two are of different releases.
    #[error("the guard does not understand the message")]
    Unknown,
}

/// What is to be done to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Let every process stand still, in such a way that it can be undone.
    Freeze,
    /// Let it go on.
    Thaw,
    /// SIGKILL to every process.
    Kill,
}

/// How long the sessions of a server stand still that seems to leave recovery. Longer: a `standby.signal` that a person
/// removed is felt for longer. Shorter: recovery ends after it on a slow disk, or behind a slow `recovery_end_command`, and
/// sessions write until that is seen.
const HELD_MAX: Duration = Duration::from_secs(1);

/// What the guard knows, and the rules for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) state: GuardState,
    pub(super) since: Mono,
    pub(super) deadline: Option<Mono>,
    /// The highest stamp of any message.
    pub(super) stamp: Option<Stamp>,
    /// The stamp that the present deadline came with.
    armed: Option<Stamp>,
    /// Since when the server is being frozen, or is.
    fencing: Option<Mono>,
    /// A server is guarded, and has not ended.
    watching: bool,
    /// Nobody but Locum ends the server's recovery.
    pub(super) kept: bool,
    /// The server left recovery without a deadline that ran: nothing lets it go on.
    pub(super) strayed: bool,
    /// Since when its sessions stand still because it seems to leave recovery without such a deadline.
    pub(super) held: Option<Mono>,
    pub(super) freeze_max: Duration,
    pub(super) enforce: bool,
}

impl Rule {
    pub(super) fn new(freeze_max: Duration, enforce: bool, now: Mono) -> Self {
        Self {
            state: GuardState::Off,
            since: now,
            deadline: None,
            stamp: None,
            armed: None,
            fencing: None,
            watching: false,
            kept: false,
            strayed: false,
            held: None,
            freeze_max,
            enforce,
        }
    }

    /// Another server is guarded from now on. `frozen`: it stands still already, by a guard before this one.
    pub(super) fn watch(&mut self, frozen: bool, now: Mono) {
        self.watching = true;
        (self.kept, self.strayed) = (false, false);
        self.clear();
        self.enter(if frozen { GuardState::Frozen } else { GuardState::Off }, now);
        self.fencing = frozen.then_some(now);
    }

    /// A later deadline. An earlier one changes nothing. One that has passed already is as good as any: [`Rule::due`].
    pub(super) fn arm(&mut self, deadline: Mono, stamp: Stamp, now: Mono) -> Result<Option<Effect>, Refused> {
        self.admits(stamp)?;
        if !self.watching {
            return Err(Refused::NoServer);
        }
        if self.state == GuardState::Killed && self.enforce {
            return Err(Refused::Killed);
        }
        let of_another = self.armed.is_some_and(|armed| !armed.same_epoch(stamp));
        if self.fencing.is_some() && (of_another || self.strayed && self.enforce) {
            return Err(Refused::Frozen);
        }
        self.stamp = Some(stamp);
        self.armed = Some(stamp);
        let deadline = self.deadline.map_or(deadline, |before| before.max(deadline));
        self.deadline = Some(deadline);
        // That it would have been killed, while nothing is enforced, is over too once it may serve again.
        let was_killed = self.state == GuardState::Killed && deadline > now;
        if self.state == GuardState::Off || was_killed {
            self.enter(GuardState::Armed, now);
        }
        if self.is_ordered(now) {
            self.held = None;
        }
        if self.fencing.is_some() && deadline > now {
            self.fencing = None;
            self.enter(GuardState::Armed, now);
            return Ok(Some(Effect::Thaw));
        }
        Ok(None)
    }

    /// While the server is in recovery, only a deadline that runs lets it leave that.
    pub(super) fn keep(&mut self) -> Result<(), Refused> {
        self.kept = self.watching;
        if self.watching { Ok(()) } else { Err(Refused::NoServer) }
    }

    /// The server was in recovery, and is not any more. With a deadline that runs it was promoted as it was ordered; without
    /// one nobody who may said so, whatever did it.
    pub(super) fn left_recovery(&mut self, now: Mono) -> Option<Effect> {
        self.held = None;
        if !self.minds_recovery(now) {
            return None;
        }
        self.strayed = true;
        self.fencing = Some(now);
        self.enter(GuardState::Armed, now);
        Some(Effect::Freeze)
    }

    /// The server seems to leave recovery. True: without a right to do so, and its sessions are to stand still meanwhile.
    pub(super) fn leaving_recovery(&mut self, now: Mono) -> bool {
        if self.enforce && self.minds_recovery(now) {
            self.held = Some(now);
        }
        self.held.is_some()
    }

    /// The end of its recovery would be nobody's order, and it does not stand still already.
    fn minds_recovery(&self, now: Mono) -> bool {
        let stops = self.fencing.is_some() || self.state == GuardState::Killed;
        self.kept && self.watching && !self.is_ordered(now) && !stops
    }

    /// A deadline runs: the server may serve.
    fn is_ordered(&self, now: Mono) -> bool {
        self.state == GuardState::Armed && self.deadline.is_some_and(|deadline| now < deadline)
    }

    /// The server needs no right to serve any more, or a person answers for it: also for its recovery.
    pub(super) fn disarm(&mut self, stamp: Stamp, now: Mono) -> Result<(), Refused> {
        self.admits(stamp)?;
        if self.fencing.is_some() && self.enforce {
            return Err(Refused::Frozen);
        }
        self.stamp = Some(stamp);
        self.kept = false;
        if self.state != GuardState::Killed || !self.enforce {
            self.clear();
            self.enter(GuardState::Off, now);
        }
        Ok(())
    }

    /// A higher epoch is known.
    pub(super) fn kill(&mut self, stamp: Stamp, now: Mono) -> Result<Option<Effect>, Refused> {
        self.admits(stamp)?;
        self.stamp = Some(stamp);
        Ok(self.watching.then(|| self.killed(now)))
    }

    /// What is due by the clock, if anything.
    pub(super) fn due(&mut self, now: Mono) -> Option<Effect> {
        self.held = self.held.filter(|since| now < since.plus(HELD_MAX));
        match (self.state, self.fencing, self.deadline) {
            (GuardState::Armed | GuardState::Frozen, Some(since), _) => {
                (now >= since.plus(self.freeze_max)).then(|| self.killed(now))
            }
            (GuardState::Armed, None, Some(deadline)) if now >= deadline => {
                self.held = None;
                self.fencing = Some(now);
                Some(Effect::Freeze)
            }
            _ => None,
        }
    }

    /// True while the server is being frozen, and not every process was seen standing still.
    pub(super) fn is_freezing(&self) -> bool {
        self.fencing.is_some() && self.state == GuardState::Armed
    }

    /// Every process of the server was seen standing still.
    pub(super) fn frozen(&mut self, now: Mono) {
        if self.is_freezing() {
            self.enter(GuardState::Frozen, now);
        }
    }

    /// The postmaster has ended.
    pub(super) fn ended(&mut self, now: Mono) {
        self.watching = false;
        self.kept = false;
        self.clear();
        if self.state != GuardState::Killed {
            self.enter(GuardState::Off, now);
        }
    }

    /// Settings of a member that has come newly. What was only reported is done once it is to be enforced.
    pub(super) fn set(&mut self, freeze_max: Duration, enforce: bool, now: Mono) {
        self.freeze_max = freeze_max;
        if enforce && !self.enforce && self.watching && self.deadline.is_some() {
            self.fencing = None;
            self.enter(GuardState::Armed, now);
        }
        self.enforce = enforce;
    }

    /// When something will be due; None: never, without a message.
    pub(super) fn next(&self) -> Option<Mono> {
        match (self.state, self.fencing) {
            (GuardState::Armed | GuardState::Frozen, Some(since)) => Some(since.plus(self.freeze_max)),
            (GuardState::Armed, None) => self.deadline,
            _ => None,
        }
    }

    /// True if the server needs somebody's hand: it is armed, or was frozen, or its sessions are held.
    pub(super) fn is_engaged(&self) -> bool {
        matches!(self.state, GuardState::Armed | GuardState::Frozen) || self.held.is_some()
    }

    fn admits(&self, stamp: Stamp) -> Result<(), Refused> {
        if self.stamp.is_some_and(|highest| stamp < highest) { Err(Refused::Stale) } else { Ok(()) }
    }

    fn killed(&mut self, now: Mono) -> Effect {
        (self.fencing, self.held) = (None, None);
        self.enter(GuardState::Killed, now);
        Effect::Kill
    }

    fn clear(&mut self) {
        (self.deadline, self.armed, self.fencing, self.held) = (None, None, None, None);
    }

    fn enter(&mut self, state: GuardState, now: Mono) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Incarnation, Version};

    const FREEZE_MAX: Duration = Duration::from_micros(1_000);

    fn stamp(epoch: u64, version: u64) -> Stamp {
        Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(version) }
    }

    /// Armed until 100 in epoch 5.
    fn armed() -> Rule {
        let mut rule = Rule::new(FREEZE_MAX, true, Mono(0));
        rule.watch(false, Mono(0));
        assert_eq!(rule.arm(Mono(100), stamp(5, 1), Mono(1)), Ok(None));
        rule
    }

    /// The same, frozen at 100.
    fn frozen() -> Rule {
        let mut rule = armed();
        assert_eq!(rule.due(Mono(100)), Some(Effect::Freeze));
        rule.frozen(Mono(101));
        rule
    }

    #[test]
    fn at_the_deadline_and_not_before_it_the_server_is_frozen_once() {
        let mut rule = armed();
        assert_eq!((rule.due(Mono(99)), rule.next()), (None, Some(Mono(100))));
        assert_eq!(rule.due(Mono(100)), Some(Effect::Freeze));
        assert_eq!((rule.state, rule.due(Mono(101))), (GuardState::Armed, None));
        rule.frozen(Mono(102));
        assert_eq!((rule.state, rule.since), (GuardState::Frozen, Mono(102)));
    }

    #[test]
    fn a_deadline_that_has_passed_when_it_is_heard_of_freezes_at_once() {
        let mut rule = Rule::new(FREEZE_MAX, true, Mono(0));
        rule.watch(false, Mono(0));
        assert_eq!(rule.arm(Mono(100), stamp(5, 1), Mono(5_000)), Ok(None));
        assert_eq!(rule.due(Mono(5_000)), Some(Effect::Freeze));
    }

    #[test]
    fn a_later_deadline_moves_it_and_an_earlier_one_does_not() {
        let mut rule = armed();
        rule.arm(Mono(200), stamp(5, 1), Mono(2)).expect("later");
        rule.arm(Mono(150), stamp(5, 1), Mono(3)).expect("earlier");
        assert_eq!((rule.due(Mono(199)), rule.next()), (None, Some(Mono(200))));
    }

    #[test]
    fn a_later_deadline_of_the_same_epoch_thaws_and_of_another_does_not() {
        let mut rule = frozen();
        assert_eq!(rule.arm(Mono(2_000), stamp(6, 1), Mono(102)), Err(Refused::Frozen));
        assert_eq!(rule.arm(Mono(2_000), stamp(4, 9), Mono(102)), Err(Refused::Stale));
        assert_eq!(rule.arm(Mono(2_000), stamp(5, 2), Mono(102)), Ok(Some(Effect::Thaw)));
        assert_eq!((rule.state, rule.next()), (GuardState::Armed, Some(Mono(2_000))));
    }

    #[test]
    fn a_deadline_that_has_passed_thaws_nothing() {
        let mut rule = frozen();
        assert_eq!(rule.arm(Mono(150), stamp(5, 1), Mono(200)), Ok(None));
        assert_eq!(rule.state, GuardState::Frozen);
    }

    #[test]
    fn what_is_frozen_cannot_be_disarmed() {
        assert_eq!(frozen().disarm(stamp(5, 1), Mono(102)), Err(Refused::Frozen));
    }

    #[test]
    fn frozen_for_too_long_is_killed_and_stays_so() {
        let mut rule = frozen();
        assert_eq!(rule.next(), Some(Mono(1_100)));
        assert_eq!(rule.due(Mono(1_099)), None);
        assert_eq!(rule.due(Mono(1_100)), Some(Effect::Kill));
        assert_eq!(rule.arm(Mono(9_000), stamp(5, 1), Mono(1_101)), Err(Refused::Killed));
        rule.ended(Mono(1_102));
        assert_eq!((rule.state, rule.due(Mono(9_999))), (GuardState::Killed, None));
    }

    #[test]
    fn what_cannot_be_seen_standing_still_is_killed_in_the_end() {
        let mut rule = armed();
        rule.due(Mono(100));
        assert_eq!(rule.due(Mono(1_100)), Some(Effect::Kill));
    }

    #[test]
    fn a_higher_epoch_kills_and_is_remembered() {
        let mut rule = armed();
        assert_eq!(rule.kill(stamp(6, 1), Mono(50)), Ok(Some(Effect::Kill)));
        rule.ended(Mono(51));
        rule.watch(false, Mono(60));
        assert_eq!(rule.arm(Mono(900), stamp(5, 9), Mono(61)), Err(Refused::Stale));
        assert_eq!(rule.arm(Mono(900), stamp(7, 1), Mono(61)), Ok(None));
    }

    #[test]
    fn messages_of_a_lower_stamp_are_refused() {
        let mut rule = armed();
        let low = stamp(4, 99);
        assert_eq!(rule.arm(Mono(999), low, Mono(2)), Err(Refused::Stale));
        assert_eq!(rule.disarm(low, Mono(2)), Err(Refused::Stale));
        assert_eq!(rule.kill(low, Mono(2)), Err(Refused::Stale));
        assert_eq!(rule.next(), Some(Mono(100)));
    }

    #[test]
    fn without_a_server_nothing_is_armed_and_nothing_is_due() {
        let mut rule = armed();
        rule.ended(Mono(10));
        assert_eq!((rule.state, rule.next(), rule.due(Mono(500))), (GuardState::Off, None, None));
        assert_eq!(rule.arm(Mono(900), stamp(5, 1), Mono(11)), Err(Refused::NoServer));
    }

    #[test]
    fn one_found_frozen_goes_on_with_a_valid_deadline_or_is_killed() {
        let mut rule = Rule::new(FREEZE_MAX, true, Mono(0));
        rule.watch(true, Mono(10));
        assert_eq!((rule.state, rule.next()), (GuardState::Frozen, Some(Mono(1_010))));
        let mut thawed = rule;
        assert_eq!(thawed.arm(Mono(500), stamp(5, 1), Mono(20)), Ok(Some(Effect::Thaw)));
        assert_eq!(rule.due(Mono(1_010)), Some(Effect::Kill));
    }

    /// Beside a standby, in epoch 5, with nothing to be armed for.
    fn kept() -> Rule {
        let mut rule = Rule::new(FREEZE_MAX, true, Mono(0));
        rule.watch(false, Mono(0));
        rule.keep().expect("a server");
        rule
    }

    #[test]
    fn who_leaves_recovery_unasked_is_frozen_at_once_and_never_let_go() {
        let mut rule = kept();
        assert_eq!(rule.left_recovery(Mono(50)), Some(Effect::Freeze));
        assert!(rule.is_freezing() && rule.strayed);
        rule.frozen(Mono(51));
        assert_eq!(rule.arm(Mono(900), stamp(5, 1), Mono(52)), Err(Refused::Frozen));
        assert_eq!(rule.disarm(stamp(5, 1), Mono(52)), Err(Refused::Frozen));
        assert_eq!((rule.next(), rule.due(Mono(1_050))), (Some(Mono(1_050)), Some(Effect::Kill)));
        rule.watch(false, Mono(1_100));
        assert!(!rule.strayed, "that was another server");
    }

    #[test]
    fn a_promotion_under_a_lease_that_runs_is_an_ordered_one() {
        let mut rule = kept();
        rule.arm(Mono(100), stamp(5, 1), Mono(1)).expect("a lease");
        assert_eq!((rule.left_recovery(Mono(99)), rule.strayed), (None, false));
        assert_eq!(rule.due(Mono(100)), Some(Effect::Freeze), "its lease binds it as before");
    }

    #[test]
    fn a_lease_that_ran_out_in_mid_promotion_freezes_before_recovery_ends_and_after() {
        let mut early = kept();
        early.arm(Mono(100), stamp(5, 1), Mono(1)).expect("a lease");
        assert_eq!(early.due(Mono(100)), Some(Effect::Freeze), "still in recovery");
        assert_eq!((early.left_recovery(Mono(101)), early.is_freezing()), (None, true));
        // Both at once: that recovery has ended is seen first.
        let mut late = kept();
        late.arm(Mono(100), stamp(5, 1), Mono(1)).expect("a lease");
        assert_eq!(late.left_recovery(Mono(100)), Some(Effect::Freeze));
    }

    #[test]
    fn what_a_person_answers_for_may_leave_recovery() {
        let mut rule = kept();
        rule.disarm(stamp(5, 1), Mono(5)).expect("nothing is frozen");
        assert_eq!(rule.left_recovery(Mono(50)), None);
        let mut unknown = Rule::new(FREEZE_MAX, true, Mono(0));
        assert_eq!(unknown.keep(), Err(Refused::NoServer));
        unknown.watch(false, Mono(0));
        assert_eq!(unknown.left_recovery(Mono(50)), None, "nobody said that it is Locum's");
    }

    #[test]
    fn sessions_are_held_from_the_first_sign_until_recovery_has_ended_or_for_a_second() {
        let mut rule = kept();
        assert!(rule.leaving_recovery(Mono(50)) && rule.is_engaged() && !rule.strayed);
        let mut ends = rule;
        assert_eq!(ends.left_recovery(Mono(60)), Some(Effect::Freeze));
        assert!(ends.strayed && ends.held.is_none());
        let over = Mono(50).plus(HELD_MAX);
        assert_eq!((rule.due(Mono(over.0 - 1)), rule.held), (None, Some(Mono(50))));
        assert_eq!((rule.due(over), rule.held, rule.strayed), (None, None, false));
        assert_eq!(rule.left_recovery(over), Some(Effect::Freeze), "it took longer");
    }

    #[test]
    fn an_ordered_promotion_holds_nobody_and_an_order_lets_go() {
        let mut rule = kept();
        rule.arm(Mono(100), stamp(5, 1), Mono(1)).expect("a lease");
        assert!(!rule.leaving_recovery(Mono(99)));
        let mut late = kept();
        assert!(late.leaving_recovery(Mono(50)));
        late.arm(Mono(40), stamp(5, 1), Mono(51)).expect("a lease that has run out");
        assert!(late.held.is_some());
        late.arm(Mono(100), stamp(5, 1), Mono(52)).expect("a lease");
        assert!(late.held.is_none());
        let mut persons = kept();
        assert!(persons.leaving_recovery(Mono(50)));
        persons.disarm(stamp(5, 1), Mono(51)).expect("a person answers for it");
        assert!(persons.held.is_none() && !persons.leaving_recovery(Mono(52)));
        let mut observed = kept();
        observed.enforce = false;
        assert!(!observed.leaving_recovery(Mono(50)));
    }

    #[test]
    fn what_was_only_reported_is_done_once_it_is_enforced() {
        let mut rule = frozen();
        rule.enforce = false;
        rule.due(Mono(1_100));
        assert_eq!(rule.state, GuardState::Killed);
        rule.set(FREEZE_MAX, true, Mono(1_200));
        assert_eq!(rule.due(Mono(1_200)), Some(Effect::Freeze));
    }
}
