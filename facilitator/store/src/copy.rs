//! A copy of a SQLite file, made by the process that holds it: nobody else can.

use crate::StoreFailure;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a copy is called until it is whole.
const UNFINISHED: &str = "unfinished";

/// Copies everything into `to`, which is not there yet.
pub(crate) fn copy(connection: &Connection, to: &Path) -> Result<(), StoreFailure> {
    let unfinished = to.with_extension(UNFINISHED);
    let copied = write(connection, &unfinished).and_then(|()| publish(&unfinished, to));
    if copied.is_err() {
        // What is left of it is of no use, and in the way of the next one of this name.
        drop(fs::remove_file(&unfinished));
    }
    copied
}

fn write(connection: &Connection, path: &Path) -> Result<(), StoreFailure> {
    let failed = |error: io::Error| StoreFailure::File { path: path.to_owned(), error };
    // What a copy that was cut off has left is replaced; SQLite takes an empty file, and leaves its permissions.
    drop(fs::remove_file(path));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let name = path.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    connection.execute("VACUUM INTO ?1", [name])?;
    // SQLite does not wait for the disk here.
    File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
    read_back(connection, path)
}

/// Whether the copy is sound, and of the same kind.
fn read_back(connection: &Connection, path: &Path) -> Result<(), StoreFailure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(path, flags)?;
    let sound: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(StoreFailure::BadCopy(path.to_owned(), "SQLite's quick_check finds broken pages"));
    }
    for name in ["application_id", "user_version"] {
        let number = |of: &Connection| of.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        if number(&copy)? != number(connection)? {
            return Err(StoreFailure::BadCopy(path.to_owned(), "it says that it is something else"));
        }
    }
    Ok(())
}

/// Gives it its name, unless something has it.
fn publish(unfinished: &Path, to: &Path) -> Result<(), StoreFailure> {
    let failed = |error: io::Error| StoreFailure::File { path: to.to_owned(), error };
    if fs::exists(to).map_err(failed)? {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    fs::rename(unfinished, to).map_err(failed)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
