//! What a source does not read, counted and named in one line.

use crate::decode::foreign::{Content, UNSUPPORTED};
use std::collections::BTreeMap;
use std::path::Path;

/// Names that are told of each kind.
const NAMED: usize = 3;

/// Whether a name promises nothing about the content: `IMG_0001`, and `1.2.840.10008` as DICOM has them.
pub(super) fn promises_nothing(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default();
    extension.chars().all(|c| c.is_ascii_digit())
}

/// What is left out of a source, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftOut {
    unsupported: BTreeMap<String, Named>,
    passed: BTreeMap<&'static str, Named>,
    others: BTreeMap<String, usize>,
}

/// How many, and the names of the first.
#[derive(Clone, Debug, Default)]
struct Named {
    count: usize,
    first: Vec<String>,
}

impl Named {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(name.into());
        }
    }

    fn names(&self) -> String {
        let more = if self.count > self.first.len() { ", ..." } else { "" };
        self.first.join(", ") + more
    }
}

impl LeftOut {
    /// A file called `name` that is no image by its name, nor by its content where that was looked at.
    pub fn file(&mut self, name: &str, content: Option<Content>) {
        let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let known = UNSUPPORTED.iter().any(|(extensions, _)| extensions.contains(&extension.as_str()));
        match content {
            Some(Content::Unsupported(kind)) => self.unsupported.entry(kind.into()).or_default().add(name),
            _ if known => self.unsupported.entry(extension).or_default().add(name),
            _ if content.is_some() => *self.others.entry("without extension".into()).or_default() += 1,
            _ => *self.others.entry(format!(".{extension}")).or_default() += 1,
        }
    }

    /// Something that is not read for the reason that `what` tells, in the plural.
    pub fn passed(&mut self, what: &'static str, name: &str) {
        self.passed.entry(what).or_default().add(name);
    }

    /// All of it in one line, if there is anything.
    pub fn text(&self) -> Option<String> {
        let mut parts = Vec::new();
        for (extensions, advice) in UNSUPPORTED {
            let of = self.unsupported.iter().filter(|(kind, _)| extensions.contains(&kind.as_str()));
            let list: Vec<String> = of.map(|(kind, n)| format!("{} .{kind} ({})", n.count, n.names())).collect();
            if !list.is_empty() {
                parts.push(format!("{}: {advice}", list.join(", ")));
            }
        }
        parts.extend(self.passed.iter().map(|(what, n)| format!("{} {what} ({})", n.count, n.names())));
        if !self.others.is_empty() {
            let list: Vec<String> = self.others.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            parts.push(format!("{} other files ({})", self.others.values().sum::<usize>(), list.join(", ")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_all_that_is_left_out() {
        let mut left = LeftOut::default();
        assert_eq!(left.text(), None);
        for i in 0..12 {
            left.file(&format!("IMG_{i}.HEIC"), None);
        }
        left.file("scan", Some(Content::Unsupported("dcm")));
        left.file("README", Some(Content::Other));
        left.file("notes.txt", None);
        left.passed("named pipes", "p.jpg");
        let text = left.text().unwrap();
        for part in [
            "12 .heic (IMG_0.HEIC, IMG_1.HEIC, IMG_2.HEIC, ...): not supported; convert",
            "1 .dcm (scan): ",
            "1 named pipes (p.jpg)",
            "2 other files (1 .txt, 1 without extension)",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
