//! Opening of regular files only.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Opens a file for reading. A path that leads to something else, such as a folder or a socket, is an error that says
/// what it is; opening a named pipe would otherwise block until somebody writes to it.
pub fn open_file(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() {
        return File::open(path);
    }
    Err(io::Error::other(format!("it is a {}, not a file", name_of(kind))))
}

fn name_of(kind: fs::FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "named pipe";
        }
        if kind.is_socket() {
            return "socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "device";
        }
    }
    if kind.is_dir() { "folder" } else { "special file" }
}
