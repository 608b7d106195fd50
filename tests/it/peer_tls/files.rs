//! Certificates in files: what does not fit together, and what is made.

use std::sync::Arc;

use locum::{
    clock::SystemClock,
    tls::{
        Identity,
        issue::{self, Made, Validity},
        summaries,
    },
};

use super::{DAY, Folder, authority, now, whom, year};
use crate::peer::cluster;

#[test]
fn what_does_not_fit_together_is_told_before_a_member_starts() {
    let (own, other) = (authority(), authority());
    let good = Folder::of(&own, "a", "orders", year());
    let made =
        |authority: &Made, node, of| issue::member(authority, &whom(node, of), &[], year()).expect("one");
    let examine = |folder: &Folder| locum::tls::examine(&folder.files, &whom("a", "orders"), now());
    assert_eq!(examine(&good), []);
    let stranger = made(&own, "a", "orders");
    for (made, said) in [
        (made(&other, "a", "orders"), "is not certified by the authority in"),
        (made(&own, "b", "orders"), "it is of node b, not a"),
        (made(&own, "a", "invoices"), "it is of cluster invoices, not orders"),
        (
            Made { cert: stranger.cert, key: made(&own, "a", "orders").key },
            "is not the key of the certificate",
        ),
        (Made { cert: own.cert.clone(), key: own.key.clone() }, "it has no name like a.orders.locum"),
    ] {
        good.put(&made);
        let flaws = examine(&good);
        assert!(flaws.len() == 1 && !flaws[0].tolerable && flaws[0].what.contains(said), "{said}: {flaws:?}");
        assert!(Identity::open(good.files.clone(), whom("a", "orders"), Arc::new(SystemClock)).is_err());
    }
    let lasting = |length| {
        issue::member(&own, &whom("a", "orders"), &[], Validity::lasting(now(), length)).expect("one")
    };
    good.put(&lasting(DAY * 29));
    assert!(examine(&good).iter().all(|flaw| flaw.tolerable && flaw.what.contains("expires at")));
    good.put(&lasting(DAY * 31));
    assert_eq!(examine(&good), []);
    std::fs::set_permissions(&good.files.key, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("set");
    assert!(examine(&good)[0].what.contains("can be read by everybody"));
}

#[test]
fn a_certificate_ends_with_its_authority() {
    let short =
        issue::authority(&cluster("orders"), Validity::lasting(now(), DAY * 10)).expect("an authority");
    let made =
        issue::member(&short, &whom("a", "orders"), &["10.0.0.1".into(), "db1.example.com".into()], year());
    let summary = summaries(made.expect("a certificate").cert.as_bytes()).expect("readable").remove(0);
    assert_eq!(summary.not_after, summaries(short.cert.as_bytes()).expect("readable")[0].not_after);
    assert_eq!(summary.names, ["a.orders.locum", "10.0.0.1", "db1.example.com"]);
    for other in ["b.orders.locum", "*.orders.locum"] {
        let made = issue::member(&short, &whom("a", "orders"), &[other.into()], year());
        assert!(made.is_err_and(|why| why.contains("is a name for members")), "{other}");
    }
}
