//! Words that the project does not use.

use crate::nothing;
use crate::source;

/// Each with what is said instead.
const INSTEAD: [(&str, &str); 3] = [("made-up", "synthetic"), ("made up", "synthetic"), ("not finite", "non-finite")];

#[test]
fn one_word_for_one_thing() {
    let mut found = Vec::new();
    for file in source::all().iter().filter(|f| f.path != "CHANGELOG.md" && !f.path.ends_with("tidy/words.rs")) {
        for (number, line) in file.text.lines().enumerate() {
            let lower = line.to_lowercase();
            for (word, instead) in INSTEAD.iter().filter(|(word, _)| lower.contains(word)) {
                found.push(format!("{}:{}: {word:?}; say {instead:?}", file.path, number + 1));
            }
        }
    }
    nothing(found);
}
