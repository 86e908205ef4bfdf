//! What a set of images is like: every image read and decoded once.

mod advice;
mod found;
mod seen;
mod suggestion;

use crate::decode::{Decoding, Tally};
use crate::source::ImageSource;
use advice::{advice, of_depth};
use seen::{Seen, kind, see};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub use found::{Named, Spread, Survey};
pub use suggestion::{Suggestion, suggest};

/// Reads `count` images, evenly spread, with `threads` threads. After each, `done` gets the number of all that are read.
pub fn survey(
    source: &dyn ImageSource,
    decoding: &Decoding,
    count: usize,
    threads: usize,
    done: &(dyn Fn(usize) + Sync),
) -> Survey {
    let count = count.clamp(1, source.len().max(1)).min(source.len());
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let seen = see(source, decoding, number * source.len() / count);
            all.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
            done(count);
        }
    };
    std::thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|seen| seen.index); // whoever came first
    summary(source, decoding, &all)
}

fn summary(source: &dyn ImageSource, decoding: &Decoding, all: &[Seen]) -> Survey {
    let mut s = Survey { images: source.len(), read: all.len(), ..Survey::default() };
    let mut counts = vec![0; source.classes().len()];
    (0..source.len()).filter_map(|i| source.label(i)).for_each(|l| counts[l as usize] += 1);
    s.classes = source.classes().iter().cloned().zip(counts).collect();
    let (mut widths, mut heights) = (Vec::new(), Vec::new());
    let (mut mean, mut square) = (vec![0.; decoding.channels], vec![0.; decoding.channels]);
    s.values = [f64::INFINITY, f64::NEG_INFINITY];
    let mut tally = Tally::default();
    for seen in all {
        let named = |reason: &String| Named { name: source.name(seen.index), reason: reason.clone() };
        s.bytes += seen.bytes as u64;
        s.mislabelled.extend(seen.mislabelled.iter().map(named));
        match &seen.result {
            Err(reason) => s.bad.push(named(reason)),
            Ok(facts) => {
                *s.formats.entry(kind(seen.header, facts)).or_default() += 1;
                widths.push(facts.width);
                heights.push(facts.height);
                tally.add(seen.index, &facts.notes);
                for (c, [m, q, least, most]) in facts.channels.iter().enumerate().take(decoding.channels) {
                    mean[c] += m;
                    square[c] += q;
                    // As the files hold them.
                    let [low, high] = decoding.range.as_ref().map_or([0., 255.], |r| r.of(c).map(f64::from));
                    let of = |v: &f64| low + v * (high - low);
                    s.values = [s.values[0].min(of(least)), s.values[1].max(of(most))];
                }
            }
        }
    }
    let good = widths.len().max(1) as f64;
    s.mean = mean.iter().map(|m| m / good).collect();
    s.std = square.iter().zip(&s.mean).map(|(q, m)| (q / good - m * m).max(0.).sqrt()).collect();
    if widths.is_empty() {
        s.values = [0.; 2];
    }
    (s.width, s.height) = (Spread::of(widths), Spread::of(heights));
    s.advice = tally.lines().into_iter().map(|(_, line)| line).collect();
    s.advice.extend(of_depth(source, decoding, all));
    s.advice.extend(advice(&s, decoding));
    s
}
