//! Callers and called ones that are refused, and what either of them says.

use locum::{
    api::peer::Access,
    model::Command,
    ports::Member as _,
    tls::issue::{self, Validity},
};

use super::{CALLED, CALLER, DAY, Folder, Log, Port, access, authority, identity, now, whom, year};
use crate::peer::{DEADLINE, TOKEN, stamp};

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let (own, other) = (authority(), authority());
    let port = Port::of(&own).await;
    // It believes ours, and shows one that ours did not certify.
    let folder = Folder::of(&other, "b", "orders", year());
    let stranger = folder.identity("b", "orders");
    let log = Log::begin();
    let (said, _trying) = port.refusal("orders", "a", access(&stranger)).await;
    assert!(
        said.contains("its certificate is of another authority than the one in api.tls_ca_file"),
        "{said}"
    );
    log.says(CALLER, "another authority").await;
    log.says(CALLED, "its api.tls_ca_file holds another authority").await;
    port.serves(&own).await;
}

#[tokio::test]
async fn a_caller_of_another_authority_that_believes_ours_is_refused() {
    let (own, other) = (authority(), authority());
    let port = Port::of(&own).await;
    // Authorities are being replaced: the caller believes both, the called one does not yet.
    let folder = Folder::of(&other, "b", "orders", year());
    std::fs::write(&folder.files.ca, format!("{}{}", other.cert, own.cert)).expect("written");
    let log = Log::begin();
    let (said, _trying) = port.refusal("orders", "a", access(&folder.identity("b", "orders"))).await;
    assert!(said.contains("its api.tls_ca_file holds another authority"), "{said}");
    log.says(CALLER, "does not accept our certificate").await;
    log.says(CALLED, "its certificate is of another authority").await;
    port.serves(&own).await;
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let log = Log::begin();
    let root = reqwest::Certificate::from_pem(authority.cert.as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(root)
        .resolve("a.orders.locum", port.address)
        .timeout(DEADLINE)
        .build()
        .expect("a client");
    let url = format!("https://a.orders.locum:{}/peer/sessions", port.address.port());
    let error = client.get(url).bearer_auth(TOKEN).send().await.expect_err("refused");
    assert!(format!("{error:?}").contains("CertificateRequired"), "{error:?}");
    log.says(CALLED, "it shows no certificate").await;
    port.serves(&authority).await;
}

#[tokio::test]
async fn a_member_of_another_cluster_is_refused_although_the_authority_is_the_same() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let folder = Folder::of(&authority, "b", "invoices", year());
    let foreign = folder.identity("b", "invoices");
    let log = Log::begin();
    // It calls for its own cluster: the name in the certificate of the one that answers is not the one it expects.
    let (said, _trying) = port.refusal("invoices", "a", access(&foreign)).await;
    assert!(said.contains("its certificate is of a.orders.locum, not of a.invoices.locum"), "{said}");
    log.says(CALLER, "not of a.invoices.locum").await;
    log.says(CALLED, "it meant to call another member").await;
    // It pretends to be of ours.
    let (said, _trying) = port.refusal("orders", "a", access(&foreign)).await;
    let whose = "the caller says it is node b of cluster orders, but its certificate is of node b of cluster invoices";
    assert!(said.contains(whose), "{said}");
    log.says(CALLER, whose).await;
    log.says(CALLED, whose).await;
    port.serves(&authority).await;
}

#[tokio::test]
async fn the_certificate_of_another_node_is_refused() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let log = Log::begin();
    // The one that answers is another than the one that is meant: an address that moved.
    let (said, _trying) = port.refusal("orders", "c", access(&identity(&authority, "b"))).await;
    assert!(said.contains("its certificate is of a.orders.locum, not of c.orders.locum"), "{said}");
    log.says(CALLER, "not of c.orders.locum").await;
    log.says(CALLED, "it meant to call another member").await;
}

#[tokio::test]
async fn a_caller_that_says_another_name_than_its_certificate_is_refused() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let made = issue::member(&authority, &whom("b", "orders"), &[], year()).expect("a certificate");
    let log = Log::begin();
    let root = reqwest::Certificate::from_pem(authority.cert.as_bytes()).expect("a certificate");
    let own =
        reqwest::Identity::from_pem(format!("{}{}", made.cert, made.key).as_bytes()).expect("an identity");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(root)
        .identity(own)
        .resolve("a.orders.locum", port.address)
        .timeout(DEADLINE)
        .build()
        .expect("a client");
    let call = |caller: Option<&str>| {
        let url = format!("https://a.orders.locum:{}/peer/order", port.address.port());
        let body = serde_json::json!({ "stamp": stamp(), "command": "checkpoint" });
        let call = client.post(url).bearer_auth(TOKEN).json(&body);
        let call = call.header("x-locum-cluster", "orders").header("x-locum-node", "a");
        match caller {
            Some(caller) => call.header("x-locum-caller", caller),
            None => call,
        }
    };
    for (caller, said) in [
        (Some("c"), "the caller says it is node c of cluster orders, but its certificate is of node b"),
        (None, "does not say who calls"),
    ] {
        let response = call(caller).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 403);
        let text = response.text().await.expect("a body");
        assert!(text.contains(said), "{text}");
        log.says(CALLED, said).await;
    }
    assert_eq!(port.fake.asked(), Vec::<String>::new());
    let response = call(Some("b")).send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), 200, "with its own name it is let in");
}

#[tokio::test]
async fn the_token_is_asked_for_on_top_of_the_certificate() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let log = Log::begin();
    let (said, _trying) =
        port.refusal("orders", "a", Access::new("wrong".into(), Some(identity(&authority, "b")))).await;
    assert!(said.contains("the token is not the one of this cluster"), "{said}");
    log.says(CALLER, "the token is not").await;
    log.says(CALLED, "the token is not").await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let authority = authority();
    let day_ago = now().checked_sub(DAY).expect("a time");
    let past = Validity { from: now().checked_sub(DAY * 3).expect("a time"), until: day_ago };
    // A member starts with it all the same: its files may be renewed at any moment.
    let expired = Folder::of(&authority, "b", "orders", past).identity("b", "orders");
    let log = Log::begin();
    let port = Port::of(&authority).await;
    let (said, _trying) = port.refusal("orders", "a", access(&expired)).await;
    assert!(said.contains("it says that our certificate has expired"), "{said}");
    log.says(CALLED, "its certificate expired at").await;
    port.serves(&authority).await;
    let expired = Folder::of(&authority, "a", "orders", past).identity("a", "orders");
    let port = Port::open(access(&expired)).await;
    let (said, _trying) = port.refusal("orders", "a", access(&identity(&authority, "b"))).await;
    assert!(said.contains("its certificate expired at"), "{said}");
    log.says(CALLED, "it says that our certificate has expired").await;
}

#[tokio::test]
async fn plain_http_at_a_tls_port_is_told_so() {
    let authority = authority();
    let port = Port::of(&authority).await;
    let log = Log::begin();
    let (said, _trying) = port.refusal("orders", "a", TOKEN.into()).await;
    assert!(said.contains("this port speaks TLS only"), "{said}");
    log.says(CALLER, "this port speaks TLS only").await;
    log.says(CALLED, "it does not speak TLS").await;
    port.serves(&authority).await;
}

#[tokio::test]
async fn tls_at_a_plain_port_is_told_so() {
    let authority = authority();
    let port = Port::open(TOKEN.into()).await;
    let log = Log::begin();
    let (said, _trying) = port.refusal("orders", "a", access(&identity(&authority, "b"))).await;
    assert!(said.contains("it does not speak TLS"), "{said}");
    log.says(CALLER, "it does not speak TLS").await;
    log.says(CALLED, "it speaks TLS, and this member has no api.tls_").await;
    let remote = port.remote("orders", "a", TOKEN.into());
    assert!(remote.order(stamp(), Command::Stop).await.is_ok(), "the port goes on");
}
