//! The host of an endpoint is lost with it: its clients go on at a second one.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Error, NoTls};

use crate::{
    fixture::until,
    lab::{
        Fault, Wish, member,
        plan::{API_PORT, CLIENTS, ENDPOINT_PORT},
        run,
    },
    trial::Trial,
};

/// A client gives an endpoint that says nothing no longer than this.
const CONNECT: &str = "connect_timeout=1";
/// And a server behind it that says nothing no longer than this.
const ANSWER: Duration = Duration::from_secs(3);

/// A session, and by which host's endpoint it came to the server.
struct Session {
    client: Client,
    by: Ipv4Addr,
    _connection: JoinHandle<Result<(), Error>>,
}

impl Session {
    /// As any driver does that was given several hosts: the first that answers. None: none of them serves.
    async fn open(trial: &Trial, hosts: &[Ipv4Addr]) -> Option<Self> {
        let list = |each: &dyn Fn(&Ipv4Addr) -> String| hosts.iter().map(each).collect::<Vec<_>>().join(",");
        let at = format!(
            "host={} port={} user=postgres dbname=postgres {CONNECT}",
            list(&ToString::to_string),
            list(&|_| ENDPOINT_PORT.to_string())
        );
        let clients = trial.lab.clients();
        let opened = clients.run(async move {
            let (client, connection) = tokio_postgres::connect(&at, NoTls).await.ok()?;
            let connection = tokio::spawn(connection);
            let row = client.query_one("SELECT host(inet_client_addr())", &[]).await.ok()?;
            let by = row.get::<_, String>(0).parse().expect("an address");
            Some(Self { client, by, _connection: connection })
        });
        timeout(ANSWER, opened).await.ok()?
    }

    /// The same, until it is served.
    async fn served(trial: &Trial, hosts: &[Ipv4Addr]) -> Self {
        until("a session that is served", || Self::open(trial, hosts)).await
    }

    /// True if something is committed in it.
    async fn commits(&self) -> bool {
        let said = timeout(ANSWER, self.client.batch_execute("SELECT pg_current_xact_id()")).await;
        matches!(said, Ok(Ok(())))
    }
}

/// Starts `locum endpoint` on the clients' host: it ends with the laboratory.
fn start_beside_the_clients(trial: &Trial) {
    let plan = &trial.lab.plan;
    let mut command = run::inside(&plan.namespace(CLIENTS), "env");
    command.arg(&plan.locum).arg("endpoint");
    command.args(["--listen", &format!("{}:{ENDPOINT_PORT}", plan.clients)]);
    for host in plan.members() {
        command.args(["--member", &format!("http://{}:{API_PORT}", host.ip)]);
    }
    member::spawn(command, &plan.folder.join("endpoint.log")).expect("locum endpoint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_an_endpoint_whose_host_is_lost_go_on_at_a_second_one() {
    let Some(trial) = Trial::new(&Wish::hosts(3)).await else { return };
    let ip = |name: &str| trial.lab.host(name).ip;
    let first = trial.lab.primary().await;
    let [lost, second] = <[String; 2]>::try_from(trial.lab.standbys().await).expect("two standbys");
    start_beside_the_clients(&trial);
    let own = [trial.lab.plan.clients];
    let beside = Session::served(&trial, &own).await;
    let several = [ip(&lost), ip(&second)];
    let session = Session::served(&trial, &several).await;
    assert_eq!(session.by, ip(&lost));
    assert!(session.commits().await && beside.commits().await);

    // An endpoint and no primary: nothing moves, and only its own clients have to look elsewhere.
    let fault = Fault::HostLost(lost.clone());
    trial.begin(&fault);
    let session = Session::served(&trial, &several).await;
    assert_eq!(session.by, ip(&second));
    assert!(session.commits().await && beside.commits().await, "those of another endpoint notice nothing");
    trial.heal(&fault);
    trial.whole().await;
    assert_eq!(trial.epoch().await, 1, "somebody was promoted for the loss of an endpoint");

    // An endpoint and the primary: a second endpoint leads to the next one.
    let fault = Fault::HostLost(first.clone());
    let several = [ip(&first), ip(&second)];
    assert_eq!(Session::served(&trial, &several).await.by, ip(&first));
    trial.begin(&fault);
    trial.moves_from(&first).await;
    let session = Session::served(&trial, &several).await;
    assert_eq!(session.by, ip(&second));
    let beside = Session::served(&trial, &own).await;
    assert!(session.commits().await && beside.commits().await);
    trial.heal(&fault);
    trial.ends().await;
}
