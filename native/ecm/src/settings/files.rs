//! Files that hold secrets: only their owner may have any rights to them.

use rustix::fs::OFlags;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Bytes of the longest file that is read.
const MOST: u64 = 4096;

/// What is in the file, without the end of its last line.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let (mut file, metadata) = open(path).map_err(|error| format!("{shown} can't be read: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a regular file: name one"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{shown} has mode {mode:04o}, so others than its owner can use it: chmod 600 {shown}, and replace what is in it \
             if somebody may have read it"
        ));
    }
    let mut bytes = Vec::new();
    let read = file.by_ref().take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("{shown} can't be read: {error}"))?;
    if bytes.len() as u64 > MOST {
        return Err(format!("{shown} has more than {MOST} bytes: is it the right file?"));
    }
    cut_line_end(&mut bytes);
    if bytes.is_empty() { Err(format!("{shown} is empty")) } else { Ok(bytes) }
}

/// Looks at what was opened, not at what has the name by then. A pipe is not waited for.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

fn cut_line_end(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}
