//! On what it was measured.

use std::process::Command;

/// The machine, the compiler and the profile, in a sentence.
pub(super) fn machine() -> String {
    let first = |file: &str, field: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(field)).and_then(|line| line.split(':').nth(1));
        line.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
    };
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_else(|_| "unknown".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kibibytes: u64 = first("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    format!(
        "Measured on {} by {cores} cores of {} with {} GiB, Linux {}, {}, in the profile that tests and demo share \
         (optimised, with overflow checks and debug assertions on).",
        said("date", "-I"),
        first("/proc/cpuinfo", "model name"),
        kibibytes.div_ceil(1 << 20),
        said("uname", "-r"),
        said("rustc", "--version"),
    )
}
