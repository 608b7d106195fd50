//! `locum config check|print|example`.

use serde_json::json;

use super::{
    Exit, Failure,
    args::{ConfigArgs, ConfigSource, ConfigVerb},
    output,
};
use crate::config::{self, Problem, Problems, Setting, Severity};

/// Does what the verb says.
pub(super) fn execute(args: &ConfigArgs) -> Result<Exit, Failure> {
    match &args.verb {
        ConfigVerb::Check { source, json } => check(source, *json),
        ConfigVerb::Print { source, json } => print(source, *json),
        ConfigVerb::Example => {
            output::data(config::EXAMPLE)?;
            Ok(Exit::Done)
        }
    }
}

fn check(source: &ConfigSource, json: bool) -> Result<Exit, Failure> {
    let (problems, exit) = match config::load(&source.sources()) {
        Ok(loaded) => (loaded.warnings, Exit::Done),
        Err(Problems(problems)) => (problems, Exit::Refused),
    };
    if json {
        output::data(&json!({ "ok": exit == Exit::Done, "problems": as_json(&problems) }).to_string())?;
        return Ok(exit);
    }
    for problem in &problems {
        output::data(&problem.to_string())?;
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    match (exit, problems.len()) {
        (Exit::Done, 0) => output::data("ok")?,
        (Exit::Done, 1) => output::data("ok, with 1 warning")?,
        (Exit::Done, warnings) => output::data(&format!("ok, with {warnings} warnings"))?,
        _ => output::talk(&format!(
            "{}: {errors} {} to mend before the member can start; nothing was changed.",
            source.config.display(),
            if errors == 1 { "error" } else { "errors" }
        )),
    }
    Ok(exit)
}

fn print(source: &ConfigSource, json: bool) -> Result<Exit, Failure> {
    let draft = config::read(&source.sources())?;
    for warning in &draft.warnings {
        output::talk(&warning.to_string());
    }
    if json {
        let settings: Vec<_> = draft
            .settings
            .iter()
            .map(|s| json!({ "key": s.key, "value": s.value, "origin": s.origin.to_string() }))
            .collect();
        output::data(&json!({ "settings": settings }).to_string())?;
    } else {
        output::data(&table(&draft.settings))?;
    }
    Ok(Exit::Done)
}

fn table(settings: &[Setting]) -> String {
    let width = |of: fn(&Setting) -> usize, most: usize| settings.iter().map(of).max().unwrap_or(0).min(most);
    let (keys, values) = (width(|s| s.key.len(), 36), width(|s| s.value.len(), 40));
    let line = |s: &Setting| format!("{:keys$} = {:values$}  # {}\n", s.key, s.value, s.origin);
    settings.iter().map(line).collect()
}

fn as_json(problems: &[Problem]) -> Vec<serde_json::Value> {
    let one = |problem: &Problem| {
        json!({
            "severity": match problem.severity { Severity::Warning => "warning", Severity::Error => "error" },
            "key": problem.key,
            "origin": problem.origin.as_ref().map(ToString::to_string),
            "what": problem.what,
            "fix": problem.fix,
        })
    };
    problems.iter().map(one).collect()
}
