//! What only Django can tell: its own self-test, run or pointed to.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::check_finding::{Finding, Verdict, fine, wrong};

/// What the reference package calls it.
const SELFTEST: &str = "gateway_selftest";

/// Runs the self-test of a `manage.py`; without one, says where to find it.
pub(super) async fn ask(manage: Option<&Path>) -> Vec<Finding> {
    let Some(manage) = manage else {
        let text = format!(
            "django: its settings, its cache's prefix and a message on its way are looked at by `manage.py {SELFTEST}`; run it \
             beside Django, or here by --manage PATH"
        );
        return vec![Finding { verdict: Verdict::Next, text }];
    };
    let mut command = Command::new("python3");
    command.arg(manage).args([SELFTEST, "--no-color"]).stdin(Stdio::null());
    let place = manage.display();
    match tokio::task::spawn_blocking(move || command.output()).await {
        Ok(Ok(output)) => read(&output),
        Ok(Err(error)) => vec![wrong(format!("django: {place} cannot be run by python3: {error}"))],
        Err(error) => vec![wrong(format!("django: {place}: {error}"))],
    }
}

/// `ok    name: …` and `WRONG name: …`, under which a line says what to do.
fn read(output: &Output) -> Vec<Finding> {
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut findings: Vec<Finding> = Vec::new();
    for line in said.lines() {
        if let Some(text) = line.strip_prefix("ok ") {
            findings.push(fine(format!("django: {}", text.trim())));
        } else if let Some(text) = line.strip_prefix("WRONG ") {
            findings.push(wrong(format!("django: {}", text.trim())));
        } else if let Some(last) = findings.last_mut().filter(|_| line.starts_with(' ')) {
            last.text.push_str("; ");
            last.text.push_str(line.trim());
        }
    }
    let is_told = findings.iter().any(|finding| finding.verdict == Verdict::Wrong);
    if !output.status.success() && !is_told {
        let last = complaint.lines().last().unwrap_or("it said nothing");
        findings.push(wrong(format!("django: `{SELFTEST}` ended with {}: {last}", output.status)));
    }
    findings
}
