//! `x402conf`, the conformance checks of the PyPI package x402-conformance, against our facilitator and our resources.

use crate::matrix::Matrix;
use crate::process::folder;
use crate::town::Town;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

/// What is checked, and of what.
pub(crate) async fn fill(town: &Town, matrix: &mut Matrix) -> Result<()> {
    let checks = [
        ("live", "facilitator", town.facilitator()),
        ("resource", "paywall, by channel or `exact`", town.paywall("/exact")),
        ("resource", "paywall, by channel", town.paywall("/channel")),
    ];
    for (mode, what, url) in checks {
        matrix.check(mode, what, run(mode, &url).await);
    }
    Ok(())
}

/// Runs the checks: each must pass, whatever its severity. Says which they are.
async fn run(mode: &str, url: &str) -> Result<String> {
    let scratch = tempfile::tempdir()?;
    let mut command = Command::new(folder().join("python/.venv/bin/x402conf"));
    command.current_dir(scratch.path()).args([mode, "--fail-on-error", url]);
    let output = command.output().await.context("x402conf does not start")?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let evidence: Value = serde_json::from_str(&said).with_context(|| format!("{said}{errors}"))?;
    let results = evidence["results"].as_array().context("no results")?;
    let checks: Vec<&Value> = results.iter().filter_map(|result| result["checks"].as_array()).flatten().collect();
    let failed: Vec<String> =
        checks.iter().filter(|check| check["pass"] != true).map(|check| format!("{check:#}")).collect();
    ensure!(output.status.success() && failed.is_empty(), "{}: {}", output.status, failed.join("\n"));
    let names = checks.iter().filter_map(|check| check["check"].as_str()?.split_whitespace().next());
    let names: Vec<&str> = names.collect();
    ensure!(!names.is_empty(), "nothing was checked: {said}");
    Ok(names.join(", "))
}
