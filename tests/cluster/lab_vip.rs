//! A virtual IP on hosts of their own: it is where the primary is, at no time elsewhere, and neighbours learn of it.

use std::{net::IpAddr, time::Duration};

use locum::model::{Driver, EndpointStatus, Operation, OperationState, Snapshot};
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_postgres::NoTls;

use crate::{
    fixture::until,
    lab::{
        Wish,
        plan::{CLIENTS, POSTGRES_PORT},
        run,
        status::{finds, primary_of},
    },
    trial::Trial,
};

/// How long one try of a client may take.
const TRY: Duration = Duration::from_millis(500);

struct Vips<'a> {
    trial: &'a Trial,
    four: IpAddr,
    six: IpAddr,
}

impl<'a> Vips<'a> {
    fn of(trial: &'a Trial) -> Self {
        let (four, six) = trial.lab.plan.vips();
        // A neighbour needs an address in that network, too.
        let clients = trial.lab.plan.namespace(CLIENTS);
        let near = six.to_string().replace("99", "77");
        run::words(&format!("ip -n {clients} addr add {near}/64 dev eth0 nodad")).unwrap();
        Self { trial, four: four.into(), six: six.into() }
    }

    /// Both, with the length of their networks, as `ip` wants them.
    fn words(&self) -> [String; 2] {
        [format!("{}/24", self.four), format!("{}/64", self.six)]
    }

    /// A host of the clients' answers for both from now on.
    fn are_held_by_somebody_else(&self) {
        let clients = self.trial.lab.plan.namespace(CLIENTS);
        for ip in self.words() {
            let nodad = if ip.contains(':') { "nodad" } else { "" };
            run::words(&format!("ip -n {clients} addr add {ip} {nodad} dev eth0")).unwrap();
        }
    }

    /// And no longer.
    fn are_free(&self) {
        let clients = self.trial.lab.plan.namespace(CLIENTS);
        for ip in self.words() {
            run::words(&format!("ip -n {clients} addr del {ip} dev eth0")).unwrap();
        }
    }

    /// Which hosts have an address.
    fn holders(&self, ip: IpAddr) -> Vec<String> {
        let plan = &self.trial.lab.plan;
        let has = |host: &str| {
            let said = run::words(&format!("ip -n {} -o addr show", plan.namespace(host))).unwrap();
            said.contains(&format!(" {ip}/"))
        };
        plan.servers().map(|host| host.name.clone()).filter(|name| has(name)).collect()
    }

    /// Waits until the first of them is on a host, and on no other one.
    async fn first_is_only_on(&self, host: &str) {
        until("the address on one host alone", || async {
            (self.holders(self.four) == [host]).then_some(())
        })
        .await;
    }

    fn mac(&self, host: &str) -> String {
        let said =
            run::words(&format!("ip -n {} -o link show eth0", self.trial.lab.plan.namespace(host))).unwrap();
        said.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned()
    }

    /// Who clients believe has an address.
    fn believed(&self, ip: IpAddr) -> String {
        let clients = self.trial.lab.plan.namespace(CLIENTS);
        let said = run::words(&format!("ip -n {clients} neigh show {ip} dev eth0")).unwrap();
        said.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
    }

    /// Waits until both addresses are where `host` is, and clients know it without having asked.
    async fn move_to(&self, host: &str) {
        let mac = self.mac(host);
        until("the addresses, on the primary and known to neighbours", || async {
            let there = |ip| self.holders(ip).contains(&host.to_owned()) && self.believed(ip) == mac;
            (there(self.four) && there(self.six)).then_some(())
        })
        .await;
    }

    /// Who answers a client at the address.
    async fn answers(&self, host: &str) {
        let (four, six) = (self.four, self.six);
        until("a client's answer at the address", || async {
            let at = format!("host={four} port={POSTGRES_PORT} user=postgres dbname=postgres");
            let clients = self.trial.lab.clients();
            let name = clients.run(async move {
                let _reached = timeout(TRY, TcpStream::connect((six, POSTGRES_PORT))).await.ok()?.ok()?;
                let (client, connection) =
                    timeout(TRY, tokio_postgres::connect(&at, NoTls)).await.ok()?.ok()?;
                tokio::spawn(connection);
                let row = client.query_one("SELECT current_setting('cluster_name')", &[]).await.ok()?;
                Some(row.get::<_, String>(0))
            });
            (name.await.as_deref() == Some(host)).then_some(())
        })
        .await;
    }
}

/// Why an address is not on a host where it should be.
fn problem(seen: &Snapshot, host: &str, name: &str) -> String {
    let of = |one: &&EndpointStatus| one.name.as_str() == name && one.member.as_str() == host;
    seen.endpoints.iter().find(of).and_then(|one| one.problem.clone()).unwrap_or_default()
}

/// Has the primary hand over, as a person does: who is told to try again in a second does so.
async fn hand_over(trial: &Trial) -> String {
    let old = trial.lab.primary().await;
    asks_for_a_switchover(trial).await;
    trial.moves_from(&old).await
}

async fn asks_for_a_switchover(trial: &Trial) {
    until("a switchover that is not refused", || async {
        let leader = trial.lab.leader().await?;
        let (code, said) = trial.lab.post(leader.node.as_str(), "/v1/switchover", &json!({})).await?;
        let asked = (code == 202).then(|| said["operation"].as_str().expect("an operation").to_owned())?;
        let of = |one: &&Operation| one.id == asked && one.state != OperationState::Pending;
        let taken = until("an answer to it", || async {
            let seen = trial.lab.leader().await?;
            Some(seen.operations.iter().find(of)?.state)
        });
        (taken.await != OperationState::Refused).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_moves_with_the_primary_and_is_given_up_by_a_host_that_is_cut_off() {
    let Some(trial) = Trial::new(&Wish::hosts(3).vip()).await else { return };
    let vips = Vips::of(&trial);
    let first = trial.lab.primary().await;
    vips.answers(&first).await;
    vips.move_to(&first).await;

    let second = hand_over(&trial).await;
    vips.move_to(&second).await;
    vips.answers(&second).await;
    trial.whole().await;
    assert_eq!(
        (vips.holders(vips.four), vips.holders(vips.six)),
        (vec![second.clone()], vec![second.clone()])
    );

    // Its cable is pulled: it is asked for nothing, and still gives the address up.
    let cut = trial.lab.plan.namespace(&second);
    run::words(&format!("ip -n {cut} link set eth0 down")).unwrap();
    let third = trial.moves_from(&second).await;
    vips.move_to(&third).await;
    vips.answers(&third).await;
    vips.first_is_only_on(&third).await;
    run::words(&format!("ip -n {cut} link set eth0 up")).unwrap();
    trial.whole().await;
    vips.answers(&third).await;
    assert_eq!(vips.holders(vips.four), std::slice::from_ref(&third));
    trial.ends().await;
}

/// What was ordered last there is to hold clients: who is led where is not said any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_given_up_by_a_host_that_is_cut_off_in_the_middle_of_a_switchover() {
    let wish = Wish { set: vec!["policy.drain=10s".into()], ..Wish::hosts(3).vip() };
    let Some(trial) = Trial::new(&wish).await else { return };
    let vips = Vips::of(&trial);
    let first = trial.lab.primary().await;
    vips.answers(&first).await;
    // Somebody is within a transaction, and is waited for.
    let at = format!("host={} port={POSTGRES_PORT} user=postgres dbname=postgres", trial.lab.host(&first).ip);
    let clients = trial.lab.clients();
    let begun = clients.run(async move {
        let (client, connection) = tokio_postgres::connect(&at, NoTls).await.expect("a session");
        tokio::spawn(connection);
        client.batch_execute("BEGIN; CREATE TABLE work (n int)").await.expect("it has begun");
        client
    });
    let _begun = begun.await;
    asks_for_a_switchover(&trial).await;
    trial.lab.shows("clients that are held", Snapshot::holds_clients).await;
    let cut = trial.lab.plan.namespace(&first);
    run::words(&format!("ip -n {cut} link set eth0 down")).unwrap();
    let second = trial.moves_from(&first).await;
    vips.move_to(&second).await;
    vips.first_is_only_on(&second).await;
    run::words(&format!("ip -n {cut} link set eth0 up")).unwrap();
    trial.whole().await;
    vips.answers(&second).await;
    trial.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_somebody_else_holds_is_reported_and_holds_nothing_up() {
    let Some(trial) = Trial::new(&Wish::hosts(3).vip()).await else { return };
    let vips = Vips::of(&trial);
    let first = trial.lab.primary().await;
    vips.answers(&first).await;
    // Somebody takes it the moment it is free: here, from before.
    vips.are_held_by_somebody_else();
    let second = hand_over(&trial).await;
    let held = format!("is held by {}", vips.mac(CLIENTS));
    let told = |seen: &Snapshot| {
        primary_of(seen) == Some(second.as_str())
            && finds(seen, "endpoint_unconfirmed")
            && problem(seen, &second, "vip").contains(&held)
            && problem(seen, &second, "vip6").contains(&held)
    };
    trial.lab.shows("who holds the address", told).await;
    assert_eq!(vips.holders(vips.four), Vec::<String>::new());
    let served = |seen: &Snapshot| {
        let incident = seen.incident.as_ref().or(seen.last_incident.as_ref());
        incident.is_some_and(|incident| incident.rto_ms().is_some())
    };
    trial.lab.shows("service, which waits for no address", served).await;
    vips.are_free();
    vips.first_is_only_on(&second).await;
    vips.answers(&second).await;
    let seen = trial.whole().await;
    let lines = seen.last_incident.unwrap().repoints;
    assert!(lines.iter().any(|line| line.driver == Driver::Vip && line.after_ms.is_some()), "{lines:#?}");
    trial.ends().await;
}

/// How long the address that may be claimed is left to whoever holds it.
const CLAIM_AFTER: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_somebody_else_holds_is_taken_after_claim_after_and_never_without_it() {
    let wish = Wish::hosts(3).vip_claimed_after(&format!("{}s", CLAIM_AFTER.as_secs()));
    let Some(trial) = Trial::new(&wish).await else { return };
    let vips = Vips::of(&trial);
    let first = trial.lab.primary().await;
    vips.answers(&first).await;
    vips.are_held_by_somebody_else();
    let second = hand_over(&trial).await;
    // Not at once: whoever holds it is told first.
    let held = format!("is held by {}", vips.mac(CLIENTS));
    let told = |seen: &Snapshot| problem(seen, &second, "vip").contains(&held);
    trial.lab.shows("who holds the address", told).await;
    vips.first_is_only_on(&second).await;
    // The other one is asked for as often, and by now for as long.
    let seen =
        trial.lab.shows("the address confirmed", |seen| problem(seen, &second, "vip").is_empty()).await;
    assert!(problem(&seen, &second, "vip6").contains(&held), "{:#?}", seen.endpoints);
    assert_eq!(vips.holders(vips.six), Vec::<String>::new());

    vips.are_free();
    let seen = trial.whole().await;
    let lines = seen.last_incident.unwrap().repoints;
    let claimed = lines.iter().find(|line| line.endpoint.as_str() == "vip" && line.member.as_str() == second);
    let took = claimed.and_then(|line| line.took_ms).expect("the time it took");
    assert!(took >= CLAIM_AFTER.as_secs_f64() * 1000.0, "{took} ms");
    vips.answers(&second).await;
    trial.ends().await;
}
