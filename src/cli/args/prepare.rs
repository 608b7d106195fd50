//! The verbs before there is a cluster: check, adopt, init.

use clap::Args;

use super::ConfigSource;

/// `locum check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
    /// The other node, as libpq keywords; best as a superuser [default: a standby's own primary]
    #[arg(long, value_name = "CONNINFO")]
    pub peer: Option<String>,
    /// Compare these two, without a configuration: the primary
    #[arg(long, value_name = "CONNINFO", requires = "standby", conflicts_with = "peer")]
    pub primary: Option<String>,
    /// The standby
    #[arg(long, value_name = "CONNINFO", requires = "primary", conflicts_with = "peer")]
    pub standby: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum adopt`.
#[derive(Clone, Debug, Args)]
pub struct AdoptArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
    /// The other node, as libpq keywords; best as a superuser [default: a standby's own primary]
    #[arg(long, value_name = "CONNINFO")]
    pub peer: Option<String>,
    /// Say what would be done, what is in the way and what needs a restart; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Make the replication role if it is not there, with the password of its passfile
    #[arg(long)]
    pub create_roles: bool,
    /// Start the service locum@NAME of /etc/locum/NAME.toml at the end
    #[arg(long)]
    pub start: bool,
    /// Go on although libraries or extensions differ, or another manager's process runs on this host
    #[arg(long)]
    pub force: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `locum init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// The configuration.
    #[command(flatten)]
    pub source: ConfigSource,
    /// This is the first host: make and start a new database cluster
    #[arg(long)]
    pub primary: bool,
    /// This is another host: it is cloned when its member and the primary's run (the default)
    #[arg(long, conflicts_with = "primary")]
    pub standby: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Size of a WAL segment in MB
    #[arg(long, value_name = "MB", default_value_t = 16, value_parser = segment_size)]
    pub wal_segsize: u32,
    /// Locale of the new cluster
    #[arg(long, value_name = "NAME", default_value = "C.UTF-8")]
    pub locale: String,
    /// Encoding of the new cluster
    #[arg(long, value_name = "NAME", default_value = "UTF8")]
    pub encoding: String,
    /// A further argument for initdb, such as --locale-provider=icu; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub initdb: Vec<String>,
    /// Who may connect over the network, with a password: a network such as 10.0.0.0/24; may be repeated
    /// [default: samenet, the networks this host is in]
    #[arg(long, value_name = "CIDR")]
    pub allow: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn segment_size(text: &str) -> Result<u32, String> {
    let megabytes: u32 = text.parse().map_err(|_| "is no number".to_owned())?;
    let fits = megabytes.is_power_of_two() && megabytes <= 1024;
    if fits { Ok(megabytes) } else { Err("must be a power of two from 1 to 1024".into()) }
}
