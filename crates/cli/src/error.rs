//! Errors as a user should see them.

/// An error and its causes on one line, without the backtraces that tensor errors carry.
pub fn plain(e: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in e.chain() {
        let text = cause.to_string();
        let lines = text.lines().take_while(|l| !l.trim_start().starts_with("0: "));
        let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
        if !parts.iter().any(|p| p.contains(&line)) {
            parts.push(line);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_joined_and_backtraces_cut() {
        let inner: anyhow::Result<()> = Err(anyhow::anyhow!("bad shape\n   0: some::frame\n   1: another"));
        let e = inner.context("weights.pth").unwrap_err();
        assert_eq!(plain(&e), "weights.pth: bad shape");
    }
}
