//! The process that holds secrets.

use std::io;

/// Keeps this process's memory out of core files, and from other processes of the same user (`PR_SET_DUMPABLE`, see
/// prctl(2)): call it first in `main`, before a secret is read. Does nothing but on Linux.
///
/// # Errors
/// Those of prctl(2).
#[cfg_attr(not(target_os = "linux"), expect(clippy::unnecessary_wraps, reason = "one signature on every system"))]
pub fn keep_out_of_cores() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn given_a_process_that_keeps_secrets_when_asked_then_its_memory_is_not_dumped() {
        assert!(nix::sys::prctl::get_dumpable().unwrap(), "processes are dumped unless they say otherwise");
        super::keep_out_of_cores().unwrap();
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
    }
}
