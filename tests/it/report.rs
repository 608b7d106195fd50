//! Reports: the JSON that others read, and the text that people read.

use locum::{
    model::{
        Cause, Driver, EndpointName, Epoch, Incident, IncidentId, IncidentKind, LostTable, LostTransaction,
        Mark, MarkName, Mono, NodeId, Objectives, Repointed, RpoAtOnset,
    },
    report::{self, Paint},
};
use proptest::prelude::*;
use serde_json::Value;

fn node(name: &str) -> Option<NodeId> {
    Some(NodeId::new(name).unwrap())
}

/// A crash in sync mode: from seoul to busan in 143 ms.
pub(crate) fn crash() -> Incident {
    let marks = [
        (MarkName::Onset, 0),
        (MarkName::Suspected, 1_400),
        (MarkName::Confirmed, 1_900),
        (MarkName::Fenced, 24_300),
        (MarkName::Chosen, 38_000),
        (MarkName::Promoted, 104_500),
        (MarkName::Repointed, 106_000),
        (MarkName::Verified, 119_000),
        (MarkName::AppReady, 143_200),
        (MarkName::RedundancyRestored, 2_310_000),
    ];
    Incident {
        id: IncidentId("20261122-084030-e2".into()),
        kind: IncidentKind::Failover,
        cause: Cause {
            summary: "the postmaster of primary seoul died".into(),
            evidence: vec![
                "seoul's agent saw process 4711 end through its pidfd, 0.4 ms after the last good probe"
                    .into(),
                "nobody had told it to stop".into(),
            ],
        },
        epoch: Epoch(2),
        from: node("seoul"),
        to: node("busan"),
        started_at: "2026-11-22T08:40:30.123Z".parse().unwrap(),
        leader: NodeId::new("busan").unwrap(),
        marks: marks.iter().map(|(name, at)| Mark { name: *name, at: Mono(5_000_000 + at) }).collect(),
        rpo: RpoAtOnset {
            rescued_bytes: None,
            live_bytes: Some(1_208),
            live_ms: Some(0.9),
            as_of_ms: 61.5,
            acknowledged_is_safe: true,
            written_after_bytes: Some(4_096),
            lost_bytes: Some(312),
            lost_transactions: Some(2),
            salvage: Some("/var/lib/locum/seoul/salvage/e2".into()),
            ..RpoAtOnset::default()
        },
        live: None,
        objectives: Objectives { rto_ms: 5_000.0, rpo_ms: 0.0 },
        connections_cut: 4,
        connections_held: 12,
        repoints: Vec::new(),
        connections_refused: 0,
        from_name: None,
        longest_gap_ms: Some(140.0),
        deviations: vec!["promote busan was repeated once: no answer in 1 s".into()],
        abandoned: None,
        closed: true,
        operation: None,
    }
}

fn async_crash_whose_loss_is_not_known() -> Incident {
    let mut incident = crash();
    incident.rpo =
        RpoAtOnset { acknowledged_is_safe: false, lost_bytes: None, lost_transactions: None, ..incident.rpo };
    incident.rpo.written_after_bytes = None;
    incident.rpo.salvage = None;
    incident.deviations.clear();
    incident.objectives.rto_ms = 100.0;
    incident
}

#[test]
fn what_is_not_known_is_not_denied() {
    let mut incident = crash();
    incident.rpo.doubt = Some("unknown, at most what was acknowledged in failsafe time".into());
    let text = report::text(&[incident]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("Acknowledged transactions lost: unknown, at most"), "{text}");
    assert!(!text.contains("No acknowledged"), "{text}");
}

#[test]
fn a_crash_reads_like_this() {
    let expected = "\
failover 20261122-084030-e2                                              2026-11-22 08:40:30 UTC
────────────────────────────────────────────────────────────────────────────────────────────────
What         Primary seoul failed, and busan took over. Service was gone for 143 ms. No
             acknowledged transaction was lost; 2 transactions that nobody was told about are
             not in the new primary.
Cause        the postmaster of primary seoul died
             - seoul's agent saw process 4711 end through its pidfd, 0.4 ms after the last good
               probe
             - nobody had told it to stop
Phases       suspected               1.4 ms  ▏
             confirmed               0.5 ms  ▏
             fenced                   22 ms  █████
             chosen                   14 ms       ███
             promoted                 66 ms          ██████████████
             repointed               1.5 ms                        ▏
             verified                 13 ms                        ███
             app ready                24 ms                           █████
             RTO                     143 ms  from the last good moment to proven good again
             of the database         119 ms  of it, until that commit
             redundancy restored     2.31 s  after the onset; not part of the RTO
Forecast     live RPO at the onset: 1,208 B, 0.9 ms of work (read 62 ms before it). Every
             acknowledged commit was on the standby; these bytes are a tail that nobody was told
             about.
Fact         lost: 312 B, 2 transactions, none of them acknowledged; 4,096 B written after that
             reading.
Salvaged     What is not in the new primary is kept in /var/lib/locum/seoul/salvage/e2
Clients      4 connections cut; 12 waited and were then served. No server answered for 140 ms at
             the longest.
Deviations   What went otherwise than planned:
             - promote busan was repeated once: no answer in 1 s
Objectives   RTO met: 143 ms of 5 s allowed
             RPO met: 0 ms of lost work allowed
Record       Epoch 2, led and timed by busan.
";
    assert_eq!(report::incident_text(&crash()), expected);
}

#[test]
fn each_endpoint_has_its_line() {
    let line = |endpoint: &str, driver, after_ms: Option<f64>, error: Option<&str>| Repointed {
        member: node("seoul").unwrap(),
        endpoint: EndpointName::new(endpoint).unwrap(),
        driver,
        took_ms: after_ms.map(|_| 2.5),
        after_ms,
        error: error.map(str::to_owned),
    };
    let mut incident = crash();
    incident.repoints = vec![
        line("db", Driver::Proxy, Some(107.0), None),
        line("dns", Driver::Webhook, None, Some("webhook: it answered 500 Internal Server Error")),
    ];
    let expected = "\
Endpoints    db@seoul (proxy): led there 107 ms after the onset, 2.5 ms after the order
             dns@seoul (webhook): NOT CONFIRMED: webhook: it answered 500 Internal Server Error
";
    let text = report::incident_text(&incident);
    assert!(text.contains(expected), "{text}");
    let json = serde_json::to_value(report::Printed::from(&incident)).unwrap();
    assert_eq!(
        (&json["repoints"][1]["driver"], &json["repoints"][0]["after_ms"]),
        (&"webhook".into(), &107.0.into())
    );
}

#[test]
fn lost_transactions_are_listed_beside_the_forecast() {
    let mut incident = crash();
    incident.rpo.acknowledged_is_safe = false;
    let table =
        LostTable { table: "public.orders".into(), inserted: 1_200, deleted: 1, ..LostTable::default() };
    let emptied = LostTable { table: "public.cart".into(), emptied: true, ..LostTable::default() };
    incident.rpo.lost_tables = vec![table.clone(), emptied];
    incident.rpo.lost_first = vec![LostTransaction {
        xid: 747,
        at: Some("2026-11-22T08:40:29.5Z".parse().unwrap()),
        tables: vec![table],
        sequences: vec!["public.orders_id_seq in shop".into()],
        bytes: 90_000,
        partial: true,
        ..LostTransaction::default()
    }];
    let expected = "\
Incident     20261122-084030-e2: busan took over from seoul
Forecast     live RPO at the onset: 1,208 B, 0.9 ms of work (read 62 ms before it).
Fact         lost: 312 B, 2 transactions; 4,096 B written after that reading.
Salvaged     /var/lib/locum/seoul/salvage/e2 on seoul: the WAL, this list (lost.json), and a
             README
Tables       public.orders: 1,200 inserted, 1 deleted
             public.cart: emptied, dropped or rewritten
Transactions 747  2026-11-22 08:40:29.500 UTC  committed, 88 KiB; it began before the WAL that was there
               public.orders: 1,200 inserted, 1 deleted
               sequence public.orders_id_seq in shop
             and 1 more; lost.json has them all
";
    assert_eq!(report::lost_text(&incident, None), expected);
}

#[test]
fn a_loss_that_nobody_will_know_is_said_to_be_unknown() {
    let mut incident = async_crash_whose_loss_is_not_known();
    incident.rpo.lost_unknown = Some("WAL of timeline 1 from 0/3000148 on was gone".into());
    let text = report::incident_text(&incident).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["will not be", "lost: unknown, WAL of timeline 1 from 0/3000148 on was gone.", "RPO not known"]
    {
        assert!(text.contains(part), "expected {part:?} in\n{text}");
    }
}

#[test]
fn what_is_not_known_is_not_called_nothing() {
    let text = report::incident_text(&async_crash_whose_loss_is_not_known());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "What was lost is not yet known",
        "lost: not yet known; what was written after that reading is not yet known",
        "RTO MISSED: 143 ms of 100 ms allowed",
        "RPO not known yet",
    ] {
        assert!(text.contains(part), "expected {part:?} in\n{text}");
    }
    assert!(!text.contains("No acknowledged transaction was lost"), "{text}");
}

#[test]
fn an_incident_that_is_not_over_says_so() {
    let mut incident = crash();
    incident.marks.truncate(5);
    incident.to = None;
    let text = report::incident_text(&incident);
    assert!(text.contains("It is not over: service has not been proven good again."), "{text}");
    assert!(text.contains("RTO not known yet: no end yet of 5 s allowed"), "{text}");
    incident.abandoned = Some("the standby failed on the way".into());
    let text = report::incident_text(&incident);
    assert!(text.contains("It was given up: the standby failed on the way."), "{text}");
}

#[test]
fn the_figures_across_incidents_stand_first() {
    let mut switchover = crash();
    switchover.kind = IncidentKind::Switchover;
    switchover.started_at = "2026-11-22T09:12:01Z".parse().unwrap();
    let text = report::text(&[crash(), async_crash_whose_loss_is_not_known(), switchover]);
    let head: Vec<_> = text.lines().take(5).collect();
    assert_eq!(head[0], "3 incidents, 2026-11-22 08:40:30 UTC to 2026-11-22 09:12:01 UTC");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(head[2]), "kind count RTO p50 p95 max RTO objective RPO objective");
    assert_eq!(words(head[3]), "failover 2 143 ms 143 ms 143 ms 1 met, 1 missed 1 met, 1 unknown");
    assert_eq!(words(head[4]), "switchover 1 143 ms 143 ms 143 ms 1 met 1 met");
}

#[test]
fn every_kind_says_what_happened() {
    for (kind, sentence) in [
        (IncidentKind::Failover, "Primary seoul failed, and busan took over. Service was gone for 143 ms."),
        (
            IncidentKind::Restart,
            "Primary seoul failed and was started again in place. Service was gone for 143 ms.",
        ),
        (
            IncidentKind::Switchover,
            "handed over from seoul to busan, as planned. Service was gone for 143 ms.",
        ),
        (IncidentKind::AppFailover, "The app server of seoul failed, and the one of busan took over."),
    ] {
        let mut incident = crash();
        incident.kind = kind;
        let text = report::incident_text(&incident).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(sentence), "{text}");
    }
}

#[test]
fn a_switchover_that_did_not_come_about_says_how_far_it_came() {
    let mut incident = crash();
    incident.kind = IncidentKind::Switchover;
    incident.abandoned = Some("no answer from busan".into());
    let text = |incident: &Incident| {
        report::incident_text(incident).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    incident.to = incident.from.clone();
    let cut = text(&incident);
    let said = "A switchover from seoul was begun and given up: no answer from busan. \
                seoul is the primary as before. Service was gone for 143 ms.";
    assert!(cut.contains(said), "{cut}");
    incident.marks.clear();
    let unnoticed = text(&incident);
    assert!(!unnoticed.contains("Service was gone"), "{unnoticed}");
    incident.to = None;
    let dropped = text(&incident);
    let said = "A scheduled switchover from seoul was not begun: no answer from busan. \
                seoul is the primary as before.";
    assert!(dropped.contains(said) && dropped.contains("RTO met: no outage of 5 s allowed"), "{dropped}");
}

#[test]
fn no_line_is_wider_than_96_columns_and_colour_changes_no_words() {
    let incidents = [crash(), async_crash_whose_loss_is_not_known()];
    let plain = report::text(&incidents);
    for line in plain.lines() {
        assert!(line.chars().count() <= 96, "{} columns: {line}", line.chars().count());
    }
    let coloured = report::text_in(&incidents, Paint::Coloured);
    assert!(coloured.contains("\u{1b}[31mMISSED\u{1b}[0m"));
    let mut bare = coloured;
    while let Some(begin) = bare.find('\u{1b}') {
        let end = begin + bare[begin..].find('m').unwrap();
        bare.replace_range(begin..=end, "");
    }
    let trimmed = |text: &str| text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
    assert_eq!(trimmed(&bare), plain);
}

#[test]
fn no_incidents_is_an_answer() {
    assert_eq!(report::text(&[]), "No incidents.\n");
    assert_eq!(serde_json::to_string(&report::json(&[])).unwrap(), r#"{"incidents":[]}"#);
}

#[test]
fn the_json_has_the_promised_shape() {
    let json = serde_json::to_value(report::json(&[crash(), async_crash_whose_loss_is_not_known()])).unwrap();
    let first = &json["incidents"][0];
    for (field, expected) in [
        ("/id", "\"20261122-084030-e2\""),
        ("/kind", "\"failover\""),
        ("/cause", "\"the postmaster of primary seoul died\""),
        ("/evidence/1", "\"nobody had told it to stop\""),
        ("/epoch", "2"),
        ("/from", "\"seoul\""),
        ("/to", "\"busan\""),
        ("/started_at", "\"2026-11-22T08:40:30.123Z\""),
        ("/rto_ms", "143.2"),
        ("/database_ms", "119.0"),
        ("/phases/0", r#"{"ms":1.4,"name":"suspected"}"#),
        ("/phases/7/name", "\"app ready\""),
        ("/rpo/live_bytes", "1208"),
        ("/rpo/live_ms", "0.9"),
        ("/rpo/as_of_ms", "61.5"),
        ("/rpo/lost_transactions", "2"),
        ("/objectives", r#"{"rpo_ms":0.0,"rto_ms":5000.0}"#),
        ("/verdict", r#"{"rpo":"met","rto":"met"}"#),
        ("/redundancy_ms", "2310.0"),
        ("/connections_held", "12"),
        ("/connections_refused", "0"),
        ("/longest_gap_ms", "140.0"),
    ] {
        assert_eq!(first.pointer(field).map(Value::to_string).as_deref(), Some(expected), "{field}");
    }
    assert_eq!(first["phases"].as_array().map(Vec::len), Some(8), "up to app ready, and no further");
    assert_eq!(json["incidents"][1]["rpo"]["lost_bytes"], Value::Null);
    assert_eq!(json["incidents"][1]["verdict"]["rpo"], "unknown");
    let back: report::Report = serde_json::from_value(json).unwrap();
    assert_eq!(back, report::json(&[crash(), async_crash_whose_loss_is_not_known()]));
}

proptest! {
    #[test]
    fn phases_add_up_to_the_rto(begin in 0u64..1 << 50, gaps in proptest::collection::vec(0u64..90_000_000, 9), skip in 0usize..512) {
        let mut incident = crash();
        incident.marks.clear();
        let names = [
            MarkName::Suspected, MarkName::Confirmed, MarkName::Fenced, MarkName::Chosen, MarkName::Promoted,
            MarkName::Repointed, MarkName::Verified, MarkName::AppReady, MarkName::RedundancyRestored,
        ];
        incident.mark(MarkName::Onset, Mono(begin));
        let mut at = begin;
        for (index, (name, gap)) in names.into_iter().zip(gaps).enumerate() {
            at += gap;
            // Any of them may be missing but the end; and one may come with a clock that lags.
            if skip & (1 << index) == 0 || name == MarkName::AppReady {
                incident.mark(name, Mono(at.saturating_sub(gap / 3)));
            }
        }
        let printed = serde_json::to_value(report::json(&[incident])).unwrap();
        let printed = &printed["incidents"][0];
        let sum: f64 = printed["phases"].as_array().unwrap().iter().filter_map(|phase| phase["ms"].as_f64()).sum();
        let rto = printed["rto_ms"].as_f64().unwrap();
        prop_assert!((sum - rto).abs() <= 1.0, "{sum} {rto}");
        prop_assert!(printed["phases"].as_array().unwrap().iter().all(|phase| phase["ms"].as_f64().unwrap() >= 0.0));
    }
}
