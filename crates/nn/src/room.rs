//! Whether there is the memory that something takes, asked before it is taken: an allocation that fails ends the
//! process in the middle of its work.

use std::fs;
use std::path::{Path, PathBuf};

/// Memory that this process may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Number of bytes.
    pub bytes: u64,
    /// What sets the bound, in words: `the machine has`, `the control group has`, `ulimit leaves`.
    pub bound: &'static str,
}

/// The least of what the machine has left (swap included), of what its control groups allow, and of what `ulimit -v`
/// and `-d` leave. `None` where the system does not tell.
pub fn room() -> Option<Room> {
    let machine = machine().map(|bytes| Room { bytes, bound: "the machine has" });
    let group = groups().into_iter().min().map(|bytes| Room { bytes, bound: "the control group has" });
    let limit = limits().into_iter().min().map(|bytes| Room { bytes, bound: "ulimit leaves" });
    [machine, group, limit].into_iter().flatten().min_by_key(|room| room.bytes)
}

/// Refuses what needs more memory than there is, with what needs less.
///
/// # Errors
/// One line, such as `needs about 12.0 GB of memory, the machine has 4.1 GB; a smaller --batch-size needs less`.
pub fn admit(needed: u64, less: &str) -> Result<(), String> {
    match room() {
        Some(Room { bytes, bound }) if needed > bytes => {
            Err(format!("needs about {} of memory, {bound} {}; {less} needs less", words(needed), words(bytes)))
        }
        _ => Ok(()),
    }
}

/// Bytes in words.
fn words(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        beyond if beyond >= 1e6 => "more than a million GB".into(),
        n if n >= 0.1 => format!("{n:.1} GB"),
        n => format!("{:.0} MB", 1000. * n),
    }
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some(kilobytes(&text, "MemAvailable:")?.saturating_add(kilobytes(&text, "SwapFree:").unwrap_or(0)))
}

/// The bytes of a line like `MemAvailable:  123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What each control group around this process has left; files that can be given up count as free.
fn groups() -> Vec<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut left = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, names) = match controllers {
            "" => ("/sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file"]),
            c if c.split(',').any(|c| c == "memory") => {
                let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
                ("/sys/fs/cgroup/memory", names)
            }
            _ => continue,
        };
        let own = Path::new(root).join(path.trim_start_matches('/'));
        left.extend(own.ancestors().take_while(|p| p.starts_with(root)).filter_map(|p| group(p, names)));
    }
    left
}

fn group(folder: &Path, [most, used, files]: [&str; 3]) -> Option<u64> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let (most, used) = (number(folder.join(most))?, number(folder.join(used))?);
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let files = stat.lines().find_map(|l| l.strip_prefix(files)?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(most.saturating_sub(used.saturating_sub(files)))
}

/// What the limits of the process leave of its address space and of its data.
fn limits() -> Vec<u64> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let left = |limit: &str, used: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit))?;
        let most = line.split_whitespace().next()?.parse::<u64>().ok()?;
        Some(most.saturating_sub(kilobytes(&status, used).unwrap_or(0)))
    };
    [left("Max address space", "VmSize:"), left("Max data size", "VmData:")].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused_and_what_every_machine_has_is_not() {
        assert_eq!(admit(1 << 20, "less"), Ok(()));
        if cfg!(target_os = "linux") {
            assert!(room().is_some_and(|room| room.bytes > 1 << 20), "{:?}", room());
            let refused = admit(u64::MAX, "a smaller --batch-size").expect_err("more than there is");
            assert!(refused.starts_with("needs about more than a million GB of memory, "), "{refused}");
            assert!(refused.ends_with("; a smaller --batch-size needs less"), "{refused}");
        }
    }

    #[test]
    fn lines_of_the_system_are_read() {
        let text = "MemTotal:       8 kB\nMemAvailable:    2048 kB\nSwapFree: x kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(2 << 20));
        assert_eq!((kilobytes(text, "SwapFree:"), kilobytes(text, "None:")), (None, None));
        assert_eq!((words(12_345_678_901).as_str(), words(5_000_000).as_str()), ("12.3 GB", "5 MB"));
    }
}
