//! Tar files of images.

use crate::scratch;
use selfpatch_datasets::{Access, open};
use std::io::Cursor;
use tar::{Builder, EntryType, Header};

/// Lists a tar file and reads every image in it.
pub fn read(bytes: &[u8]) -> bool {
    scratch::with_file("shard.tar", bytes, |path| {
        let Some(spec) = path.to_str() else { return false };
        let Ok(source) = open(spec, &Access::usual()) else { return false };
        (0..source.len()).all(|i| !source.name(i).is_empty() && source.read(i).is_ok())
    })
}

/// Tar files as WebDataset and GNU tar write them, with names beyond 100 characters and links.
pub fn seeds() -> anyhow::Result<Vec<Vec<u8>>> {
    let image = crate::pictures::bmp()?.swap_remove(0);
    let mut gnu = Builder::new(Vec::new());
    let mut posix = Builder::new(Vec::new());
    for (tar, mut header) in [(&mut gnu, Header::new_gnu()), (&mut posix, Header::new_ustar())] {
        header.set_mode(0o644);
        for (name, bytes) in [("0.bmp", &image[..]), ("0.cls", b"7"), ("deep/1.bmp", &image), ("deep/1.cls", b"8")] {
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, Cursor::new(bytes))?;
        }
    }
    let mut header = Header::new_gnu();
    header.set_size(image.len() as u64);
    gnu.append_data(&mut header, format!("{}/2.bmp", "long".repeat(40)), Cursor::new(&image))?;
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    gnu.append_link(&mut link, "3.bmp", "../../etc/passwd")?;
    let long = format!("{}/2.bmp", "pax".repeat(50));
    posix.append_pax_extensions([("path", long.as_bytes()), ("size", image.len().to_string().as_bytes())])?;
    let mut header = Header::new_ustar();
    header.set_size(image.len() as u64);
    posix.append_data(&mut header, "2.bmp", Cursor::new(&image))?;
    Ok(vec![gnu.into_inner()?, posix.into_inner()?])
}
