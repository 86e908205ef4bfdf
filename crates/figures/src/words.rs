//! Numbers as a person reads them, on the page and in the terminal.

/// Four digits, or words where there is no number.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "non-finite".to_owned()
    } else if size == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.3e}")
    } else {
        format!("{value:.*}", (3 - size.log10().floor() as i32).max(0) as usize)
    }
}

/// Two digits without zeros behind them: a bound, which is no exact number.
pub fn brief(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return number(value);
    }
    let digits = (1 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Seconds in the two largest units, or "unknown".
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    let whole = seconds.max(0.0) as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) if h < 48 => format!("{h} h {m} min"),
        (h, _, _) => format!("{} d {} h", h / 24, h % 24),
    }
}

/// A moment in seconds since 1970, as `2026-01-31 07:05 UTC`.
pub fn utc(seconds: u64) -> String {
    let (days, minutes) = (seconds / 86_400, seconds / 60 % 1440);
    // Years of 365.2425 days that begin in March, so that the leap day is the last; 719 468 days
    // lie between the March of year 0 and 1970.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// A quantity with two digits or more, in thousands, millions and so on of its unit.
pub fn scaled(mut value: f64, unit: &str) -> String {
    let mut prefix = "";
    for larger in ["k", "M", "G", "T"] {
        if value < 999.5 {
            break;
        }
        (value, prefix) = (value / 1000., larger);
    }
    match prefix {
        "" => format!("{value:.0} {}", unit.trim_start()),
        _ if value < 99.95 => format!("{value:.1} {prefix}{unit}"),
        _ => format!("{value:.0} {prefix}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let shown = [5e-4, 0.04, 9.123456, 812.34, 999_999.9, 1e6, f64::INFINITY].map(number);
        assert_eq!(shown, ["5.000e-4", "0.04000", "9.123", "812.3", "1000000", "1.000e6", "non-finite"]);
        assert_eq!(
            [0.01, 0.2, 3.2, 5.926, 15.0, 64.0, 0.0, 812.3].map(brief),
            ["0.01", "0.2", "3.2", "5.9", "15", "64", "0", "812"]
        );
        let shown = [3.0, 75.0, 7322.0, 180_000.0, f64::NAN].map(duration);
        assert_eq!(shown, ["3 s", "1 min 15 s", "2 h 2 min", "2 d 2 h", "unknown"]);
    }

    #[test]
    fn moments_have_dates() {
        let shown = [0, 951_782_399, 951_782_400, 4_107_542_399, 1_795_762_203].map(utc);
        let dates =
            ["1970-01-01 00:00", "2000-02-28 23:59", "2000-02-29 00:00", "2100-02-28 23:59", "2026-11-27 06:50"];
        assert_eq!(shown, dates.map(|d| format!("{d} UTC")));
    }

    #[test]
    fn quantities_have_two_digits_or_more() {
        let bytes = [812., 999.6, 31_240., 99_960., 623_000., 34_500_000., 4_200_000_000., 7e15];
        let want = ["812 B", "1.0 kB", "31.2 kB", "100 kB", "623 kB", "34.5 MB", "4.2 GB", "7000 TB"];
        assert_eq!(bytes.map(|bytes| scaled(bytes, "B")), want);
        let numbers = [40., 31_240.].map(|n| scaled(n, " parameters"));
        assert_eq!(numbers, ["40 parameters", "31.2 k parameters"]);
    }
}
