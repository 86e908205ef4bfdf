//! Words of tables and captions.

/// What a run is called in tables and captions.
pub fn letter(run: usize) -> char {
    // The remainder is below 26.
    char::from(b'A' + (run % 26) as u8)
}

/// A share in percent, a dash where there is none.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}", share * 100.0) } else { "–".into() }
}
