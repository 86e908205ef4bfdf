//! Working memory that is kept from step to step.
//!
//! A step needs the same large buffers every time. Taking them afresh would have the system clear
//! their pages each time, and would clear them once more to hand them out; these are kept instead,
//! and come with whatever they last held.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `len` values of working memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Memory as long as its size class.
    data: Vec<f32>,
    len: usize,
}

/// Buffers nobody uses at the moment, by size class. It never holds more than what has once been in
/// use at the same time.
struct Kept {
    idle: BTreeMap<usize, Vec<Vec<f32>>>,
    idle_len: usize,
    in_use: usize,
    most_in_use: usize,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept::new());

fn kept() -> MutexGuard<'static, Kept> {
    // Whoever panicked did so outside of the few lines below, which leave the state whole.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Buffer {
    /// `len` values, not cleared: whatever was last written there.
    pub(crate) fn stale(len: usize) -> Self {
        Self::within(len, len)
    }

    /// `len` values, not cleared, in memory for `most` values. A length that changes from step to step then finds the
    /// same memory each time.
    pub(crate) fn within(len: usize, most: usize) -> Self {
        let class = size_class(most.max(len));
        let found = kept().take(class);
        Self { data: found.unwrap_or_else(|| vec![0f32; class]), len }
    }

    /// The memory itself, which then belongs to the caller.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        let mut data = std::mem::take(&mut self.data);
        kept().in_use -= data.len();
        data.truncate(self.len);
        data
    }
}

impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Self {
        let mut buffer = Self::stale(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl Kept {
    const fn new() -> Self {
        Self { idle: BTreeMap::new(), idle_len: 0, in_use: 0, most_in_use: 0 }
    }

    /// Counts `class` values as used; an idle buffer of that size, if there is one.
    fn take(&mut self, class: usize) -> Option<Vec<f32>> {
        self.in_use += class;
        self.most_in_use = self.most_in_use.max(self.in_use);
        let found = self.idle.get_mut(&class).and_then(Vec::pop);
        match &found {
            Some(data) => self.idle_len -= data.len(),
            None => self.shrink(),
        }
        found
    }

    /// Keeps a buffer that is no longer used.
    fn give(&mut self, data: Vec<f32>) {
        self.in_use -= data.len();
        self.idle_len += data.len();
        self.idle.entry(data.len()).or_default().push(data);
    }

    /// Frees idle buffers, largest first, until idle and used ones fit into the largest use so far.
    fn shrink(&mut self) {
        while self.idle_len > 0 && self.idle_len + self.in_use > self.most_in_use {
            let Some(mut last) = self.idle.last_entry() else { return };
            match last.get_mut().pop() {
                Some(data) => self.idle_len -= data.len(),
                None => {
                    last.remove();
                }
            }
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        // Empty: taken by `into_vec`.
        if !data.is_empty() {
            kept().give(data);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

/// `len` rounded up to an eighth of its magnitude, so that slightly different sizes share memory.
fn size_class(len: usize) -> usize {
    let step = (len.next_power_of_two() / 8).max(16);
    len.max(1).next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_their_sizes_and_waste_at_most_a_quarter() {
        for len in (0..5000).chain([65_537, 1_000_003]) {
            let class = size_class(len);
            assert!(class >= len && class <= len + (len / 4).max(16), "{len}: {class}");
            assert_eq!(size_class(class), class);
        }
    }

    // On a set of their own: that of the process is used by the tests beside these.
    #[test]
    fn memory_is_used_again() {
        let mut kept = Kept::new();
        assert!(kept.take(4096).is_none());
        let data = vec![0.; 4096];
        let address = data.as_ptr();
        kept.give(data);
        assert_eq!((kept.in_use, kept.idle_len), (0, 4096));
        assert_eq!(kept.take(4096).map(|data| data.as_ptr()), Some(address));
        assert_eq!((kept.in_use, kept.idle_len, kept.most_in_use), (4096, 0, 4096));
    }

    #[test]
    fn memory_handed_over_is_as_long_as_asked() {
        assert_eq!(Buffer::stale(1001).into_vec().len(), 1001);
        assert_eq!(Buffer::within(10, 1001).len(), 10);
    }

    #[test]
    fn idle_memory_makes_room_for_another_size() {
        let mut kept = Kept { idle: BTreeMap::new(), idle_len: 0, in_use: 64, most_in_use: 96 };
        kept.idle.entry(32).or_default().extend([vec![0.; 32], vec![0.; 32]]);
        kept.idle_len = 64;
        kept.shrink();
        assert_eq!((kept.idle_len, kept.idle[&32].len()), (32, 1));
    }
}
