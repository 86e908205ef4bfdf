//! What a misspelt name may have meant.

/// ", did you mean …?" for the valid name nearest to `name`, or the list of all.
pub fn did_you_mean<'a>(name: &str, valid: impl Iterator<Item = &'a str>) -> String {
    let valid: Vec<&str> = valid.collect();
    let nearest = valid.iter().map(|v| (strsim::jaro_winkler(name, v), *v)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((closeness, v)) if closeness > 0.7 => format!("; did you mean {v:?}?"),
        _ => format!("; valid are {}", valid.join(", ")),
    }
}
