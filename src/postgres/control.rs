//! The control file, as `pg_controldata` prints it.

use super::{Instance, PgError, instance::QUICK, run};
use crate::model::{Control, ControlState, SystemId, Timeline};

/// The control file with what only the tools for WAL need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ControlFile {
    pub(super) control: Control,
    /// Bytes of a WAL segment.
    pub(super) segment: u64,
}

impl Instance {
    /// What the control file says. Right for a stopped server; of a running one it is the last checkpoint.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn control(&self) -> Result<Control, PgError> {
        Ok(self.control_file().await?.control)
    }

    pub(super) async fn control_file(&self) -> Result<ControlFile, PgError> {
        let mut command = self.command("pg_controldata");
        command.arg("-D").arg(&self.data_dir);
        parse(&run::text("pg_controldata", command, QUICK).await?)
    }
}

fn parse(text: &str) -> Result<ControlFile, PgError> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or_else(|| PgError::Nonsense(format!("pg_controldata does not say {name:?}")))
    };
    let bad = |name: &str, value: &str| PgError::Nonsense(format!("pg_controldata: {name}: {value:?}"));
    let number = |name: &str| field(name).and_then(|v| v.parse::<u64>().map_err(|_| bad(name, v)));
    let lsn = |name: &str| field(name).and_then(|v| v.parse().map_err(|_| bad(name, v)));

    let state = match field("Database cluster state")? {
        "shut down" => ControlState::ShutDown,
        "shut down in recovery" => ControlState::ShutDownInRecovery,
        _ => ControlState::Other,
    };
    let (checksums, hints) = (field("Data page checksum version")?, field("wal_log_hints setting")?);
    let timeline = field("Latest checkpoint's TimeLineID")?;
    let control = Control {
        state,
        system: SystemId(number("Database system identifier")?),
        timeline: Timeline(timeline.parse().map_err(|_| bad("timeline", timeline))?),
        checkpoint: lsn("Latest checkpoint location")?,
        redo: lsn("Latest checkpoint's REDO location")?,
        can_rewind: checksums != "0" || hints == "on",
    };
    let segment = number("Bytes per WAL segment")?;
    if !segment.is_power_of_two() {
        return Err(bad("Bytes per WAL segment", &segment.to_string()));
    }
    Ok(ControlFile { control, segment })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;

    const PRINTED: &str = "\
Database system identifier:           7300000000000000001
Database cluster state:               shut down in recovery
pg_control last modified:             Sun Nov 22 09:00:00 2026
Latest checkpoint location:           0/3000060
Latest checkpoint's REDO location:    0/3000028
Latest checkpoint's REDO WAL file:    000000020000000000000003
Latest checkpoint's TimeLineID:       2
Latest checkpoint's PrevTimeLineID:   1
wal_level setting:                    replica
wal_log_hints setting:                off
Bytes per WAL segment:                16777216
Data page checksum version:           1
";

    #[test]
    fn what_is_printed_is_understood() {
        let expected = Control {
            state: ControlState::ShutDownInRecovery,
            system: SystemId(7_300_000_000_000_000_001),
            timeline: Timeline(2),
            checkpoint: Lsn(0x300_0060),
            redo: Lsn(0x300_0028),
            can_rewind: true,
        };
        let read = parse(PRINTED).unwrap();
        assert_eq!((read.control, read.segment), (expected, 16 << 20));
    }

    #[test]
    fn rewinding_needs_checksums_or_hints_in_the_log() {
        let without = PRINTED.replace("version:           1", "version:           0");
        assert!(!parse(&without).unwrap().control.can_rewind);
        assert!(
            parse(&without.replace("hints setting:                off", "hints setting: on"))
                .unwrap()
                .control
                .can_rewind
        );
    }

    #[test]
    fn an_answer_with_a_field_missing_is_an_error() {
        for line in PRINTED.lines().filter(|l| {
            !l.contains("modified")
                && !l.contains("Prev")
                && !l.contains("REDO WAL")
                && !l.contains("wal_level")
        }) {
            assert!(parse(&PRINTED.replace(line, "")).is_err(), "{line}");
        }
    }
}
