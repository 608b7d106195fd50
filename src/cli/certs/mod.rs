//! `locum certs init|issue|show`.

mod files;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;

use self::files::Pair;
use super::{
    Exit, Failure,
    args::{CertsArgs, CertsPlace, CertsVerb},
    output,
};
use crate::{
    clock::SystemClock,
    model::NodeId,
    ports::Clock as _,
    tls::{
        Name, Summary,
        issue::{self, Made, Validity},
        summaries,
    },
};

const NOTHING: &str = "Nothing was written.";

/// Does what the verb says.
pub(super) fn execute(args: &CertsArgs) -> Result<Exit, Failure> {
    match &args.verb {
        CertsVerb::Init { place, days } => init(place, *days),
        CertsVerb::Issue { place, node, address, days } => issue(place, node, address, *days),
        CertsVerb::Show { files, json } => show(files, *json),
    }
}

fn init(place: &CertsPlace, days: u32) -> Result<Exit, Failure> {
    let pair = Pair::of(&place.dir, "ca");
    refuse_to_replace(&pair, place, "Every certificate of it would have to be issued again.")?;
    let made = issue::authority(&place.cluster, lasting(days)).map_err(broken)?;
    write(place, &pair, &made)?;
    let next = format!(
        "{} stays here; every host gets {}. Next: locum certs issue --dir {} --cluster {} --node NODE",
        pair.key.display(),
        pair.cert.display(),
        place.dir.display(),
        place.cluster
    );
    tell(place, &pair, &made, &next)
}

fn issue(place: &CertsPlace, node: &NodeId, addresses: &[String], days: u32) -> Result<Exit, Failure> {
    let name = Name::new(node.clone(), place.cluster.clone())
        .map_err(|what| Failure::refused(what, &[NOTHING, "Name the node otherwise."]))?;
    if node.as_str() == "ca" {
        let what = "the authority's own files are called ca.crt and ca.key; a node named ca has no place beside them";
        return Err(Failure::refused(what, &[NOTHING, "Name the node otherwise."]));
    }
    let authority = authority(place)?;
    let pair = Pair::of(&place.dir, node.as_str());
    refuse_to_replace(&pair, place, "With --force it is renewed: a new key, and a new certificate.")?;
    let made = issue::member(&authority, &name, addresses, lasting(days)).map_err(|what| {
        Failure::refused(what, &[NOTHING, "Addresses are IP addresses or host names: --address 10.0.0.1."])
    })?;
    write(place, &pair, &made)?;
    let next = format!(
        "Copy both and {} to {node}, readable for the user of Locum alone, and name them there as api.tls_cert_file, \
         api.tls_key_file and api.tls_ca_file.",
        Pair::of(&place.dir, "ca").cert.display()
    );
    tell(place, &pair, &made, &next)
}

/// Reads the authority in a directory.
fn authority(place: &CertsPlace) -> Result<Made, Failure> {
    let pair = Pair::of(&place.dir, "ca");
    let make = format!(
        "Make the authority first: locum certs init --dir {} --cluster {}",
        place.dir.display(),
        place.cluster
    );
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| {
            Failure::refused(format!("{} cannot be read: {error}", path.display()), &[NOTHING, &make])
        })
    };
    let made = Made { cert: read(&pair.cert)?, key: read(&pair.key)? };
    let bad = |what: String| Failure::refused(format!("{} {what}", pair.cert.display()), &[NOTHING]);
    let summaries = summaries(made.cert.as_bytes()).map_err(bad)?;
    let Some(summary) = summaries.first().filter(|first| first.authority) else {
        return Err(bad("is not the certificate of an authority".into()));
    };
    match issue::cluster_of(summary) {
        Some(other) if other != place.cluster => {
            let what = format!(
                "the authority in {} is that of cluster {other}, not of {}",
                place.dir.display(),
                place.cluster
            );
            return Err(Failure::refused(
                what,
                &[NOTHING, "Every cluster has an authority of its own; name its directory with --dir."],
            ));
        }
        _ => {}
    }
    if summary.not_after <= SystemClock.wall() {
        return Err(bad(format!("expired at {}", summary.not_after)));
    }
    Ok(made)
}

fn lasting(days: u32) -> Validity {
    Validity::lasting(SystemClock.wall(), Duration::from_secs(u64::from(days) * 24 * 3600))
}

fn broken(what: String) -> Failure {
    Failure::refused(what, &[NOTHING])
}

fn refuse_to_replace(pair: &Pair, place: &CertsPlace, meaning: &str) -> Result<(), Failure> {
    match pair.existing() {
        Some(path) if !place.force => {
            let what = format!("{} is there already", path.display());
            Err(Failure::refused(what, &[NOTHING, &format!("Replace it with --force. {meaning}")]))
        }
        _ => Ok(()),
    }
}

fn write(place: &CertsPlace, pair: &Pair, made: &Made) -> Result<(), Failure> {
    if place.dry_run {
        return Ok(());
    }
    pair.write(made, place.force).map_err(|(what, error)| {
        Failure::refused(format!("cannot write {what}: {error}"), &["Files written before it are complete."])
    })
}

fn tell(place: &CertsPlace, pair: &Pair, made: &Made, next: &str) -> Result<Exit, Failure> {
    let summary = summaries(made.cert.as_bytes()).map_err(broken)?.swap_remove(0);
    if place.json {
        let json = json!({
            "written": !place.dry_run,
            "cert_file": pair.cert,
            "key_file": pair.key,
            "certificate": as_json(&pair.cert, &summary),
        });
        output::data(&json.to_string())?;
        return Ok(Exit::Done);
    }
    let verb = if place.dry_run { "would write" } else { "wrote" };
    output::data(&format!(
        "{verb} {}\n{verb} {} (mode 0600)\n{}",
        pair.cert.display(),
        pair.key.display(),
        page(&summary)
    ))?;
    if !place.dry_run {
        output::talk(next);
    }
    Ok(Exit::Done)
}

fn show(files: &[PathBuf], as_json_text: bool) -> Result<Exit, Failure> {
    let mut shown = Vec::new();
    for file in files {
        let refused = |what: String| Failure::refused(format!("{} {what}", file.display()), &[]);
        let pem = fs::read(file).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let all = summaries(&pem).map_err(refused)?;
        shown.extend(all.into_iter().map(|summary| (file, summary)));
    }
    let now = SystemClock.wall();
    let valid = shown.iter().all(|(_, summary)| validity(summary, now).is_ok());
    if as_json_text {
        let all: Vec<_> = shown.iter().map(|(file, summary)| as_json(file, summary)).collect();
        output::data(&json!({ "certificates": all }).to_string())?;
    } else {
        let pages: Vec<_> = shown
            .iter()
            .map(|(file, summary)| format!("file        {}\n{}", file.display(), page(summary)))
            .collect();
        output::data(&pages.join("\n"))?;
    }
    Ok(if valid { Exit::Done } else { Exit::Refused })
}

/// How long it is still valid, in whole days; otherwise a word why it is not.
fn validity(summary: &Summary, now: Timestamp) -> Result<i64, &'static str> {
    if now > summary.not_after {
        Err("EXPIRED")
    } else if now < summary.not_before {
        Err("NOT YET VALID")
    } else {
        Ok(summary.not_after.duration_since(now).as_hours() / 24)
    }
}

fn page(summary: &Summary) -> String {
    let left = match validity(summary, SystemClock.wall()) {
        Ok(days) => format!("{days} days left"),
        Err(word) => word.to_owned(),
    };
    let names = if summary.names.is_empty() { "-".to_owned() } else { summary.names.join(", ") };
    let mut page = format!(
        "subject     {}\nissuer      {}\nnames       {names}\nvalid       {} to {} ({left})\nserial      {}\n",
        summary.subject, summary.issuer, summary.not_before, summary.not_after, summary.serial
    );
    for member in &summary.members {
        page.push_str(&format!("member      node {} of cluster {}\n", member.node, member.cluster));
    }
    if summary.authority {
        page.push_str("authority   yes: it certifies others\n");
    }
    page
}

fn as_json(file: &Path, summary: &Summary) -> serde_json::Value {
    let members = summary.members.iter().map(|name| json!({ "node": name.node, "cluster": name.cluster }));
    json!({
        "file": file,
        "subject": summary.subject,
        "issuer": summary.issuer,
        "names": summary.names,
        "members": members.collect::<Vec<_>>(),
        "not_before": summary.not_before,
        "not_after": summary.not_after,
        "valid": validity(summary, SystemClock.wall()).is_ok(),
        "authority": summary.authority,
        "serial": summary.serial,
    })
}
