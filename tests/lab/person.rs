//! What a person does with a laboratory.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use crate::lab::{
    Fault, Lab, Plan, Store, Wish, begun, cuts, fault_words, place,
    plan::{API_PORT, CLIENTS, ENDPOINT_PORT},
    processes,
    status::SOON,
};

/// Builds one and leaves it running.
pub(crate) async fn up(wish: &Wish) -> Result<()> {
    place::clear_stale();
    let lab = Lab::build(wish)?;
    let whole = lab.shows_within(SOON, |seen| lab.is_whole(seen)).await;
    let lab = lab.left();
    tell(&lab.plan);
    match whole {
        Ok(_) => Ok(()),
        Err(Some(last)) => Err(anyhow!(
            "it runs, but is not whole after {SOON:?}; missing: {}",
            lab.missing(&last).join("; ")
        )),
        Err(None) => Err(anyhow!("it runs, but nobody leads after {SOON:?}\n{}", lab.tails(10))),
    }
}

fn tell(plan: &Plan) {
    println!("The laboratory {} is in {}", plan.id, plan.folder.display());
    for host in &plan.hosts {
        let parts = [(host.postgres, "PostgreSQL"), (host.member, "member"), (host.etcd, "etcd")];
        let parts: Vec<_> = parts.iter().filter(|(there, _)| *there).map(|(_, part)| *part).collect();
        println!("  {:<6} {:<15} {}", host.name, host.ip.to_string(), parts.join(", "));
    }
    if plan.wish.store == Store::Embedded {
        println!("  The store is one file that all hosts share: no cut reaches it.");
    }
    let client = format!("ip netns exec {}", plan.namespace(CLIENTS));
    println!("\nConnect, as a client, through an endpoint:");
    for host in plan.members() {
        println!("  {client} psql -h {} -p {ENDPOINT_PORT} -U postgres postgres", host.ip);
    }
    if let Some(host) = plan.members().next() {
        println!("\nLook:      {client} curl -s http://{}:{API_PORT}/v1/status", host.ip);
        println!(
            "           ip netns exec {} {} status -c {}",
            plan.namespace(&host.name),
            plan.locum.display(),
            plan.config_of(&host.name).display()
        );
        println!("A shell:   ip netns exec {} bash", plan.namespace(&host.name));
        println!("Logs:      {}/*/member.log", plan.folder.display());
        println!("Break:     scripts/lab fault host-lost {}", host.name);
        println!("Heal:      scripts/lab heal\nEnd:       scripts/lab down");
    }
}

fn open(folder: Option<&Path>) -> Result<Lab> {
    match folder {
        Some(folder) => Lab::open(folder),
        None => Lab::open(&place::the_one()?.folder),
    }
}

/// Breaks it.
pub(crate) fn fault(folder: Option<&Path>, words: &[String]) -> Result<()> {
    if words.is_empty() {
        println!("{}", fault_words::USAGE);
        return Ok(());
    }
    let lab = open(folder)?;
    let fault = Fault::parse(words, &lab.plan)?;
    lab.begin(&fault)?;
    println!("broken: {}", fault.text());
    Ok(())
}

/// Puts everything right.
pub(crate) async fn heal(folder: Option<&Path>) -> Result<()> {
    let lab = open(folder)?;
    for fault in begun::all(&lab.plan)? {
        let (last, before) =
            fault.in_turn().split_last().map(|(last, before)| (last.clone(), before.to_vec())).unzip();
        for part in before.into_iter().flatten() {
            lab.heal(&part)?;
            ensure!(
                lab.shows_within(SOON, |seen| lab.is_whole(seen)).await.is_ok(),
                "healed: {}; it is not whole after {SOON:?}, so nothing more is healed",
                part.text()
            );
        }
        last.iter().try_for_each(|part| lab.heal(part))?;
    }
    lab.heal_all()?;
    println!("healed: all packets pass, nothing is stopped, every host has booted");
    Ok(())
}

/// Says how it is.
pub(crate) async fn status(folder: Option<&Path>) -> Result<()> {
    let lab = open(folder)?;
    tell(&lab.plan);
    println!();
    for host in &lab.plan.hosts {
        let all = processes::of_host(&lab.plan, &host.name);
        let stopped = all.iter().filter(|process| process.state == 'T').count();
        println!("{:<6} {} processes, {stopped} of them stopped", host.name, all.len());
    }
    for cut in cuts::current(&lab.plan)? {
        println!("cut: {cut:?}");
    }
    match lab.leader().await {
        Some(seen) => {
            println!(
                "leader {}, epoch {:?}",
                seen.node.as_str(),
                seen.intent.as_ref().map(|intent| intent.epoch.0)
            );
            for node in &seen.nodes {
                println!(
                    "{:<6} {:?} serving={} streaming={}",
                    node.node.as_str(),
                    node.role,
                    node.serving,
                    node.streaming
                );
            }
            let missing = lab.missing(&seen);
            println!(
                "{}",
                if missing.is_empty() {
                    "whole".into()
                } else {
                    format!("not whole: {}", missing.join("; "))
                }
            );
        }
        None => println!("nobody leads"),
    }
    Ok(())
}

/// Ends all that nobody else will end.
pub(crate) fn down() -> Result<()> {
    let mut failed = Vec::new();
    for plan in place::all() {
        let kept = plan.owner.is_none();
        if kept || plan.owner.is_some_and(|owner| !processes::runs(owner)) {
            match place::clear(&plan) {
                Ok(()) => println!("ended and removed: {}", plan.folder.display()),
                Err(error) => failed.push(format!("{}: {error:#}", plan.folder.display())),
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow!(failed.join("\n"))) }
}
