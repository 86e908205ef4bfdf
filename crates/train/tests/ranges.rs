//! What the documentation says of healthy runs is what the program judges by.

use selfpatch_train::SHEET;
use std::fs;
use std::path::Path;

#[test]
fn the_documented_ranges_are_those_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/running.md");
    let page = fs::read_to_string(path).expect("the page");
    for number in SHEET.healthy {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", number.field)));
        let cells: Vec<&str> = row.unwrap_or_default().split('|').map(str::trim).collect();
        let healthy = cells.get(3).copied().unwrap_or_default();
        assert_eq!(healthy, number.documented(), "{}", number.field);
    }
}

#[test]
fn every_range_has_a_bound_and_bounds_are_in_order() {
    for number in SHEET.healthy {
        assert!(number.low.is_some() || number.high.is_some(), "{}", number.field);
        assert!(number.low.zip(number.high).is_none_or(|(low, high)| low.0 < high.0), "{}", number.field);
    }
}
