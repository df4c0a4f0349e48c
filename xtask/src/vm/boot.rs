//! One machine: boots it, shows what its tests print, and ends it when it is done, silent for too long, or dead.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    debian::{Debian, Kernel},
    image::Image,
    outcome::{End, Outcome, Reader},
};
use crate::workspace::shown;

/// No test is silent for so long, however slow the emulated processor is.
const SILENCE: Duration = Duration::from_secs(240);
/// Lines of the kernel's own messages that are shown when something went wrong.
const LAST_WORDS: usize = 12;

/// A machine that is ended when it is let go of.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots `image` with `kernel` and reads to the end.
///
/// # Errors
/// When QEMU cannot be started or the logs not be written; a machine that goes wrong is an outcome.
pub fn boot(debian: &Debian, kernel: &Kernel, image: &Image, folder: &Path) -> Result<Outcome> {
    let messages = folder.join(format!("{}.kernel.log", kernel.series));
    let _ = fs::remove_file(&messages);
    let log = folder.join(format!("{}.log", kernel.series));
    let mut kept = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let mut command = debian.qemu_command(kernel.processor);
    let (console, _) = kernel.processor.ports();
    // A /dev/kvm may be there and not work in a machine that is virtual itself.
    command
        .args(["-accel", "tcg,thread=multi", "-m", "1024", "-smp", "2"])
        .args(kernel.processor.machine())
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args([
            "-chardev",
            &format!("file,id=kernel,path={}", messages.display()),
            "-serial",
            "chardev:kernel",
        ])
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&image.path)
        .args(["-append", &format!("console={console} quiet panic=-1 oops=panic psi=1")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let child = command.spawn().with_context(|| format!("starting `{}`", shown(&command)))?;
    let mut machine = Machine(child);
    let mut port = machine.0.stdout.take().context("the machine's serial port was not piped")?;
    let (told, heard) = mpsc::channel();
    let listener = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length) = port.read(&mut bytes) {
            if length == 0 || told.send(bytes[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut reader = Reader::new(&image.mark);
    let silent = loop {
        match heard.recv_timeout(SILENCE) {
            Ok(bytes) => {
                kept.write_all(&bytes).with_context(|| format!("writing {}", log.display()))?;
                for line in reader.take(&bytes) {
                    eprintln!("{:>7}  {line}", kernel.series);
                }
            }
            Err(RecvTimeoutError::Timeout) => break true,
            Err(RecvTimeoutError::Disconnected) => break false,
        }
    };
    drop(machine);
    let _ = listener.join();
    let said = String::from_utf8_lossy(&fs::read(&messages).unwrap_or_default()).replace('\r', "");
    let end = match said.lines().find(|line| line.contains("Kernel panic")) {
        Some(panic) => End::Panicked(panic.trim().to_owned()),
        None if reader.is_done() => End::Done,
        None if silent => End::Silent(SILENCE),
        None => End::Stopped,
    };
    let outcome = reader.finish(end);
    if !outcome.is_good() {
        eprintln!("{:>7}  its kernel's last words ({}):", kernel.series, messages.display());
        let lines: Vec<&str> = said.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_WORDS)..] {
            eprintln!("{:>7}  | {line}", kernel.series);
        }
    }
    Ok(outcome)
}
