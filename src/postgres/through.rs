//! A commit through an endpoint, as a client would make it: the proof that service is there again.

use std::{fs, time::Duration};

use async_trait::async_trait;
use tokio_postgres::{Config, NoTls};

use crate::ports::Client;

/// How long connecting and committing may take together. Longer than an endpoint needs to serve one that waits.
const DEADLINE: Duration = Duration::from_secs(3);

/// Writes 104 bytes of WAL and waits for their flush like any client's commit; needs no table and no privilege.
const COMMIT: &str = "BEGIN; SELECT pg_catalog.pg_logical_emit_message(true, 'locum', ''); COMMIT";

/// The client that proves service: a role and a database, without host and port.
#[derive(Clone, Debug)]
pub struct ThroughEndpoint {
    keywords: String,
    passfile: Option<String>,
}

impl ThroughEndpoint {
    /// From libpq keywords such as `user=locum dbname=postgres passfile=/etc/locum/pgpass`. A host and port in them
    /// are passed over: the endpoint's are taken.
    #[must_use]
    pub fn new(keywords: &str) -> Self {
        let (mut kept, mut passfile) = (Vec::new(), None);
        for word in keywords.split_whitespace() {
            match word.split_once('=') {
                Some(("host" | "hostaddr" | "port", _)) => {}
                Some(("passfile", file)) => passfile = Some(file.trim_matches('\'').to_owned()),
                _ => kept.push(word),
            }
        }
        Self { keywords: kept.join(" "), passfile }
    }

    fn config(&self, address: &str) -> Result<Config, String> {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address} is not host:port"))?;
        let mut config: Config = self.keywords.parse().map_err(|error| format!("verify: {error}"))?;
        let port: u16 = port.parse().map_err(|_| format!("{address} has no port number"))?;
        config.host(host).port(port).application_name("locum");
        if config.get_password().is_none()
            && let Some(file) = &self.passfile
        {
            let text = fs::read_to_string(file).map_err(|error| format!("read {file}: {error}"))?;
            let user = config.get_user().unwrap_or_default().to_owned();
            let database = config.get_dbname().unwrap_or(&user).to_owned();
            if let Some(password) = password(&text, [host, &port.to_string(), &database, &user]) {
                config.password(password);
            }
        }
        Ok(config)
    }
}

/// The password that a password file holds for a role, whatever the host. None: no line fits.
///
/// # Errors
/// The file cannot be read.
pub fn password_of(passfile: &std::path::Path, role: &str) -> std::io::Result<Option<String>> {
    let text = fs::read_to_string(passfile)?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(fields);
    let mut of_role = lines.filter(|fields| fields[3] == "*" || fields[3] == role);
    Ok(of_role.next().map(|[.., password]| password))
}

/// The first line of a password file that fits (PostgreSQL manual, 34.16); `*` fits anything, `\` escapes.
fn password(text: &str, wanted: [&str; 4]) -> Option<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(fields);
    let fits = |fields: &[String; 5]| {
        wanted.iter().zip(fields).all(|(wanted, field)| field == "*" || field == wanted)
    };
    lines.filter(fits).map(|[.., password]| password).next()
}

fn fields(line: &str) -> Option<[String; 5]> {
    let (mut fields, mut chars) = (vec![String::new()], line.chars());
    while let Some(next) = chars.next() {
        match next {
            '\\' => fields.last_mut()?.extend(chars.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            plain => fields.last_mut()?.push(plain),
        }
    }
    fields.try_into().ok()
}

#[async_trait]
impl Client for ThroughEndpoint {
    async fn commit(&self, address: &str) -> Result<(), String> {
        let config = self.config(address)?;
        let attempt = async {
            let (client, connection) = config.connect(NoTls).await?;
            let driver = tokio::spawn(connection);
            let result = client.batch_execute(COMMIT).await;
            drop(client);
            driver.abort();
            result
        };
        match tokio::time::timeout(DEADLINE, attempt).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("commit through {address}: {}", describe(&error))),
            Err(_) => Err(format!("commit through {address}: no answer within {DEADLINE:?}")),
        }
    }
}

fn describe(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| format!("{} ({})", db.message(), db.code().code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let text = "# comment\nother:*:*:*:no\n127.0.0.1:*:*:locum:a\\:b\n*:*:*:*:last";
        assert_eq!(password(text, ["127.0.0.1", "6432", "db", "locum"]), Some("a:b".into()));
        assert_eq!(password(text, ["::1", "6432", "db", "app"]), Some("last".into()));
        assert_eq!(password("short:line", ["a", "b", "c", "d"]), None);
    }

    #[test]
    fn host_and_port_of_the_endpoint_are_taken() {
        let through = ThroughEndpoint::new("host=/run/postgresql port=5432 user=locum dbname=postgres");
        let config = through.config("127.0.0.1:6432").expect("good");
        assert_eq!(config.get_ports(), [6432]);
        assert!(through.config("nonsense").is_err());
    }
}
