//! What would end a standby's recovery, or keeps it from replaying, other than an order.

use serde::{Deserialize, Serialize};

/// The setting that delays replay on purpose.
const DELAY: &str = "recovery_min_apply_delay";
/// Makes a server recover to a target and then leave its timeline.
const SIGNAL: &str = "recovery.signal";

/// A setting that is set, or a file that is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hindrance {
    /// The setting's name; `recovery.signal` for that file.
    pub setting: String,
    /// Its value, as people write it; empty for a file.
    pub value: String,
    /// Where it stands. None: not known, or it was given at the start.
    #[serde(default)]
    pub file: Option<String>,
    /// The running server has it. False: it stands in a file, and the next start would bring it into force.
    pub in_force: bool,
}

impl Hindrance {
    /// The running server replays late because a person wants it so.
    #[must_use]
    pub fn delays(&self) -> bool {
        self.in_force && self.setting == DELAY
    }

    /// The setting as it is written, with its place.
    #[must_use]
    pub fn named(&self) -> String {
        let place = self.file.as_ref().map_or_else(String::new, |file| format!(" ({file})"));
        match self.setting.as_str() {
            SIGNAL => format!("{SIGNAL}{place}"),
            setting => format!("{setting} = '{}'{place}", self.value),
        }
    }

    /// What it does to a server that is, or becomes, a standby, and what to do about it.
    #[must_use]
    pub fn consequence(&self, standby: bool) -> String {
        let reset = format!("ALTER SYSTEM RESET {}, or take it out of the file, and reload", self.setting);
        match (self.setting.as_str(), standby && self.in_force) {
            (DELAY, true) => format!("replay is that late, so it is not promoted; to change that: {reset}"),
            (DELAY, false) => {
                format!("as a standby it would replay that late and not be promoted; if that is not wanted: {reset}")
            }
            (SIGNAL, _) => "PostgreSQL would recover to a target and leave its timeline: Locum removes the file where it starts a \
                            standby, and starts no primary with it; remove it"
                .to_owned(),
            ("promote_trigger_file", true) => {
                format!("whoever makes that file ends its recovery, and it is stopped then; {reset}")
            }
            (_, true) => format!(
                "it can end its recovery, or keep it from replaying; Locum starts standbys without it: take it out of the \
                 file, and restart this standby (ALTER SYSTEM RESET {})",
                self.setting
            ),
            (_, false) => format!(
                "it can end a standby's recovery, or keep it from replaying; Locum starts standbys without it, others do \
                 not: {reset}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hindrance_is_told_with_its_value_its_file_and_what_to_do() {
        let target = Hindrance {
            setting: "recovery_target_time".into(),
            value: "2020-01-01".into(),
            file: Some("/data/postgresql.auto.conf".into()),
            in_force: false,
        };
        assert_eq!(target.named(), "recovery_target_time = '2020-01-01' (/data/postgresql.auto.conf)");
        assert!(target.consequence(false).contains("ALTER SYSTEM RESET recovery_target_time"));
        let delay = Hindrance { setting: DELAY.into(), value: "90s".into(), file: None, in_force: true };
        assert!(delay.delays() && delay.consequence(true).contains("not promoted"));
        assert!(!Hindrance { in_force: false, ..delay }.delays());
    }
}
