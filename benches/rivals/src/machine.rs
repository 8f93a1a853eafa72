//! What the kernel tells of a process and a folder, and how it is asked to hold less of them in memory.
#![expect(unsafe_code, reason = "posix_fadvise takes a file descriptor")]

use crate::store::Outcome;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes that this process has had written to disks so far, its threads included.
pub fn written_bytes() -> Outcome<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name));
    let written: u64 = field("write_bytes: ").ok_or("no write_bytes")?.parse()?;
    let cancelled: u64 = field("cancelled_write_bytes: ")
        .ok_or("no cancelled_write_bytes")?
        .parse()?;
    Ok(written.saturating_sub(cancelled))
}

/// The most memory that this process has had so far.
pub fn peak_memory_bytes() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.ok_or("no VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// Calls `visit` with each file below a folder.
fn files(folder: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata) -> Outcome<()>) -> Outcome<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            files(&path, visit)?;
        } else if metadata.is_file() {
            visit(&path, &metadata)?;
        }
    }
    Ok(())
}

/// What the files below a folder take on the disk, holes not counted; `wanted` says by its path below the folder which of them.
pub fn disk_bytes(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Outcome<u64> {
    let mut bytes = 0;
    files(folder, &mut |path, metadata| {
        if wanted(path.strip_prefix(folder)?) {
            bytes += metadata.blocks() * 512;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Lets the kernel forget what it has in memory of the files below a folder.
pub fn forget_pages(folder: &Path) -> Outcome<()> {
    files(folder, &mut |path, _| {
        let file = File::open(path)?;
        file.sync_all()?;
        // SAFETY: the descriptor is open for the call, which only advises.
        let failed = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        match failed {
            0 => Ok(()),
            code => Err(std::io::Error::from_raw_os_error(code).into()),
        }
    })
}

/// A control group whose processes, and the pages that the kernel keeps for them, have no more memory than so much.
pub struct MemoryBound {
    folder: PathBuf,
}

impl MemoryBound {
    /// Makes one, where the kernel lets this user.
    pub fn new(bytes: u64) -> Outcome<MemoryBound> {
        let (parent, limit) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let folder = Path::new(parent).join(format!("scry-rivals-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let bound = MemoryBound { folder };
        fs::write(bound.folder.join(limit), bytes.to_string())?;
        Ok(bound)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for MemoryBound {
    fn drop(&mut self) {
        // What is left of it bounds nobody.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Moves this process into a control group.
pub fn enter(group: &Path) -> Outcome<()> {
    Ok(fs::write(
        group.join("cgroup.procs"),
        std::process::id().to_string(),
    )?)
}

/// Processor, memory, kernel and file system, in a line.
pub fn describe(folder: &Path) -> Outcome<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |model| {
        model.trim_start_matches(['\t', ' ', ':'])
    });
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u64 = kib.ok_or("no MemTotal")?.trim().trim_end_matches(" kB").parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let folder = fs::canonicalize(folder)?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]))
        .max_by_key(|fields| fields[1].len());
    let file_system = mount.map_or("unknown", |fields| fields[2]);
    if file_system == "tmpfs" {
        return Err(format!("{} is in memory: --folder must be on a disk", folder.display()).into());
    }
    Ok(format!(
        "{cores} × {model}, {} GB, Linux {}, {file_system}; load at the start {load}",
        kib >> 20,
        kernel.trim()
    ))
}
