//! What a store does to its disk, in order: every write, every sync, every cut.
//!
//! SQLite writes by a handful of functions of the C library. This binary defines them itself: on a thread that records, each
//! is noted before it is done; elsewhere they do what they always do.
#![expect(unsafe_code, reason = "seven functions of the C library are passed on from here, and noted")]

use libc::{c_char, c_int, c_long, c_void, off_t, size_t, ssize_t};
use std::cell::RefCell;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Something that was done to a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Bytes were written into a file.
    Write { file: String, at: usize, bytes: Vec<u8> },
    /// A file was made shorter, or longer.
    Cut { file: String, length: usize },
    /// A file was taken out of the folder.
    Gone { file: String },
    /// Whatever was done to a file before would now survive.
    Sync { file: String },
    /// Whatever was done to the folder before would now survive: files that are new in it, and those that are gone.
    SyncFolder,
    /// The caller was told that so many commits are durable.
    Answered { commits: usize },
}

struct Recording {
    folder: PathBuf,
    steps: Vec<Step>,
}

thread_local! {
    static RECORDING: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// Notes what this thread does to the files of `folder` from now on.
pub(crate) fn begin(folder: &Path) {
    let folder = folder.canonicalize().expect("a folder");
    RECORDING.set(Some(Recording { folder, steps: Vec::new() }));
}

/// Notes that so many commits were answered.
pub(crate) fn answered(commits: usize) {
    note(Step::Answered { commits });
}

/// What was noted.
pub(crate) fn end() -> Vec<Step> {
    RECORDING.take().expect("it was begun").steps
}

fn note(step: Step) {
    RECORDING.with_borrow_mut(|recording| {
        if let Some(recording) = recording {
            recording.steps.push(step);
        }
    });
}

/// What a descriptor is, seen from the recorded folder.
enum Place {
    File(String),
    Folder,
}

fn place_of(descriptor: c_int) -> Option<Place> {
    let folder = RECORDING.try_with(|recording| Some(recording.try_borrow().ok()?.as_ref()?.folder.clone()));
    let folder = folder.ok().flatten()?;
    let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    if path == folder {
        return Some(Place::Folder);
    }
    let name = path.strip_prefix(folder).ok()?;
    Some(Place::File(name.to_string_lossy().into_owned()))
}

fn note_write(descriptor: c_int, buffer: *const c_void, length: ssize_t, at: off_t) {
    if let (Some(Place::File(file)), Ok(length)) = (place_of(descriptor), usize::try_from(length)) {
        // SAFETY: the system has just read so many bytes from there.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) }.to_vec();
        note(Step::Write { file, at: usize::try_from(at).expect("an offset"), bytes });
    }
}

/// The system's own call.
macro_rules! system {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: the arguments are passed on as they came.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    };
}

fn small(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

#[unsafe(no_mangle)]
extern "C" fn write(descriptor: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    let at = system!(SYS_lseek, descriptor, 0, libc::SEEK_CUR);
    let written = system!(SYS_write, descriptor, buffer, length);
    if at >= 0 && written > 0 {
        note_write(descriptor, buffer, isize::try_from(written).unwrap_or(0), at);
    }
    isize::try_from(written).unwrap_or(-1)
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(descriptor: c_int, buffer: *const c_void, length: size_t, at: off_t) -> ssize_t {
    let written = system!(SYS_pwrite64, descriptor, buffer, length, at);
    if written > 0 {
        note_write(descriptor, buffer, isize::try_from(written).unwrap_or(0), at);
    }
    isize::try_from(written).unwrap_or(-1)
}

fn cut(descriptor: c_int, length: off_t) -> c_int {
    if let Some(Place::File(file)) = place_of(descriptor) {
        note(Step::Cut { file, length: usize::try_from(length).expect("a length") });
    }
    small(system!(SYS_ftruncate, descriptor, length))
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(descriptor: c_int, length: off_t) -> c_int {
    cut(descriptor, length)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(descriptor: c_int, length: off_t) -> c_int {
    cut(descriptor, length)
}

/// The machine's own disk is not asked: what it would keep is what the recording says.
fn sync(descriptor: c_int) -> c_int {
    match place_of(descriptor) {
        Some(Place::File(file)) => note(Step::Sync { file }),
        Some(Place::Folder) => note(Step::SyncFolder),
        None => return small(system!(SYS_fsync, descriptor)),
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: c_int) -> c_int {
    sync(descriptor)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    sync(descriptor)
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: whoever calls hands a C string over.
    let name = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes())).to_owned();
    let result = small(system!(SYS_unlink, path));
    let folder = RECORDING.try_with(|recording| Some(recording.try_borrow().ok()?.as_ref()?.folder.clone()));
    let within = folder.ok().flatten().is_some_and(|folder| {
        name.parent().and_then(|parent| parent.canonicalize().ok()).is_some_and(|parent| parent == folder)
    });
    if result == 0 && within {
        let file = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        note(Step::Gone { file });
    }
    result
}
