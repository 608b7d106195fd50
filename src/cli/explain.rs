//! `locum explain`: what the leader would do now, and what it waits for.

use serde_json::Value;

use super::{Exit, Failure, args::ExplainArgs, client::Member, output};
use crate::report::Paint;

/// Asks the leader where it is known, else the member itself.
pub(super) async fn execute(args: &ExplainArgs) -> Result<Exit, Failure> {
    let mut member = Member::find(&args.connect)?;
    let own: Value = member.get("/v1/explain").await?;
    let answer = if own["leader"].is_string() && own["leader"] != own["node"] {
        member.toward_leader().await;
        match member.try_get("/v1/explain").await {
            Ok(Ok(leaders)) => leaders,
            _ => own,
        }
    } else {
        own
    };
    if args.json {
        output::data(&answer.to_string())?;
    } else {
        output::data(&page(&answer, Paint::when(output::is_coloured())))?;
    }
    Ok(Exit::Done)
}

fn page(answer: &Value, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(node) = answer["node"].as_str() {
        let leader = answer["leader"].as_str().unwrap_or("nobody");
        let who = if node == leader {
            format!("{node} leads; this is what it sees.")
        } else {
            format!("{leader} leads; this is what {node} sees.")
        };
        out.push_str(&format!("{who}\n\n"));
    }
    if let Some(error) = answer["store_error"].as_str() {
        out.push_str(&format!("{}\n- {error}\n\n", paint.bold("The store does not answer")));
    }
    section(&mut out, &paint.bold("What is wrong"), &answer["findings"], "nothing");
    out.push('\n');
    section(&mut out, &paint.bold("What it would do, or waits for"), &answer["plan"], "nothing is known yet");
    if answer["if_it_crashed"].as_array().is_some_and(|said| !said.is_empty()) {
        out.push('\n');
        section(&mut out, &paint.bold("If the primary's postmaster died now"), &answer["if_it_crashed"], "");
    }
    out
}

fn section(out: &mut String, title: &str, items: &Value, none: &str) {
    out.push_str(title);
    out.push('\n');
    let items: Vec<_> = items.as_array().into_iter().flatten().filter_map(sentence).collect();
    if items.is_empty() {
        out.push_str(&format!("- {none}\n"));
    }
    for item in items {
        out.push_str(&format!("- {item}\n"));
    }
}

fn sentence(item: &Value) -> Option<&str> {
    item.as_str().or_else(|| item["text"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn findings_and_plan_are_sentences() {
        let answer = json!({
            "node": "busan", "leader": "busan",
            "findings": [{ "finding": "paused", "text": "automatic action is paused" }],
            "plan": ["paused by an operator; `locum resume` lifts it"],
            "if_it_crashed": ["so a standby would be promoted"],
        });
        let page = page(&answer, Paint::Plain);
        assert_eq!(
            page,
            "busan leads; this is what it sees.\n\nWhat is wrong\n- automatic action is paused\n\n\
             What it would do, or waits for\n- paused by an operator; `locum resume` lifts it\n\n\
             If the primary's postmaster died now\n- so a standby would be promoted\n"
        );
    }
}
