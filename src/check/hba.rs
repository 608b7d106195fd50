//! Who may come in, as `pg_hba.conf` says (PostgreSQL manual, 21.1). The first line that fits counts.

use std::net::IpAddr;

use super::HbaRule;

/// Whether a connection gets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By this line and method.
    In(u32, String),
    /// A line refuses it.
    Refused(u32),
    /// No line fits: refused.
    NoLine,
    /// A line may fit: it names a group, a pattern, a host name, or only connections with TLS.
    Perhaps(u32),
}

/// Whether `role` gets in from `address`: to stream where `database` is None, else to that database.
#[must_use]
pub fn may_enter(rules: &[HbaRule], database: Option<&str>, role: &str, address: IpAddr) -> Way {
    for rule in rules.iter().filter(|rule| rule.error.is_none()) {
        let answers = [
            connection(rule),
            listed(rule.database.as_deref(), |word| of_database(word, database)),
            listed(rule.user_name.as_deref(), |word| of_role(word, role)),
            from(rule, address),
        ];
        if answers.contains(&Some(false)) {
            continue;
        }
        let method = rule.auth_method.clone().unwrap_or_default();
        return match (answers.contains(&None), method.as_str()) {
            (true, _) => Way::Perhaps(rule.line_number),
            (false, "reject") => Way::Refused(rule.line_number),
            (false, _) => Way::In(rule.line_number, method),
        };
    }
    Way::NoLine
}

/// None: it depends.
fn connection(rule: &HbaRule) -> Option<bool> {
    match rule.r#type.as_deref() {
        Some("host") => Some(true),
        Some("hostssl" | "hostgssenc" | "hostnossl" | "hostnogssenc") => None,
        _ => Some(false),
    }
}

fn listed(words: Option<&[String]>, fits: impl Fn(&str) -> Option<bool>) -> Option<bool> {
    let answers: Vec<_> = words.unwrap_or_default().iter().map(|word| fits(word)).collect();
    if answers.contains(&Some(true)) {
        Some(true)
    } else if answers.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn of_database(word: &str, database: Option<&str>) -> Option<bool> {
    match (word, database) {
        // "all" does not include streaming.
        ("replication", None) => Some(true),
        (_, None) | ("replication", Some(_)) => Some(false),
        ("all", Some(_)) => Some(true),
        ("sameuser" | "samerole" | "samegroup", Some(_)) => None,
        (word, Some(_)) if word.starts_with(['/', '@']) => None,
        (word, Some(name)) => Some(word == name),
    }
}

fn of_role(word: &str, role: &str) -> Option<bool> {
    match word {
        "all" => Some(true),
        word if word.starts_with(['+', '/', '@']) => None,
        word => Some(word == role),
    }
}

fn from(rule: &HbaRule, address: IpAddr) -> Option<bool> {
    let text = rule.address.as_deref()?;
    match (text, text.parse::<IpAddr>()) {
        ("all", _) => Some(true),
        // What networks the server is in is its own knowledge.
        ("samehost" | "samenet", _) | (_, Err(_)) => None,
        (_, Ok(net)) => {
            let mask = rule.netmask.as_deref().and_then(|mask| mask.parse().ok());
            Some(within(address, net, mask))
        }
    }
}

fn within(address: IpAddr, net: IpAddr, mask: Option<IpAddr>) -> bool {
    match (address, net, mask) {
        (IpAddr::V4(a), IpAddr::V4(n), Some(IpAddr::V4(m))) => {
            a.to_bits() & m.to_bits() == n.to_bits() & m.to_bits()
        }
        (IpAddr::V6(a), IpAddr::V6(n), Some(IpAddr::V6(m))) => {
            a.to_bits() & m.to_bits() == n.to_bits() & m.to_bits()
        }
        (address, net, None) => address == net,
        _ => false,
    }
}

/// A line as people compare it: without its number.
pub(super) fn text(rule: &HbaRule) -> String {
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default().join(",");
    let address = match (&rule.address, rule.netmask.as_deref().and_then(bits)) {
        (Some(address), Some(bits)) => format!("{address}/{bits}"),
        (Some(address), None) => address.clone(),
        (None, _) => String::new(),
    };
    let parts = [
        rule.r#type.clone().unwrap_or_default(),
        words(&rule.database),
        words(&rule.user_name),
        address,
        rule.auth_method.clone().unwrap_or_default(),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn bits(mask: &str) -> Option<u32> {
    match mask.parse().ok()? {
        IpAddr::V4(mask) => Some(mask.to_bits().count_ones()),
        IpAddr::V6(mask) => Some(mask.to_bits().count_ones()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(line_number: u32, text: &str) -> HbaRule {
        let words: Vec<&str> = text.split_whitespace().collect();
        let list = |word: &str| Some(word.split(',').map(str::to_owned).collect());
        let (address, netmask) = match words[3].split_once('/') {
            Some((address, mask)) => (address, Some(mask.to_owned())),
            None => (words[3], None),
        };
        HbaRule {
            line_number,
            r#type: Some(words[0].into()),
            database: list(words[1]),
            user_name: list(words[2]),
            address: Some(address.into()),
            netmask,
            auth_method: Some(words[4].into()),
            error: None,
        }
    }

    fn enters(lines: &[&str], database: Option<&str>) -> Way {
        let rules: Vec<_> = (1..).zip(lines).map(|(number, line)| rule(number, line)).collect();
        may_enter(&rules, database, "replicator", "10.0.0.2".parse().unwrap())
    }

    #[test]
    fn all_does_not_include_streaming() {
        let all = "host all all 10.0.0.0/255.255.255.0 scram-sha-256";
        assert_eq!(enters(&[all], None), Way::NoLine);
        assert_eq!(enters(&[all], Some("postgres")), Way::In(1, "scram-sha-256".into()));
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let lines = [
            "host replication other 10.0.0.2/255.255.255.255 trust",
            "host replication all 10.0.1.0/255.255.255.0 trust",
            "host replication replicator 10.0.0.0/255.255.255.0 reject",
            "host replication replicator all scram-sha-256",
        ];
        assert_eq!(enters(&lines, None), Way::Refused(3));
        assert_eq!(enters(&lines[3..], None), Way::In(1, "scram-sha-256".into()));
    }

    #[test]
    fn what_only_the_server_knows_is_not_claimed() {
        for line in [
            "host replication all samenet scram-sha-256",
            "host replication +dba all scram-sha-256",
            "hostssl replication all all scram-sha-256",
            "host replication all db2.example.org scram-sha-256",
        ] {
            assert_eq!(enters(&[line], None), Way::Perhaps(1), "{line}");
        }
        assert_eq!(enters(&["local replication all all trust"], None), Way::NoLine);
    }

    #[test]
    fn a_line_is_shown_as_it_is_written() {
        let line = "host all,app all 10.0.0.0/255.255.255.0 md5";
        assert_eq!(text(&rule(7, line)), "host all,app all 10.0.0.0/24 md5");
    }
}
