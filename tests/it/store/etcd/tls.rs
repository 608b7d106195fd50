//! TLS with certificates on both sides.

use std::path::{Path, PathBuf};

use locum::{
    config,
    ports::{Revision, Store, StoreError},
    store::Etcd,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::{
    super::{committed, put, value},
    server::{Cluster, Setup, Watch, plain, secret},
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("certificate")
}

/// Writes a certificate and its key; returns where.
fn issue(by: &Authority, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let mut params =
        CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, by).expect("signed");
    (
        secret(&folder.join(format!("{name}.pem")), &certificate.pem()),
        secret(&folder.join(format!("{name}-key.pem")), &key.serialize_pem()),
    )
}

struct Bench {
    cluster: Cluster,
    folder: tempfile::TempDir,
    ca: PathBuf,
    authority: Authority,
}

/// etcd with TLS that asks for certificates.
async fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("folder");
    let authority = authority("our own");
    let ca = secret(&folder.path().join("ca.pem"), &authority.pem());
    let (cert, key) = issue(&authority, folder.path(), "server");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let arguments = [
        ["--cert-file".to_owned(), text(&cert)],
        ["--key-file".to_owned(), text(&key)],
        ["--trusted-ca-file".to_owned(), text(&ca)],
    ];
    let mut arguments = arguments.concat();
    arguments.push("--client-cert-auth".to_owned());
    let cluster = Cluster::start(1, Setup { arguments, tls: true, ..Setup::default() }).await;
    Bench { cluster, folder, ca, authority }
}

impl Bench {
    fn config(&self, by: &Authority, name: &str) -> config::Etcd {
        let (cert, key) = issue(by, self.folder.path(), name);
        config::Etcd {
            ca_file: Some(self.ca.clone()),
            cert_file: Some(cert),
            key_file: Some(key),
            ..plain(self.cluster.endpoints())
        }
    }

    /// Waits until etcd answers.
    async fn open(&self, config: &config::Etcd) -> Etcd {
        let store = Etcd::open(config).expect("open");
        let watch = Watch::start();
        while let Err(error) = store.get("n").await {
            assert!(watch.elapsed().as_secs() < 60, "{error}");
        }
        store
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_and_etcd_know_each_other_by_their_certificates() {
    let b = bench().await;
    let store = b.open(&b.config(&b.authority, "seoul")).await;
    let first = committed(&store, vec![], vec![put("n", "1")]).await;
    let (told, second) = tokio::join!(store.changed("n", first), async {
        committed(&store, vec![], vec![put("n", "2")]).await
    });
    assert_eq!(told.expect("changed"), second);
    assert_eq!(value(&store, "n").await.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_fit_is_told_and_not_waited_for() {
    let b = bench().await;
    let good = b.config(&b.authority, "seoul");
    b.open(&good).await;
    let stranger = authority("a stranger");
    let their_ca = secret(&b.folder.path().join("their-ca.pem"), &stranger.pem());
    let of_a_stranger = b.config(&stranger, "stranger");
    let cases = [
        ("another authority", config::Etcd { ca_file: Some(their_ca), ..good.clone() }, "store.etcd_ca_file"),
        ("a stranger's certificate", of_a_stranger, "store.etcd_cert_file"),
        (
            "no certificate",
            config::Etcd { cert_file: None, key_file: None, ..good.clone() },
            "store.etcd_cert_file",
        ),
        (
            "another name",
            config::Etcd {
                endpoints: vec![format!("https://127.0.0.2:{}", b.cluster.members[0].port)],
                ..good.clone()
            },
            "etcd",
        ),
    ];
    for (case, config, words) in cases {
        let store = Etcd::open(&config).expect("open");
        let watch = Watch::start();
        let error = store.get("n").await.expect_err(case);
        println!("{case}: {error} after {:?}", watch.elapsed());
        assert!(matches!(error, StoreError::Refused(_) | StoreError::Outage(_)), "{case}: {error}");
        assert!(error.to_string().contains(words), "{case}: {error}");
        let error = store.changed("n", Revision(0)).await.expect_err(case);
        assert!(error.to_string().contains(words), "{case}: {error}");
    }
}
