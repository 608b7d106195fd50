//! `locum report --lost`: the transactions that an incident cost, beside the forecast.

use serde_json::json;

use super::{
    Exit, Failure,
    args::{ReportArgs, ReportFormat},
    client::Member,
    output,
};
use crate::{
    model::{Incident, LossList, Snapshot},
    report,
};

/// Fetches the incident from any member, and the list from the one that keeps it.
pub(super) async fn execute(args: &ReportArgs, id: &str) -> Result<Exit, Failure> {
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        let hint = "`locum report` shows the incidents with their identifiers.";
        return Err(Failure::new(Exit::Usage, format!("--lost {id:?} is no incident"), &[hint]));
    }
    let member = Member::find(&args.connect)?;
    let incident: Incident = member.get(&format!("/v1/incidents/{id}")).await?;
    let list = match &incident.rpo.salvage {
        Some(_) => match kept(&member, &incident).await {
            Ok(list) => Some(list),
            Err(why) => {
                output::talk(&format!("note: {why}; this is what the incident itself carries"));
                None
            }
        },
        None => None,
    };
    if args.json || args.format == ReportFormat::Json {
        let printed = json!({
            "incident": incident.id,
            "from": incident.from,
            "to": incident.to,
            "rpo": incident.rpo,
            "complete": list.as_ref().map(LossList::is_complete),
            "list": list,
        });
        let text = serde_json::to_string_pretty(&printed);
        output::data(&text.map_err(|error| Failure::refused(format!("cannot print: {error}"), &[]))?)?;
    } else {
        output::data(&report::lost_text(&incident, list.as_ref()))?;
    }
    Ok(Exit::Done)
}

/// The list, from the member of the old primary; else why it cannot be had.
async fn kept(member: &Member, incident: &Incident) -> Result<LossList, String> {
    let Some(from) = &incident.from else { return Err("nobody keeps the list".into()) };
    let status: Snapshot = match member.try_get("/v1/status").await {
        Ok(Ok(status)) => status,
        Ok(Err(_)) | Err(_) => return Err("the members are not known".into()),
    };
    let keeper = status.nodes.iter().find(|node| node.node == *from);
    let Some(address) = keeper.and_then(|node| node.api_address.as_deref()) else {
        return Err(format!("{from}, which keeps the list, is not there"));
    };
    let other = member.at(address).map_err(|_| format!("{address} of {from} is no address"))?;
    match other.try_get(&format!("/v1/lost/{}", incident.id.0)).await {
        Ok(Ok(list)) => Ok(list),
        Ok(Err(Failure::Told { what, .. })) => Err(what),
        Ok(Err(Failure::Closed)) => Err("it was not read to its end".into()),
        Err(silent) => {
            Err(format!("{from}, which keeps the list, does not answer at {address}: {}", silent.0))
        }
    }
}
