//! Mutants: whole files with a few changes, each a function of a seed and a number.

use crate::Format;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers at which readers go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];

/// Texts of numbers at which readers go wrong.
const TEXTS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "7",
    "255",
    "65536",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "1e308",
    "-1e-308",
    "nan",
    "inf",
    "0.5",
];

/// Longest mutant; copies of copies grow.
const MOST: usize = 1 << 17;

/// Mutant `number` of the whole files `seeds`.
pub fn mutant(format: &Format, seeds: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    let mut bytes = pick(&mut rng, seeds).cloned().unwrap_or_default();
    let changes = if rng.random() { 1 } else { rng.random_range(2..=5) };
    for _ in 0..changes {
        if format.text && rng.random_ratio(3, 4) {
            let at = rng.random_range(0..=bytes.len());
            set_digits(&mut rng, &mut bytes, at);
        } else {
            change(&mut rng, &mut bytes, seeds);
        }
    }
    bytes.truncate(MOST);
    if let Some(repair) = format.repair
        && rng.random()
    {
        repair(&mut bytes);
    }
    bytes
}

/// One change.
fn change(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = place(rng, bytes.len());
    match rng.random_range(0..20) {
        0..=5 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        6 | 7 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.random();
            }
        }
        8..=11 => set_number(rng, bytes, at),
        12 => set_digits(rng, bytes, at),
        13 => bytes.truncate(rng.random_range(0..=bytes.len())),
        14 => drop(bytes.drain(piece(rng, at, bytes.len()))),
        15 | 16 => {
            // Once, or often enough to meet limits on counts.
            let copy = bytes[piece(rng, at, bytes.len())].to_vec();
            let times = if rng.random_ratio(1, 8) { 1 << rng.random_range(1..12) } else { 1 };
            let copies = copy.repeat(times.min(MOST / copy.len().max(1)));
            bytes.splice(at..at, copies);
        }
        17 | 18 => {
            // A piece of another file over this one, or moved within it.
            let other = pick(rng, seeds).cloned().unwrap_or_default();
            let from = place(rng, other.len());
            let part = &other[piece(rng, from, other.len())];
            let end = bytes.len().min(at + part.len());
            bytes[at..end].copy_from_slice(&part[..end - at]);
        }
        _ => {
            // The beginning of this file and the end of another.
            let other = pick(rng, seeds).cloned().unwrap_or_default();
            bytes.truncate(at);
            bytes.extend(&other[place(rng, other.len())..]);
        }
    }
}

fn pick<'a, T>(rng: &mut ChaCha8Rng, list: &'a [T]) -> Option<&'a T> {
    list.get(rng.random_range(0..list.len().max(1)))
}

/// A place in a file, one in four near its beginning, where the headers are.
fn place(rng: &mut ChaCha8Rng, length: usize) -> usize {
    let most = if rng.random_ratio(1, 4) { length.min(64) } else { length };
    rng.random_range(0..most.max(1)).min(length)
}

/// A piece from `at` on, mostly short.
fn piece(rng: &mut ChaCha8Rng, at: usize, length: usize) -> std::ops::Range<usize> {
    let longest = 1 << rng.random_range(0..12);
    at..length.min(at + rng.random_range(1..=longest))
}

/// Puts one of [`NUMBERS`] in place of 1, 2, 4 or 8 bytes.
fn set_number(rng: &mut ChaCha8Rng, bytes: &mut [u8], at: usize) {
    let number = NUMBERS[rng.random_range(0..NUMBERS.len())];
    let width = 1 << rng.random_range(0..4);
    let mut value = number.to_le_bytes()[..width].to_vec();
    if rng.random() {
        value.reverse();
    }
    let end = bytes.len().min(at + width);
    bytes[at..end].copy_from_slice(&value[..end - at]);
}

/// Puts one of [`TEXTS`] in place of the digits that follow.
fn set_digits(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
    let end = bytes[start..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |n| start + n);
    bytes.splice(start..end, TEXTS[rng.random_range(0..TEXTS.len())].bytes());
}
