//! libpq keyword strings (PostgreSQL manual, 34.1.1.1).

use std::{fmt, str::FromStr};

/// A text that is no keyword string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a libpq connection string: {0}")]
pub struct BadConninfo(pub String);

/// A libpq keyword string, taken apart. Of a keyword given twice the last counts. `Display` quotes what needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conninfo(Vec<(String, String)>);

impl Conninfo {
    /// The value of a keyword; an empty one counts as absent.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        let value = self.0.iter().find(|(name, _)| name == keyword).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// Sets a keyword.
    #[must_use]
    pub fn with(mut self, keyword: &str, value: &str) -> Self {
        match self.0.iter_mut().find(|(name, _)| name == keyword) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((keyword.to_owned(), value.to_owned())),
        }
        self
    }

    /// Sets a keyword that is not there.
    fn or_with(self, keyword: &str, value: &str) -> Self {
        if self.get(keyword).is_some() { self } else { self.with(keyword, value) }
    }

    /// `host:port` as in `config::Postgres::address` (an IPv6 host in brackets); the port defaults to 5432. None
    /// without host.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        let (host, port) = (self.get("host")?, self.get("port").unwrap_or("5432"));
        let brackets = host.contains(':') && !host.starts_with('/');
        Some(if brackets { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }
}

impl FromStr for Conninfo {
    type Err = BadConninfo;

    fn from_str(text: &str) -> Result<Self, BadConninfo> {
        let mut parsed = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (keyword, after) =
                rest.split_once('=').ok_or_else(|| BadConninfo(format!("no '=' after {rest:?}")))?;
            let keyword = keyword.trim();
            if keyword.is_empty() || keyword.contains(char::is_whitespace) {
                return Err(BadConninfo(format!("{keyword:?} is no keyword")));
            }
            let (value, after) = value(after.trim_start())?;
            parsed = parsed.with(keyword, &value);
            rest = after.trim_start();
        }
        Ok(parsed)
    }
}

/// The value at the beginning of a text, and what follows it.
fn value(text: &str) -> Result<(String, &str), BadConninfo> {
    let (is_quoted, body) = text.strip_prefix('\'').map_or((false, text), |body| (true, body));
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Ok((value, &body[at + 1..])),
            c if c.is_whitespace() && !is_quoted => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if is_quoted { Err(BadConninfo("a quote is not closed".to_owned())) } else { Ok((value, "")) }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (keyword, value)) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            let plain = |c: char| !c.is_whitespace() && c != '\'' && c != '\\';
            if !value.is_empty() && value.chars().all(plain) {
                write!(f, "{space}{keyword}={value}")?;
            } else {
                let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
                write!(f, "{space}{keyword}='{escaped}'")?;
            }
        }
        Ok(())
    }
}

/// What every long connection gets, unless the configuration says otherwise: a peer that is gone without a word is
/// noticed after some 6 s, not after the kernel's two hours.
const KEPT_ALIVE: [(&str, &str); 6] = [
    ("connect_timeout", "3"),
    ("keepalives", "1"),
    ("keepalives_idle", "2"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "4"),
    ("tcp_user_timeout", "6000"),
];

/// Another server, as this node's replication role reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(Conninfo);

impl Source {
    /// From `config::Postgres::replication` and an address `host:port` (an IPv6 host in brackets).
    ///
    /// # Errors
    /// [`BadConninfo`]: one of them makes no sense.
    pub fn new(replication: &str, address: &str) -> Result<Self, BadConninfo> {
        let bad = || BadConninfo(format!("{address:?} is not host:port"));
        let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(bad());
        }
        let named: Conninfo = replication.parse()?;
        let addressed = named.with("host", host).with("port", port);
        Ok(Self(KEPT_ALIVE.iter().fold(addressed, |info, (keyword, value)| info.or_with(keyword, value))))
    }

    /// The value for `primary_conninfo`: with `application_name`, keep-alives, `tcp_user_timeout`, and a database, which only
    /// the synchronisation of logical slots connects to (PostgreSQL 17).
    #[must_use]
    pub fn primary_conninfo(&self, application_name: &str) -> String {
        self.0.clone().with("application_name", application_name).or_with("dbname", "postgres").to_string()
    }

    /// For a plain session in a database.
    #[must_use]
    pub fn session(&self, dbname: &str) -> String {
        self.0.clone().with("application_name", "locum").with("dbname", dbname).to_string()
    }

    /// For commands of the replication protocol.
    pub(super) fn walsender(&self) -> String {
        self.0.clone().with("application_name", "locum").with("replication", "true").to_string()
    }

    /// For a replication session.
    pub(super) fn replication(&self) -> String {
        self.0.clone().with("application_name", "locum").to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_built_is_read_back(values in proptest::collection::vec(".*", 0..5)) {
            let keyword = |at: usize| format!("k{at}");
            let built = values.iter().enumerate().fold(Conninfo::default(), |c, (at, v)| c.with(&keyword(at), v));
            prop_assert_eq!(built.to_string().parse(), Ok(built));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = text.parse::<Conninfo>();
        }
    }

    #[test]
    fn what_libpq_takes_is_taken() {
        let parsed: Conninfo = r" user = 'it''s'x=1 host=a\ b password='p\'q\\' empty=''"
            .replace("''s'", r"\'s' ")
            .parse()
            .unwrap();
        assert_eq!(parsed.get("user"), Some("it's"));
        assert_eq!(parsed.get("host"), Some("a b"));
        assert_eq!(parsed.get("password"), Some(r"p'q\"));
        assert_eq!(parsed.get("empty"), None);
        for bad in ["user", "=x", "user='open", "a b=c"] {
            assert!(bad.parse::<Conninfo>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_source_names_host_and_role_and_is_kept_alive() {
        let source = Source::new("user=repl passfile='/a b' keepalives_idle=9", "[::1]:5433").unwrap();
        let info: Conninfo = source.primary_conninfo("locum_b_1").parse().unwrap();
        assert_eq!(info.address().as_deref(), Some("[::1]:5433"));
        let wanted = ["user", "passfile", "host", "application_name", "keepalives_idle", "tcp_user_timeout"];
        let got = wanted.map(|keyword| info.get(keyword).unwrap());
        assert_eq!(got, ["repl", "/a b", "::1", "locum_b_1", "9", "6000"]);
        assert!(Source::new("user=x", "host").is_err());
        assert!(Source::new("user=x", "host:port").is_err());
    }
}
