//! A reader of the bytes of a pickle.

/// Ends the reading of a pickle early.
pub(crate) enum Stop {
    /// Malformed, or outside the subset.
    Reason(String),
    /// A Python name that is not on the list.
    Global(String),
}

impl From<&str> for Stop {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.into())
    }
}

/// The result of one reading step.
pub(crate) type Step<T> = Result<T, Stop>;

/// A position in the bytes of a pickle.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Number of bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Takes the next `length` bytes.
    pub fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(length);
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        self.at = end.unwrap_or(self.at);
        bytes.ok_or_else(|| "the pickle ends early".into())
    }

    /// Takes the next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| "the pickle ends early".into())
    }

    /// An unsigned little-endian number of `N` bytes.
    pub fn length<const N: usize>(&mut self) -> Step<usize> {
        let bytes = self.array::<N>()?;
        let value = bytes.iter().rev().fold(0u64, |value, &byte| (value << 8) | u64::from(byte));
        usize::try_from(value).map_err(|_| "a length beyond the address space".into())
    }

    /// The text up to the next line feed.
    pub fn line(&mut self) -> Step<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(length) = rest.iter().take(512).position(|&byte| byte == b'\n') else {
            return Err("an unterminated name".into());
        };
        let text = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(text).map_err(|_| "a name that is not UTF-8".into())
    }
}
