//! What can be typed after `locum certs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::model::{ClusterName, NodeId};

pub(super) const CERTS_HELP: &str = "\
An authority is made once, on a host that is kept well; its key, ca.key, stays there. Every host gets ca.crt, and
the certificate and key of its own node. Members take renewed files without a restart.

Examples:
  locum certs init  --dir /root/orders-ca --cluster orders
  locum certs issue --dir /root/orders-ca --cluster orders --node seoul --address 10.0.0.1
  locum certs show  /etc/locum/tls/seoul.crt";

/// `locum certs`.
#[derive(Clone, Debug, Args)]
pub struct CertsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: CertsVerb,
}

/// The verbs of `locum certs`.
#[derive(Clone, Debug, Subcommand)]
pub enum CertsVerb {
    /// Make the authority of a cluster: ca.crt and ca.key
    #[command(
        after_help = "Whoever has ca.key can make members. Keep it off the members' hosts.\n\nExample:\n  locum certs init --dir /root/orders-ca --cluster orders"
    )]
    Init {
        /// Where to.
        #[command(flatten)]
        place: CertsPlace,
        /// How many days it is valid
        #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make or renew the certificate of one node: NODE.crt and NODE.key
    #[command(
        after_help = "Renew with --force, and copy both files to the node: its member takes them within seconds.\n\nExample:\n  locum certs issue --dir /root/orders-ca --cluster orders --node seoul --address 10.0.0.1 --address db1.example.com"
    )]
    Issue {
        /// Where the authority is, and where to.
        #[command(flatten)]
        place: CertsPlace,
        /// The node
        #[arg(long, value_name = "NODE")]
        node: NodeId,
        /// An IP address or a host name that other clients know it by; may be repeated. Members need none
        #[arg(long, value_name = "IP|HOST")]
        address: Vec<String>,
        /// How many days it is valid; never longer than its authority
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Show whose a certificate is, its names, and when it ends
    #[command(
        after_help = "Exits with 1 if one is not valid now.\n\nExample:\n  locum certs show /etc/locum/tls/seoul.crt"
    )]
    Show {
        /// Certificates in PEM
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What `init` and `issue` share.
#[derive(Clone, Debug, Args)]
pub struct CertsPlace {
    /// The directory of the authority
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: ClusterName,
    /// Replace what is there
    #[arg(long)]
    pub force: bool,
    /// Say what it would write, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
