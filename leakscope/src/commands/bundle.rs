//! `--evidence DIR`: what was read of a suspect, in a folder of its own, for whoever asks when the process is gone.
//!
//! The folder is there whole or not at all (made under another name, then renamed), readable by its owner alone: a status, an
//! environment's paths and a command line are nobody else's business.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{CWD, RenameFlags};

use crate::fault::Remedy;
use crate::monitor::Finding;
use crate::process::Anatomy;
use crate::report::AnatomyLine;

/// Bundles of one process that may lie in one directory.
const MOST: u32 = 1000;

/// Makes the directory in which bundles go, if it is not there.
///
/// # Errors
/// When it cannot be made, or is no directory that can be written to.
pub fn prepare(directory: &Path) -> anyhow::Result<()> {
    const HOW: &str = "give --evidence a directory that can be written to";
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("making the directory {}", directory.display()))
        .fix(HOW)?;
    // Whoever may rename what lies there could make root write where they choose.
    let found = fs::metadata(directory).with_context(|| format!("reading {}", directory.display()))?;
    let own = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    if !own || found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0 {
        return Err(anyhow::anyhow!("{} may be written to by others", directory.display()))
            .fix("give --evidence a directory of your own (chmod go-w)");
    }
    // Found out before the hunt, not after it.
    tempfile::Builder::new()
        .prefix(".leakscope-")
        .tempdir_in(directory)
        .map(drop)
        .with_context(|| format!("writing into {}", directory.display()))
        .fix(HOW)
}

/// Writes what is known of a suspect into a new folder in `directory`, and returns its path.
///
/// # Errors
/// When it cannot be written; nothing of it is there then.
pub fn write(directory: &Path, finding: &Finding, anatomy: &Anatomy) -> anyhow::Result<PathBuf> {
    let place = tempfile::Builder::new()
        .prefix(".leakscope-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(directory)
        .with_context(|| format!("writing into {}", directory.display()))?;
    let put = |name: &str, content: &[u8]| {
        let path = place.path().join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
            .with_context(|| format!("writing {}", path.display()))
    };
    for (name, content) in &anatomy.files {
        put(&format!("{name}.txt"), content)?;
    }
    put("series.csv", series(finding).as_bytes())?;
    put("summary.json", summary(finding, anatomy)?.as_bytes())?;
    let name = format!("pid-{}-{}", finding.key.pid, finding.key.start.0);
    let kept = place.path().to_owned();
    for number in 0..MOST {
        let suffix = if number == 0 { String::new() } else { format!(".{number}") };
        let target = directory.join(format!("{name}{suffix}"));
        let renamed = match rustix::fs::renameat_with(CWD, &kept, CWD, &target, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag; a folder is not renamed over one that holds anything.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                rustix::fs::rename(&kept, &target)
            }
            renamed => renamed,
        };
        match renamed {
            Ok(()) => {
                // It has its own name now, and is nobody's to remove.
                let _ = place.keep();
                return Ok(target);
            }
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {}
            Err(error) => return Err(error).with_context(|| format!("naming it {}", target.display())),
        }
    }
    anyhow::bail!("{} holds {MOST} bundles of this process already", directory.display())
}

/// The growth as `leakscope analyze` reads it.
fn series(finding: &Finding) -> String {
    let comm: String = finding
        .identity
        .comm
        .chars()
        .map(|c| if c == ',' || c == '"' || c.is_control() { '_' } else { c })
        .collect();
    let mut text = String::from("at_s,pid,comm,anon_bytes,file_bytes,shmem_bytes,swap_bytes\n");
    let first = finding.history.first().map(|point| point.at);
    for point in &finding.history {
        let seconds = first.map_or(0.0, |first| point.at.since(first).as_secs_f64());
        let memory = &point.memory;
        text.push_str(&format!(
            "{seconds:.3},{},{comm},{},{},{},{}\n",
            finding.key.pid, memory.anon.0, memory.file.0, memory.shmem.0, memory.swap.0
        ));
    }
    text
}

fn summary(finding: &Finding, anatomy: &Anatomy) -> anyhow::Result<String> {
    let mut object = serde_json::to_value(super::present::suspect(finding))?;
    object["schema"] = "leakscope.evidence/1".into();
    object["at"] = finding.wall.to_string().into();
    object["anatomy"] = serde_json::to_value(AnatomyLine::from(anatomy))?;
    Ok(format!("{}\n", serde_json::to_string_pretty(&object)?))
}
