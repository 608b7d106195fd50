//! Sign-on, permissions, and where etcd's own leader is.

use std::{path::Path, time::Duration};

use etcd_client::{Client, ConnectOptions, Permission};
use locum::{
    config,
    ports::{Revision, Store, StoreError},
    store::Etcd,
};

use super::{
    super::{committed, put, value},
    server::{Cluster, Setup, Watch, plain, secret, store},
};

const PASSWORD: &str = "a pass phrase with spaces";

/// Users as the documentation asks for them: one that may do all, and one for Locum.
async fn closed(cluster: &Cluster) {
    let mut client = cluster.members[0].client().await;
    client.user_add("root", "root", None).await.expect("user");
    client.user_grant_role("root", "root").await.expect("grant");
    client.role_add("locum").await.expect("role");
    let all = Permission::read_write("/locum/").with_prefix();
    client.role_grant_permission("locum", all).await.expect("permission");
    client.user_add("locum", PASSWORD, None).await.expect("user");
    client.user_grant_role("locum", "locum").await.expect("grant");
    client.auth_enable().await.expect("enable");
}

fn as_locum(cluster: &Cluster, folder: &Path, password: &str) -> Etcd {
    let file = secret(&folder.join("password"), &format!("{password}\n"));
    let config = config::Etcd {
        user: Some("locum".to_owned()),
        password_file: Some(file),
        ..plain(cluster.endpoints())
    };
    Etcd::open(&config).expect("open")
}

fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_its_password_does_all_that_a_member_needs() {
    let cluster = Cluster::one().await;
    closed(&cluster).await;
    let folder = tempfile::tempdir().expect("folder");
    let store = as_locum(&cluster, folder.path(), PASSWORD);
    let first = committed(&store, vec![], vec![put("/locum/shop/n", "1")]).await;
    let lease = store.grant(Duration::from_secs(5)).await.expect("grant");
    assert!(store.renew(lease).await.expect("renew"));
    store.revoke(lease).await.expect("revoke");
    assert!(!store.renew(lease).await.expect("renew"));
    let (told, second) = tokio::join!(store.changed("/locum/shop/", first), async {
        committed(&store, vec![], vec![put("/locum/shop/n", "2")]).await
    });
    assert_eq!(told.expect("changed"), second);
    let elsewhere = refusal(store.commit(vec![], vec![put("/other", "")]).await);
    assert!(elsewhere.contains("/locum/"), "{elsewhere}");
    let elsewhere = refusal(store.changed("/other/", Revision(0)).await);
    assert!(elsewhere.contains("permission denied"), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_missing_one_are_refused_in_words() {
    let cluster = Cluster::one().await;
    closed(&cluster).await;
    let folder = tempfile::tempdir().expect("folder");
    let wrong = as_locum(&cluster, folder.path(), "guessed");
    let why = refusal(wrong.get("/locum/n").await);
    assert!(why.contains("store.etcd_password_file"), "{why}");
    let why = refusal(wrong.changed("/locum/", Revision(0)).await);
    assert!(why.contains("store.etcd_password_file"), "{why}");
    let why = refusal(cluster.store().get("/locum/n").await);
    assert!(why.contains("store.etcd_user"), "{why}");
    // The right one is taken up without a restart.
    secret(&folder.path().join("password"), PASSWORD);
    assert_eq!(value(&wrong, "/locum/n").await, None);

    let open = Cluster::one().await;
    let why = refusal(as_locum(&open, folder.path(), PASSWORD).get("/locum/n").await);
    assert!(why.contains("not enabled"), "{why}");
    let missing = config::Etcd {
        user: Some("locum".to_owned()),
        password_file: Some(folder.path().join("none")),
        ..plain(open.endpoints())
    };
    let why = refusal(Etcd::open(&missing).expect("open").get("/locum/n").await);
    assert!(why.contains("none cannot be read"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_on_that_ran_out_is_renewed() {
    let setup = Setup { arguments: vec!["--auth-token-ttl".to_owned(), "1".to_owned()], ..Setup::default() };
    let cluster = Cluster::start(1, setup).await;
    closed(&cluster).await;
    let folder = tempfile::tempdir().expect("folder");
    let store = as_locum(&cluster, folder.path(), PASSWORD);
    let first = committed(&store, vec![], vec![put("/locum/n", "1")]).await;
    let lease = store.grant(Duration::from_secs(60)).await.expect("grant");
    for _ in 0..2 {
        // etcd looks for tokens that ran out every second; nothing but time makes them.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(value(&store, "/locum/n").await.as_deref(), Some("1"));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(store.renew(lease).await.expect("renew"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (told, second) = tokio::join!(store.changed("/locum/", first), async {
        committed(&store, vec![], vec![put("/locum/n", "2")]).await
    });
    assert_eq!(told.expect("changed"), second);
    // A change of the users makes every token of before one of the past.
    let root = ConnectOptions::new().with_user("root", "root");
    let mut root = Client::connect(cluster.endpoints(), Some(root)).await.expect("connect");
    root.role_add("another").await.expect("role");
    assert_eq!(value(&store, "/locum/n").await.as_deref(), Some("2"));
    committed(&store, vec![], vec![put("/locum/n", "3")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcds_leader_is_moved_off_a_host() {
    let cluster = Cluster::three().await;
    cluster.let_lead(1).await;
    let store = cluster.store();
    assert!(!store.keep_leader_off("10.255.255.1").await.expect("asked"), "it is elsewhere");
    assert!(!store.keep_leader_off("127.0.0.1").await.expect("asked"), "all are there: nowhere to go");
    assert_eq!(cluster.leader().await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn etcds_leader_goes_to_a_member_elsewhere_and_stays() {
    let cluster = Cluster::three_hosts().await;
    cluster.let_lead(1).await;
    let store = store(cluster.endpoints());
    let watch = Watch::start();
    assert!(store.keep_leader_off("127.0.0.2").await.expect("moved"));
    println!("etcd's leader moved in {:?}", watch.elapsed());
    let leader = cluster.leader().await.expect("a leader");
    assert_ne!(leader, 1);
    assert!(!store.keep_leader_off("127.0.0.2").await.expect("asked"), "it is elsewhere already");
    assert_eq!(cluster.leader().await, Some(leader));
}
