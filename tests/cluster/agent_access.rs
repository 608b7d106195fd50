//! Which server an agent talks to, what that one may set without blinding it, and what a refused login is.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio, slice};

use locum::{
    model::{AgentFacts, ClientLook, Command, Server},
    ports::Client as _,
    postgres::ThroughEndpoint,
};

use super::agent_fixture::{Node, end, pair, primary, program, promote, signal, stamp, standby};
use crate::fixture::{free_ports, until};

/// What an administrator may make the default of every session, and Locum must not depend on.
const HOSTILE: [&str; 14] = [
    "default_transaction_isolation = 'serializable'",
    "default_transaction_read_only = on",
    "default_transaction_deferrable = on",
    "idle_in_transaction_session_timeout = '1ms'",
    "idle_session_timeout = '50ms'",
    "lock_timeout = '1ms'",
    "search_path = 'nowhere'",
    "client_encoding = 'latin1'",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "standard_conforming_strings = off",
    "extra_float_digits = -15",
    "synchronous_commit = 'remote_apply'",
];

fn hup(node: &Node) {
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(node.postmaster()).unwrap(),
        rustix::process::Signal::HUP,
    )
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_server_makes_the_default_its_agent_sees_and_does_everything() {
    let mut pair = pair().await;
    for node in [&mut pair.a, &mut pair.b] {
        // As the last of the file they win.
        let file = node.cfg.data_dir.join("postgresql.conf");
        let text = fs::read_to_string(&file).unwrap() + &HOSTILE.join("\n") + "\nstatement_timeout = '2ms'\n";
        fs::write(&file, text).unwrap();
        hup(node);
        node.restart_agent().await;
    }
    pair.b.until("a stream", |f| standby(f).is_some_and(|s| s.streaming)).await;
    pair.a.until("a probe", |f| primary(f).is_some_and(|p| p.writable && p.probe.last_ok.is_some())).await;
    pair.in_sync(1, 5).await;
    pair.a.done(stamp(1, 6), Command::Checkpoint).await;
    pair.b.done(stamp(2, 7), Command::Recruit).await;
    pair.b.done(stamp(2, 8), promote()).await;
    pair.b.until("a probe", |f| primary(f).is_some_and(|p| p.probe.last_ok.is_some())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_takes_nothing_on_the_word_of_another_server() {
    let mut pair = pair().await;
    let own = pair.b.cfg.connect.clone();
    pair.b.cfg.connect = pair.a.cfg.connect.clone();
    pair.b.restart_agent().await;
    let seen = pair.b.until("what is wrong", |f| f.access.elsewhere.is_some()).await;
    assert!(!matches!(seen.server.value, Server::Primary(_) | Server::Standby(_)), "{:#?}", seen.server);
    pair.b.cfg.connect = own;
    pair.b.restart_agent().await;
    let seen = pair.b.until("its own server", |f| standby(f).is_some_and(|s| s.streaming)).await;
    assert_eq!(seen.access.elsewhere, None);
}

/// A server on a copy of a's data directory, made while it ran. Dropping it ends it.
struct Copy {
    data_dir: std::path::PathBuf,
    address: String,
    postmaster: std::process::Child,
}

impl Copy {
    async fn of(node: &Node) -> Self {
        let data_dir = node.cfg.data_dir.with_file_name("copy");
        let port = free_ports::<1>()[0];
        node.ask("CHECKPOINT").await;
        let mut copied = std::process::Command::new("cp");
        assert!(copied.arg("-a").arg(&node.cfg.data_dir).arg(&data_dir).status().unwrap().success());
        fs::remove_file(data_dir.join("postmaster.pid")).unwrap();
        let mut server = program("postgres");
        server.arg("-D").arg(&data_dir).args([
            "-c",
            &format!("port={port}"),
            "-c",
            "unix_socket_directories=",
        ]);
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB"]);
        let postmaster = server.current_dir(&data_dir).stderr(Stdio::null()).spawn().unwrap();
        let address = format!("127.0.0.1:{port}");
        let through = ThroughEndpoint::new("user=locum dbname=postgres");
        let copy = Self { data_dir, address, postmaster };
        until("the copy serves", || async {
            through.commit(slice::from_ref(&copy.address), None).await.ok()
        })
        .await;
        copy
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        end(&self.data_dir);
        let _ended_already = self.postmaster.kill();
        let _collected = self.postmaster.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_on_a_copy_of_the_primary_proves_no_service() {
    let mut pair = pair().await;
    let known = |f: &AgentFacts| f.access.identity.as_ref().is_some_and(|seen| seen.nonce.is_some());
    let told = pair.a.until("a nonce", known).await.access.identity;
    let of_standby = pair.b.until("a nonce", known).await.access.identity;
    let copy = Copy::of(&pair.a).await;
    let through = ThroughEndpoint::new("user=locum dbname=postgres");
    assert_eq!(through.commit(slice::from_ref(&pair.a.cfg.address), told.as_ref()).await, Ok(()));
    let said = through.commit(slice::from_ref(&copy.address), told.as_ref()).await.unwrap_err();
    assert!(said.contains("another server answers"), "{said}");
    let said = through.commit(slice::from_ref(&pair.a.cfg.address), of_standby.as_ref()).await.unwrap_err();
    assert!(said.contains("another server answers"), "the standby's identity is another one: {said}");
    // In peace: a client at the address of a would meet the copy.
    let look = through.look(&copy.address, told.as_ref()).await;
    assert!(
        matches!(look, Some(ClientLook::Refused { ref said }) if said.contains("another server")),
        "{look:?}"
    );
    // The same postmaster is told by the same nonce after its agent was restarted, another start by another one.
    pair.a.restart_agent().await;
    assert_eq!(pair.a.until("a nonce", known).await.access.identity, told);
    signal(pair.a.postmaster(), "KILL");
    pair.a.until("its end", super::agent_fixture::is_down).await;
    pair.a.done(stamp(1, 6), Command::Serve { floor: None }).await;
    let anew = pair.a.until("a nonce", known).await.access.identity;
    assert_ne!(anew, told);
    assert!(
        through.commit(slice::from_ref(&pair.a.cfg.address), told.as_ref()).await.is_err(),
        "what was known is old"
    );
    assert_eq!(through.commit(slice::from_ref(&pair.a.cfg.address), anew.as_ref()).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_at_the_primarys_address_is_not_taken_for_it_by_its_agent() {
    let mut pair = pair().await;
    let copy = Copy::of(&pair.a).await;
    let port = copy.address.rsplit_once(':').unwrap().1.to_owned();
    pair.a.cfg.connect = format!("host=127.0.0.1 port={port} user=locum dbname=postgres");
    pair.a.restart_agent().await;
    let seen = pair.a.until("what is wrong", |f| f.access.elsewhere.is_some()).await;
    assert!(!matches!(seen.server.value, Server::Primary(_)), "{:#?}", seen.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refused_login_is_told_in_postgresqls_words_and_a_fault_of_its_files_is_none() {
    let mut pair = pair().await;
    let hba = pair.a.cfg.data_dir.join("pg_hba.conf");
    let trusted = fs::read_to_string(&hba).unwrap();
    for statement in [
        "CREATE ROLE plain LOGIN",
        "GRANT pg_monitor TO plain",
        "CREATE ROLE full LOGIN CONNECTION LIMIT 0",
        "CREATE DATABASE shut",
        "ALTER DATABASE shut ALLOW_CONNECTIONS false",
        "CREATE DATABASE secret",
        "REVOKE CONNECT ON DATABASE secret FROM PUBLIC",
    ] {
        pair.a.ask(statement).await;
    }
    let port = pair.a.cfg.address.rsplit_once(':').unwrap().1.to_owned();
    let as_whom =
        |user: &str, database: &str| format!("host=127.0.0.1 port={port} user={user} dbname={database}");
    for (connect, line, code) in [
        (as_whom("plain", "postgres"), "host all plain 127.0.0.1/32 reject\n", "28000"),
        (as_whom("plain", "postgres"), "host all plain 127.0.0.1/32 scram-sha-256\n", "28000"),
        (as_whom("nobody", "postgres"), "", "28000"),
        (as_whom("plain", "absent"), "", "3D000"),
        (as_whom("plain", "secret"), "", "42501"),
        (as_whom("plain", "shut"), "", "55000"),
        (as_whom("full", "postgres"), "", "53300"),
    ] {
        fs::write(&hba, format!("{line}{trusted}")).unwrap();
        hup(&pair.a);
        pair.a.cfg.connect = connect.clone();
        pair.a.restart_agent().await;
        let seen = pair.a.until("a refusal", |f| f.access.refused.is_some()).await;
        let said = seen.access.refused.unwrap().value;
        assert!(said.ends_with(&format!("({code})")), "{connect}: {said}");
    }
    fs::write(&hba, trusted).unwrap();
    hup(&pair.a);
    // A database whose folder cannot be entered: the same code as a missing privilege, and no answer of a sound server.
    pair.a.cfg.connect = as_whom("locum", "postgres");
    let oid = pair.a.ask("SELECT oid FROM pg_database WHERE datname = 'postgres'").await;
    let folder = pair.a.cfg.data_dir.join("base").join(oid);
    for mode in [0o000, 0o700] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        pair.a.restart_agent().await;
        if mode == 0 {
            let fresh = tokio_postgres::connect(&pair.a.cfg.connect, tokio_postgres::NoTls).await;
            let code = fresh.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
            assert_eq!(code.as_deref(), Some("42501"));
            // Several tries of the agent's own.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            assert_eq!(pair.a.agent.facts().access.refused, None);
        }
    }
    pair.a.until("it is let in", |f| primary(f).is_some_and(|p| p.probe.last_ok.is_some())).await;
}
