//! Disks that went back in time: whom nobody promotes, starts or believes.

use super::*;

/// What seoul's renewals said in its epoch: how far it was, and what it saw tokyo confirm.
fn renewed(view: &mut View, primary: u64, standby: u64) {
    let of = |lsn| WalPosition { timeline: Timeline(3), lsn: Lsn(lsn) };
    let mut floors = Floors::default();
    floors.raise(&name_of(&tokyo()), of(standby));
    let read_under = view.intent.as_ref().map(Intent::stamp);
    view.lease = lease_seen(10_000, read_under);
    let record = &mut view.lease.last.as_mut().expect("a lease").value;
    (record.reached, record.timeline, record.floors) = (Some(Lsn(primary)), Some(Timeline(3)), floors);
}

fn at(beyond: u64) -> u64 {
    FLUSHED.0 + beyond
}

/// An order to serve with what that position says.
fn serve(beyond: u64) -> Command {
    Command::Serve { floor: Some(WalPosition { timeline: Timeline(3), lsn: Lsn(at(beyond)) }) }
}

/// Seoul's server is down, fenced in the intent's epoch, and nobody saw it end.
fn fenced_unseen(view: &mut View) {
    let stamp = view.intent_mut().stamp();
    view.server(&seoul(), Server::Down(Down { fenced: Some(stamp), watched: false, ..down(true) }));
}

#[test]
fn a_standby_below_what_the_primary_saw_it_confirm_is_not_promoted_whoever_leads() {
    let mut view = vacant();
    recruit(&mut view);
    renewed(&mut view, at(8), at(8));
    let plan = decide(&view);
    assert_eq!(declared(&plan).and_then(|next| next.primary.clone()), None);
    assert!(plan.findings.contains(&Finding::DiskWentBack { node: tokyo() }), "{:?}", plan.findings);
    renewed(&mut view, at(8), at(0));
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(tokyo()));
}

#[test]
fn positions_are_judged_only_after_the_last_renewal_was_read() {
    let mut view = vacant();
    recruit(&mut view);
    view.lease.read_under = None;
    assert_eq!(declared(&decide(&view)), None, "the last renewal may say that it confirmed more");
}

#[test]
fn a_floor_within_a_record_that_is_not_whole_is_not_missing() {
    let mut view = vacant();
    recruit(&mut view);
    renewed(&mut view, at(40), at(40));
    view.standby_mut(&tokyo()).unfinished_until = Some(Lsn(at(64)));
    let next = declared(&decide(&view)).cloned().expect("declares");
    assert_eq!((next.primary.clone(), next.primary_floor), (Some(tokyo()), Some(standby().applied())));
    view.standby_mut(&tokyo()).unfinished_until = Some(Lsn(at(40)));
    assert_eq!(
        declared(&decide(&view)).and_then(|next| next.primary.clone()),
        None,
        "the record is whole there"
    );
}

#[test]
fn a_floor_on_another_timeline_is_missing_at_any_position() {
    let mut view = vacant();
    recruit(&mut view);
    renewed(&mut view, at(0), at(0));
    let record = &mut view.lease.last.as_mut().expect("a lease").value;
    let mut floors = Floors::default();
    floors.raise(&name_of(&tokyo()), WalPosition { timeline: Timeline(4), lsn: Lsn(at(0)) });
    record.floors = floors;
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), None);
}

#[test]
fn a_member_that_has_less_than_it_confirmed_counts_only_where_the_candidate_has_that() {
    let (mut view, osaka) = vacant_trio();
    recruit(&mut view);
    let stamp = view.intent_mut().stamp();
    let standby = view.standby_mut(&osaka);
    (standby.recruited, standby.streaming) = (Some(stamp), false);
    (standby.flushed, standby.replayed) = (Lsn(at(64)), Lsn(at(64)));
    let declares = |view: &View| declared(&decide(view)).and_then(|next| next.primary.clone());
    renewed(&mut view, at(64), at(48));
    assert_eq!(declares(&view), Some(osaka.clone()), "it has what tokyo had confirmed");
    renewed(&mut view, at(80), at(80));
    assert_eq!(declares(&view), None, "the old primary may have acknowledged what only tokyo confirmed");
    let plan = decide(&view);
    let said = plan.holds.iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains("tokyo"), "{said}");
}

#[test]
fn a_member_that_was_cloned_after_the_set_was_proven_is_not_promoted() {
    let mut view = vacant();
    recruit(&mut view);
    view.agent_mut(&tokyo()).standby_name = StandbyName("locum_tokyo_0000ffff".into());
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), None);
}

#[test]
fn an_old_primary_that_went_back_is_not_started_in_its_place() {
    let mut view = healthy();
    renewed(&mut view, at(8), at(0));
    view.server(&seoul(), Server::Down(Down { watched: false, ..down(true) }));
    let plan = decide(&view);
    assert!(
        orders(&plan).iter().all(|(_, command)| !matches!(command, Command::Serve { .. })),
        "{:?}",
        plan.steps
    );
    assert_eq!(declared(&plan).map(|next| next.primary.clone()), Some(None), "the standby takes over");
    assert!(plan.findings.contains(&Finding::DiskWentBack { node: seoul() }));
}

#[test]
fn an_old_primary_that_its_agent_saw_end_is_the_one_that_it_was() {
    let mut view = healthy();
    renewed(&mut view, at(8), at(0));
    view.server(&seoul(), Server::Down(down(true)));
    let policy = Policy { on_crash: OnCrash::Restart, ..Policy::default() };
    assert_eq!(orders(&plan(&view, &Memory::default(), &policy, NOW)), [(seoul(), serve(8))]);
}

#[test]
fn a_primary_found_down_is_started_only_once_the_end_of_its_wal_is_known() {
    let mut view = healthy();
    renewed(&mut view, at(0), at(0));
    let policy = Policy { on_crash: OnCrash::Restart, ..Policy::default() };
    let mut ordered = |down: Down| {
        view.server(&seoul(), Server::Down(down));
        orders(&plan(&view, &Memory::default(), &policy, NOW))
    };
    assert_eq!(ordered(Down { watched: false, wal_end: None, ..down(true) }), []);
    assert_eq!(ordered(Down { watched: false, ..down(true) }), [(seoul(), serve(0))]);
}

#[test]
fn a_primary_behind_a_standby_of_the_same_history_is_not_started() {
    let mut view = healthy();
    let standby = view.standby_mut(&tokyo());
    (standby.flushed, standby.streaming) = (Lsn(at(8)), false);
    view.server(&seoul(), Server::Down(Down { watched: false, ..down(true) }));
    let policy = Policy { on_crash: OnCrash::Restart, ..Policy::default() };
    let decided = plan(&view, &Memory::default(), &policy, NOW);
    assert!(orders(&decided).is_empty(), "{:?}", decided.steps);
    assert_eq!(declared(&decided).map(|next| next.primary.clone()), Some(None));
}

/// Tokyo, declared in async with less than osaka had, was stopped before it was promoted.
#[test]
fn a_candidate_that_was_declared_with_less_than_another_has_is_started_all_the_same() {
    let (mut view, osaka) = vacant_trio();
    without_set(&mut view);
    view.intent_mut().durability = Durability::Async;
    recruit(&mut view);
    let further = view.standby_mut(&osaka);
    (further.flushed, further.replayed, further.replay) =
        (Lsn(at(8)), Lsn(at(8)), ReplayState::PausedByPerson);
    let next = view.intent_mut().declared(tokyo(), Some(standby().applied()));
    *view.intent_mut() = next;
    let wal = standby().applied();
    let stopped = Down {
        wal_end: Some(wal.lsn),
        wal_timeline: Some(wal.timeline),
        history: vec![SWITCH],
        ..down(true)
    };
    view.server(&tokyo(), Server::Down(Down { watched: false, standby: Some(true), ..stopped }));
    assert_eq!(orders(&decide(&view)), [(tokyo(), serve(0))]);
    // What it wrote itself is on a timeline of its own.
    let follower = view.standby_mut(&osaka);
    follower.history.push(Switch { timeline: Timeline(3), at: FLUSHED });
    follower.timeline = Timeline(4);
    assert!(orders(&decide(&view)).is_empty(), "osaka has followed it, and has more");
}

/// Nothing was promised of a standby, and tokyo has all that the renewals tell of.
#[test]
fn a_standby_that_lacks_what_a_disk_that_went_back_still_has_is_not_promoted() {
    let (mut view, osaka) = vacant_trio();
    without_set(&mut view);
    recruit(&mut view);
    renewed(&mut view, at(0), at(0));
    view.agent_mut(&osaka).no_failover = true;
    let stamp = view.intent_mut().stamp();
    let left = |end: u64| {
        let (wal_end, wal_timeline, history) = (Some(Lsn(at(end))), Some(Timeline(3)), vec![SWITCH]);
        Server::Down(Down {
            fenced: Some(stamp),
            watched: false,
            wal_end,
            wal_timeline,
            history,
            ..down(true)
        })
    };
    let next = |view: &View| declared(&without_rescue(view)).and_then(|next| next.primary.clone());
    // Osaka streams on from it, so its disk went back.
    let further = |view: &mut View, node: &NodeId, lsn: u64| {
        let standby = view.standby_mut(node);
        (standby.flushed, standby.replayed) = (Lsn(lsn), Lsn(lsn));
    };
    view.server(&seoul(), left(8));
    further(&mut view, &osaka, at(16));
    assert_eq!(next(&view), None, "both have more");
    further(&mut view, &osaka, at(0));
    renewed(&mut view, at(16), at(0));
    assert_eq!(next(&view), None, "what is left of it has more");
    view.server(&seoul(), left(0));
    further(&mut view, &tokyo(), at(16));
    assert_eq!(next(&view), Some(tokyo()));
    further(&mut view, &osaka, at(24));
    assert_eq!(next(&view), None, "osaka has more");
}

#[test]
fn the_end_of_wal_of_a_disk_that_went_back_is_no_end() {
    let mut view = vacant();
    without_set(&mut view);
    recruit(&mut view);
    renewed(&mut view, at(8), at(0));
    fenced_unseen(&mut view);
    let decided = without_rescue(&view);
    assert_eq!(declared(&decided), None, "tokyo has all that is on seoul's disk, and seoul had more");
    let standby = view.standby_mut(&tokyo());
    (standby.flushed, standby.replayed) = (Lsn(at(8)), Lsn(at(8)));
    let next = declared(&without_rescue(&view)).and_then(|next| next.primary.clone());
    assert_eq!(next, Some(tokyo()), "it has reached all that seoul is known to have had");
    let standby = view.standby_mut(&tokyo());
    (standby.flushed, standby.replayed) = (FLUSHED, FLUSHED);
    renewed(&mut view, at(0), at(0));
    assert_eq!(declared(&without_rescue(&view)).and_then(|next| next.primary.clone()), Some(tokyo()));
}

#[test]
fn an_old_primary_that_went_back_is_not_declared_again() {
    let mut view = vacant();
    recruit(&mut view);
    view.agent_mut(&tokyo()).no_failover = true;
    renewed(&mut view, at(8), at(0));
    fenced_unseen(&mut view);
    assert_eq!(declared(&decide(&view)), None);
    renewed(&mut view, at(0), at(0));
    let next = declared(&decide(&view)).cloned().expect("declares");
    assert_eq!((next.primary, next.primary_floor), (Some(seoul()), Some(standby().applied())));
}

#[test]
fn a_floor_of_the_set_that_is_emptied_becomes_one_of_the_old_primary() {
    let mut view = vacant();
    recruit(&mut view);
    view.agent_mut(&tokyo()).no_failover = true;
    renewed(&mut view, at(0), at(8));
    fenced_unseen(&mut view);
    assert_eq!(declared(&decide(&view)), None, "its standby had confirmed more than it has");
}

#[test]
fn what_the_candidate_had_is_asked_of_it_when_it_is_promoted() {
    let mut view = vacant();
    recruit(&mut view);
    *view.intent_mut() = declared(&decide(&view)).cloned().expect("declares");
    let ordered = orders(&decide(&view));
    let floor = |command: &Command| match command {
        Command::Promote { floor, .. } => Some(*floor),
        _ => None,
    };
    assert_eq!(ordered.iter().find_map(|(_, command)| floor(command)), Some(Some(standby().applied())));
    view.standby_mut(&tokyo()).flushed = Lsn(at(0) - 8);
    view.standby_mut(&tokyo()).replayed = Lsn(at(0) - 8);
    let plan = decide(&view);
    assert!(orders(&plan).iter().all(|(_, command)| floor(command).is_none()), "{:?}", plan.steps);
    assert!(plan.findings.contains(&Finding::DiskWentBack { node: tokyo() }));
}

#[test]
fn a_primary_that_is_a_standby_again_is_not_promoted_a_second_time() {
    let mut view = healthy();
    renewed(&mut view, at(0), at(0));
    let standby = Standby { streaming: false, upstream: None, ..standby() };
    view.server(&seoul(), Server::Standby(standby));
    let plan = decide(&view);
    assert!(orders(&plan).iter().all(|(node, _)| *node != seoul()), "{:?}", plan.steps);
}

#[test]
fn a_settled_set_knows_what_its_members_had_at_the_proof() {
    let mut view = healthy();
    let version = view.intent_mut().version;
    view.intent_mut().sync = vec![];
    view.primary_mut(&seoul()).names_proven = Some((version, Lsn(at(0) - 16)));
    let next = declared(&decide(&view)).cloned().expect("declares");
    let floor = WalPosition::of(Timeline(3), &[SWITCH], Lsn(at(0) - 16));
    assert_eq!((next.sync.len(), next.floors.get(&name_of(&tokyo()))), (1, Some(floor)));
}

#[test]
fn where_a_recruit_stands_is_written_down_while_nobody_can_be_declared() {
    let mut view = vacant();
    recruit(&mut view);
    view.agent_mut(&tokyo()).no_failover = true;
    renewed(&mut view, at(0) - 64, at(0) - 64);
    let next = declared(&decide(&view)).cloned().expect("declares");
    assert_eq!(next.primary, None);
    assert_eq!(next.floors.get(&name_of(&tokyo())), Some(standby().applied()));
    assert_eq!(next.primary_floor, Some(standby().applied()));
    *view.intent_mut() = next;
    recruit(&mut view);
    assert_eq!(declared(&decide(&view)), None, "it is written");
}

#[test]
fn in_async_what_was_confirmed_counts_as_loss_and_forbids_nothing_by_itself() {
    let mut view = vacant();
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next, intent.durability) = (vec![], vec![], Durability::Async);
    recruit(&mut view);
    renewed(&mut view, at(8), at(8));
    let declares = |view: &View, max_data_loss| {
        let policy = Policy {
            durability: Durability::Async,
            max_data_loss,
            rescue_max: std::time::Duration::ZERO,
            ..Policy::default()
        };
        declared(&plan(view, &Memory::default(), &policy, NOW)).and_then(|next| next.primary.clone())
    };
    assert_eq!((declares(&view, 8), declares(&view, 7)), (Some(tokyo()), None));
}

#[test]
fn a_stopped_standby_is_started_without_an_upstream_when_nothing_shows_the_primary_alive() {
    let mut view = healthy();
    renewed(&mut view, at(0), at(0));
    view.nodes.get_mut(&seoul()).expect("seoul").heard = ago(10_000);
    view.server(&tokyo(), Server::Down(Down { watched: false, ..down(false) }));
    assert_eq!(orders(&decide(&view)), [(tokyo(), Command::StartAlone)]);
    view.agent_mut(&tokyo()).primary_since = view.intent.as_ref().map(Intent::stamp);
    assert_eq!(orders(&decide(&view)), [], "it was a primary itself");
    view.server(&tokyo(), Server::Down(Down { watched: false, standby: Some(true), ..down(false) }));
    let ordered = orders(&decide(&view));
    assert_eq!(
        ordered,
        [(tokyo(), Command::StartAlone)],
        "its directory is a standby's, and its memory went back"
    );
    view.server(&tokyo(), Server::Down(Down { watched: false, standby: None, ..down(false) }));
    view.agent_mut(&tokyo()).primary_since = None;
    view.lease = lease_seen(50, view.intent.as_ref().map(Intent::stamp));
    assert_eq!(orders(&decide(&view)), [], "the primary renews its lease");
    without_set(&mut view);
    view.lease = lease_seen(10_000, view.intent.as_ref().map(Intent::stamp));
    let plan = decide(&view);
    assert_eq!(orders(&plan), [], "no commit was promised to be on it");
    assert_eq!(plan.holds, [Hold::SilenceIsNoProof { node: seoul(), missing: vec![] }]);
}

#[test]
fn a_member_that_is_missing_is_named() {
    let osaka = node("osaka");
    let mut view = healthy();
    renewed(&mut view, at(0), at(0));
    view.nodes.get_mut(&seoul()).expect("seoul").heard = ago(10_000);
    let both = set(&[osaka.clone(), tokyo()]);
    let intent = view.intent_mut();
    (intent.sync, intent.sync_next) = (both.clone(), both);
    view.standby_mut(&tokyo()).streaming = false;
    assert_eq!(decide(&view).holds, [Hold::SilenceIsNoProof { node: seoul(), missing: vec![osaka] }]);
}

fn counted(count: u64) -> Option<Renewals> {
    Some(Renewals { incarnation: Incarnation(1), count })
}

#[test]
fn a_store_that_has_forgotten_renewals_is_not_believed() {
    let mut view = vacant();
    recruit(&mut view);
    renewed(&mut view, at(0), at(0));
    view.nodes.get_mut(&seoul()).expect("seoul").renewals = counted(8);
    let plan = decide(&view);
    assert_eq!(declared(&plan).and_then(|next| next.primary.clone()), None, "it is read again first");
    assert!(!plan.holds.contains(&Hold::StoreNotBelieved), "{:?}", plan.holds);
    view.lease.known = counted(8);
    assert_eq!(decide(&view).holds, [Hold::StoreNotBelieved]);
    view.lease.known = counted(7);
    view.nodes.get_mut(&seoul()).expect("seoul").renewals = counted(7);
    assert_eq!(declared(&decide(&view)).and_then(|next| next.primary.clone()), Some(tokyo()));
}

#[test]
fn an_accepted_store_counts_its_renewals_anew() {
    let mut view = healthy();
    renewed(&mut view, at(0), at(0));
    (view.renewals, view.lease.known) = (counted(90), counted(90));
    assert_eq!(decide(&view).holds, [Hold::StoreNotBelieved]);
    let accepted = Intent { incarnation: Incarnation(2), ..view.intent_mut().clone() };
    view.intent = Some(accepted);
    assert!(!decide(&view).holds.contains(&Hold::StoreNotBelieved));
}

#[test]
fn a_data_directory_of_a_later_epoch_remembers_the_store() {
    let mut view = healthy();
    let later = Stamp { epoch: intent().epoch.next(), ..intent().stamp() };
    view.server(&tokyo(), Server::Down(Down { primary_since: Some(later), ..down(true) }));
    assert_eq!(decide(&view).holds, [Hold::StoreNotBelieved]);
    view.agent_mut(&tokyo()).promise = None;
    assert!(!decide(&view).holds.contains(&Hold::StoreNotBelieved), "it may be a copy of another cluster's");
}

/// What seoul told in failsafe time after its seventh renewal, as one that was told has it.
fn told(by: &NodeId, view: &mut View, primary: u64, standby: u64, watched: bool) {
    let of = |lsn| Some(WalPosition { timeline: Timeline(3), lsn: Lsn(lsn) });
    let mut floors = Floors::default();
    floors.raise(&name_of(&tokyo()), of(standby).expect("a position"));
    let note =
        Note { node: seoul(), stamp: intent().stamp(), renewals: counted(8), reached: of(primary), floors };
    view.nodes.get_mut(by).expect("a node").noted = Some(Noted { note, watched });
}

#[test]
fn what_was_told_in_failsafe_time_binds_until_a_renewal_carries_it() {
    let promoted = |view: &View| declared(&decide(view)).and_then(|next| next.primary.clone());
    let mut view = vacant();
    recruit(&mut view);
    renewed(&mut view, at(0), at(0));
    told(&seoul(), &mut view, at(8), at(8), false);
    assert_eq!(promoted(&view), None, "tokyo confirmed more, to a primary that the store had left alone");
    view.nodes.get_mut(&seoul()).expect("seoul").heard = ago(10_000);
    assert_eq!(promoted(&view), None, "who was told that is not heard any more");
    view.lease.last.as_mut().expect("a lease").value.count = 9;
    assert_eq!(promoted(&view), Some(tokyo()), "that was before the last renewal");
}

#[test]
fn an_old_primary_behind_what_it_told_in_failsafe_time_is_not_started() {
    let mut view = healthy();
    renewed(&mut view, at(0), at(0));
    view.server(&seoul(), Server::Down(Down { watched: false, ..down(true) }));
    let policy = Policy { on_crash: OnCrash::Restart, ..Policy::default() };
    assert_eq!(orders(&plan(&view, &Memory::default(), &policy, NOW)), [(seoul(), serve(0))]);
    told(&tokyo(), &mut view, at(8), at(0), true);
    assert_eq!(orders(&plan(&view, &Memory::default(), &policy, NOW)), []);
}

#[test]
fn after_failsafe_time_one_other_that_was_told_is_heard_before_anybody_is_promoted() {
    let promoted = |view: &View| declared(&decide(view)).and_then(|next| next.primary.clone());
    let mut view = vacant();
    recruit(&mut view);
    renewed(&mut view, at(0), at(0));
    told(&tokyo(), &mut view, at(0), at(0), false);
    assert_eq!(promoted(&view), Some(tokyo()), "in a pair there is no other one");
    view.members.insert(node("osaka"));
    assert_eq!(promoted(&view), None, "a disk that went back takes the note along");
    told(&tokyo(), &mut view, at(0), at(0), true);
    assert_eq!(promoted(&view), Some(tokyo()), "it was told in this life, and has run since");
    told(&tokyo(), &mut view, at(0), at(0), false);
    told(&seoul(), &mut view, at(0), at(0), false);
    assert_eq!(promoted(&view), Some(tokyo()), "the old primary is heard, and noted it itself");
}

#[test]
fn a_member_alone_that_has_seen_no_renewal_does_not_know_whether_there_was_failsafe_time() {
    let promoted = |view: &View| declared(&decide(view)).and_then(|next| next.primary.clone());
    let mut view = vacant();
    recruit(&mut view);
    renewed(&mut view, at(0), at(0));
    view.members.insert(node("osaka"));
    view.nodes.get_mut(&seoul()).expect("seoul").heard = ago(10_000);
    assert_eq!(promoted(&view), Some(tokyo()));
    view.lease.renewed = false;
    assert_eq!(promoted(&view), None);
    view.nodes.get_mut(&seoul()).expect("seoul").heard = NOW;
    assert_eq!(promoted(&view), Some(tokyo()), "whoever is heard was told nothing");
}

#[test]
fn what_is_not_known_of_a_failover_is_said() {
    let doubt = |view: &View| without_rescue(view).doubt;
    let mut view = vacant();
    recruit(&mut view);
    renewed(&mut view, at(0), at(0));
    view.nodes.get_mut(&seoul()).expect("seoul").heard = ago(10_000);
    assert_eq!(doubt(&view), None, "it is at its floor, which is fresh");
    view.lease.last.as_mut().expect("a lease").value.floors.freshen(&[].into());
    assert!(doubt(&view).is_some_and(|why| why.contains("has not streamed since")));
    renewed(&mut view, at(0), at(0));
    told(&tokyo(), &mut view, at(0), at(0), true);
    assert!(doubt(&view).is_some_and(|why| why.contains("served without the store")));
    view.nodes.get_mut(&tokyo()).expect("tokyo").noted = None;
    view.nodes.get_mut(&seoul()).expect("seoul").heard = NOW;
    fenced_unseen(&mut view);
    view.lease.last.as_mut().expect("a lease").value.floors.freshen(&[].into());
    assert_eq!(doubt(&view), None, "all that is on the disk of the old primary is on the standby");
}

#[test]
fn a_loss_that_a_disk_took_along_is_said_to_be_unknown() {
    let mut view = vacant();
    without_set(&mut view);
    recruit(&mut view);
    renewed(&mut view, at(8), at(0));
    fenced_unseen(&mut view);
    let standby = view.standby_mut(&tokyo());
    (standby.flushed, standby.replayed) = (Lsn(at(8)), Lsn(at(8)));
    let plan = without_rescue(&view);
    assert!(declared(&plan).is_some());
    assert!(plan.doubt.is_some_and(|why| why.contains("its disk went back in time")));
}

#[test]
fn where_nobody_heard_was_told_beside_the_primary_who_can_be_promoted_is() {
    let mut view = healthy();
    renewed(&mut view, at(0), at(0));
    view.members.insert(node("osaka"));
    view.server(&seoul(), Server::Down(Down { watched: false, ..down(true) }));
    told(&seoul(), &mut view, at(0), at(0), false);
    let policy = Policy { on_crash: OnCrash::Restart, ..Policy::default() };
    let decided = |view: &View| plan(view, &Memory::default(), &policy, NOW);
    assert_eq!(declared(&decided(&view)).map(|next| next.primary.clone()), Some(None));
    view.agent_mut(&tokyo()).no_failover = true;
    assert!(orders(&decided(&view)).is_empty(), "its own note takes nobody's place");
    told(&tokyo(), &mut view, at(0), at(0), false);
    assert_eq!(orders(&decided(&view)), [(seoul(), serve(0))]);
}
