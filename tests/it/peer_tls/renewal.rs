//! Certificates and authorities are replaced while members talk.

use std::time::Duration;

use locum::{
    model::Command,
    ports::Member as _,
    tls::{
        Identity,
        issue::{self, Validity},
    },
};
use tokio::time::{Instant, timeout};

use super::{DAY, Folder, Port, access, authority, identity, now, whom, year};
use crate::peer::{DEADLINE, cluster, heard, open, stamp};

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(DEADLINE, holds).await.is_ok(), "{what}");
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let authority = authority();
    let soon = Validity::lasting(now(), Duration::from_secs(5));
    let folder = Folder::of(&authority, "a", "orders", soon);
    let served = folder.identity("a", "orders");
    served.follow();
    let port = Port::open(access(&served)).await;
    let caller = identity(&authority, "b");
    let kept = port.remote("orders", "a", access(&caller));
    heard(&kept, |facts| open(facts) == 0).await;
    let first = served.expires();

    // A certificate without its key is refused, and the old one stays.
    let renewed = issue::member(&authority, &whom("a", "orders"), &[], year()).expect("a certificate");
    std::fs::write(&folder.files.cert, &renewed.cert).expect("written");
    until("the half pair is refused", || served.refused().is_some()).await;
    assert!(
        served.refused().is_some_and(|why| why.contains("is not the key of the certificate")),
        "{served:?}"
    );
    assert_eq!(served.expires(), first);

    let begun = Instant::now();
    folder.put_key(&renewed);
    until("the whole pair is taken", || served.expires() > first).await;
    println!("the renewed certificate was in use after {:?}", begun.elapsed());
    assert_eq!(served.refused(), None);
    until("the first one has expired", || now() > first).await;
    // What was open goes on, and new connections get the new one.
    port.fake.change(7);
    heard(&kept, |facts| open(facts) == 7).await;
    port.serves(&authority).await;

    // Nothing that is no certificate gets in its place.
    for (bad, why) in [
        ("no certificate".to_owned(), "holds no certificate"),
        (String::new(), "holds no certificate"),
        (
            issue::member(&authority, &whom("c", "orders"), &[], year()).expect("one").cert,
            "it is of node c, not a",
        ),
    ] {
        std::fs::write(&folder.files.cert, bad).expect("written");
        until(why, || served.refused().is_some_and(|refused| refused.contains(why))).await;
        port.serves(&authority).await;
    }
    std::fs::remove_file(&folder.files.cert).expect("removed");
    until("its absence is told", || served.refused().is_some_and(|why| why.contains("cannot be read"))).await;
    port.serves(&authority).await;
    std::fs::write(&folder.files.cert, &renewed.cert).expect("written");
    until("all is well", || served.refused().is_none()).await;
}

#[tokio::test]
async fn an_authority_is_replaced_without_an_interruption() {
    let (old, new) = (authority(), issue::authority(&cluster("orders"), year()).expect("an authority"));
    let (a, b) = (Folder::of(&old, "a", "orders", year()), Folder::of(&old, "b", "orders", year()));
    let (served, caller) = (a.identity("a", "orders"), b.identity("b", "orders"));
    served.follow();
    caller.follow();
    let port = Port::open(access(&served)).await;
    let call = async || {
        let remote = port.remote("orders", "a", access(&caller));
        timeout(DEADLINE, remote.order(stamp(), Command::Stop)).await.expect("in time")
    };
    call().await.expect("with the old one");
    // Both believe both; then each gets a certificate of the new one; then the old one is taken out.
    for folder in [&a, &b] {
        std::fs::write(&folder.files.ca, format!("{}{}", old.cert, new.cert)).expect("written");
    }
    let renewed = |node| {
        issue::member(&new, &whom(node, "orders"), &[], Validity::lasting(now(), DAY * 90)).expect("one")
    };
    let serial = |identity: &Identity| identity.expires();
    let before = (serial(&served), serial(&caller));
    a.put(&renewed("a"));
    until("a has the new one", || serial(&served) != before.0).await;
    // b looks at its files at its own time, and until then it does not believe the new one.
    let believed = async { while call().await.is_err() {} };
    timeout(DEADLINE, believed).await.expect("with one of each");
    b.put(&renewed("b"));
    until("b has the new one", || serial(&caller) != before.1).await;
    call().await.expect("with the new ones");
    std::fs::write(&a.files.ca, &new.cert).expect("written");
    let old_caller = identity(&old, "b");
    let refused = async {
        loop {
            let remote = port.remote("orders", "a", access(&old_caller));
            if remote.order(stamp(), Command::Stop).await.is_err() {
                return;
            }
        }
    };
    timeout(DEADLINE, refused).await.expect("the old authority admits nobody any more");
    call().await.expect("with the new ones");
}
