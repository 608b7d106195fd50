//! One laboratory with clients that write all the time: broken, healed, and judged.
#![allow(dead_code, reason = "the tests and the soak each use a part")]

use std::{fs::File, io::BufWriter, path::Path, time::Duration};

use crate::{
    checker::{Clients, History, Load, Survivor, Verdict, judge, outage},
    lab::{Fault, Lab, Part, Wish, available, status::primary_of},
};

/// Where the history of a test that fails is written, if this is set.
const KEEP: &str = "LOCUM_LAB_KEEP_LOGS";

/// It.
pub(crate) struct Trial {
    /// The laboratory.
    pub(crate) lab: Lab,
    /// The clients.
    pub(crate) clients: Clients,
}

/// How it ended.
pub(crate) struct Ended {
    /// What clients saw.
    pub(crate) history: History,
    /// What is left.
    pub(crate) survivor: Survivor,
    /// The judgement.
    pub(crate) verdict: Verdict,
}

impl Trial {
    /// Builds a laboratory, waits until it is whole, and starts writers. None: no laboratory can be built here, which is
    /// said; an ordinary user has no network namespaces.
    pub(crate) async fn new(wish: &Wish) -> Option<Self> {
        Self::with_load(wish, &Load::default()).await
    }

    /// The same with other clients.
    pub(crate) async fn with_load(wish: &Wish, load: &Load) -> Option<Self> {
        if let Err(error) = available() {
            println!("not tested here: {error}");
            return None;
        }
        let lab = Lab::build(wish).expect("a laboratory");
        lab.settled().await;
        let clients = Clients::start(&lab, load).await;
        Some(Self { lab, clients })
    }

    /// Begins a fault; when, on the history's clock.
    pub(crate) fn begin(&self, fault: &Fault) -> u64 {
        self.clients.begin(&self.lab, fault).expect("the fault begins")
    }

    /// Heals it.
    pub(crate) fn heal(&self, fault: &Fault) -> u64 {
        self.clients.heal(&self.lab, fault).expect("the fault is healed")
    }

    /// Waits until another node than `old` is the declared primary, and clients elsewhere are served by it.
    pub(crate) async fn moves_from(&self, old: &str) -> String {
        let begun = self.clients.now_us();
        let other = |seen: &locum::model::Snapshot| primary_of(seen).is_some_and(|name| name != old);
        let seen = self.lab.shows("another primary", other).await;
        let elsewhere: Vec<_> =
            self.lab.plan.members().map(|host| host.name.as_str()).filter(|name| *name != old).collect();
        let served = self.clients.is_served_within(Duration::from_secs(60), begun, &elsewhere).await;
        assert!(served, "clients elsewhere than {old} are not served again");
        primary_of(&seen).expect("a primary").to_owned()
    }

    /// Stays as it is for a while: for faults that must lead to nothing. What is asserted is asserted afterwards, from
    /// the history.
    pub(crate) async fn lasts(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Waits until all is well, and clients are served through every endpoint.
    pub(crate) async fn whole(&self) -> locum::model::Snapshot {
        let seen = self.lab.whole().await;
        self.clients.goes_on().await;
        seen
    }

    /// Has a host's member lead, unless it is the primary's: others that do are frozen until they do not.
    pub(crate) async fn led_from(&self, host: &str) {
        for _ in 0..10 {
            let leader = self.lab.settled().await.node.as_str().to_owned();
            if leader == host {
                return;
            }
            let fault = Fault::Freeze(Part::Member, leader.clone());
            self.begin(&fault);
            self.lab.shows("another leader", |seen| seen.node.as_str() != leader).await;
            self.heal(&fault);
        }
        panic!("{host} has not come to lead");
    }

    /// The epoch.
    pub(crate) async fn epoch(&self) -> u64 {
        let seen = self.lab.shows("an intent", |seen| seen.intent.is_some()).await;
        seen.intent.expect("an intent").epoch.0
    }

    /// The end of every test: all is well again, and no acknowledged row is missing, nothing is there twice, and no two
    /// nodes acknowledged at the same time.
    pub(crate) async fn ends(self) -> Ended {
        let ended = self.ends_anyhow().await;
        assert!(ended.verdict.is_lossless(), "{}", ended.verdict);
        ended
    }

    /// The same where an acknowledged row may be missing.
    pub(crate) async fn ends_sound(self) -> Ended {
        let ended = self.ends_anyhow().await;
        assert!(ended.verdict.is_sound(), "{}", ended.verdict);
        ended
    }

    /// The primary's host is lost until another one serves, and boots again. As [`Trial::ends`]; tells how long clients elsewhere
    /// waited.
    pub(crate) async fn survives_the_loss_of(self, old: &str) {
        let fault = Fault::HostLost(old.to_owned());
        let begun = self.begin(&fault);
        self.moves_from(old).await;
        let until = self.heal(&fault);
        let ended = self.ends().await;
        println!("outage elsewhere: {:.0} ms", ended.outage_elsewhere(begun, until, old));
    }

    async fn ends_anyhow(self) -> Ended {
        self.whole().await;
        let history = self.clients.finish().await;
        let survivor = Survivor::read(&self.lab, 0).await.expect("the surviving primary answers");
        let verdict = judge(&history, &survivor);
        println!("{verdict}");
        if let (false, Some(folder)) = (verdict.is_lossless(), std::env::var_os(KEEP)) {
            let path = Path::new(&folder).join(format!("history-{}.jsonl", self.lab.plan.id));
            let file = File::create(&path).expect("a file for the history");
            history.write(&survivor, &mut BufWriter::new(file)).expect("the history is written");
            println!("the history is in {}", path.display());
        }
        Ended { history, survivor, verdict }
    }
}

impl Ended {
    /// How long those were without service whose endpoint is not on `host`, around what happened in between, in ms.
    pub(crate) fn outage_elsewhere(&self, from_us: u64, until_us: u64, host: &str) -> f64 {
        outage::longest_elsewhere_ms(&self.history, from_us, until_us, host).expect("service came back")
    }

    /// How long everybody was without service.
    pub(crate) fn outage(&self, from_us: u64, until_us: u64) -> f64 {
        outage::longest_ms(&self.history, from_us, until_us).expect("service came back")
    }
}
