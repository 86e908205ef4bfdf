//! The time as text.

use selfpatch_figures::words::utc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, as RFC 3339 in UTC with whole seconds.
pub(crate) fn now() -> String {
    // A clock before 1970 is wrong in any case.
    text(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Seconds since the beginning of 1970 as RFC 3339 in UTC.
fn text(seconds: u64) -> String {
    let shown = utc(seconds);
    let mut words = shown.split(' ');
    let (day, minute) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    format!("{day}T{minute}:{:02}Z", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(text(seconds), expected);
        }
    }
}
