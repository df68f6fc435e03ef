//! Asks what the machine is called, so that others can be told where something runs.

use std::process::{Command, Stdio};

/// The machine's name, as its people know it.
pub(super) fn name() -> String {
    // Linux says it in a file; elsewhere there is the command.
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| {
        let ran =
            Command::new("hostname").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(ran.stdout).ok()
    });
    let told = told.unwrap_or_default().trim().to_owned();
    if told.is_empty() { "an unnamed machine".to_owned() } else { told }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_has_a_name_in_one_line() {
        let name = super::name();
        assert!(!name.is_empty() && !name.contains('\n'), "{name:?}");
    }
}
