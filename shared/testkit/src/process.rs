//! A child process with its logs in a folder.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    guardian::{End, guardian},
    wait::eventually,
};

/// A running (or ended) program. Dropping it ends it.
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts the command in the guardian's group. Standard output and error go to `log`, appended.
    pub fn spawn(name: &str, command: Command, log: &Path, end: End) -> std::io::Result<Self> {
        Self::spawn_into(guardian().group(), name, command, log, end)
    }

    /// The same in a group of its own, as a shell starts what one may want to end by Ctrl-C.
    pub fn spawn_alone(
        name: &str,
        command: Command,
        log: &Path,
        end: End,
    ) -> std::io::Result<Self> {
        Self::spawn_into(0, name, command, log, end)
    }

    fn spawn_into(
        group: i32,
        name: &str,
        mut command: Command,
        log: &Path,
        end: End,
    ) -> std::io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(group)
            .spawn()?;
        let pid = child.id();
        guardian().watch(pid, end);
        Ok(Self {
            name: name.to_owned(),
            pid,
            log: log.to_path_buf(),
            child: Mutex::new(child),
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// `None` while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        let status = self.child().try_wait().ok().flatten();
        if status.is_some() {
            guardian().forget(self.pid);
        }
        status
    }

    /// Sends a signal by name (`TERM`, `STOP`, …). The child is not reaped yet, so the id is still its own.
    pub fn signal(&self, name: &str) {
        let child = self.child();
        let _ = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(child.id().to_string())
            .stderr(Stdio::null())
            .status();
    }

    /// SIGINT to everybody in its group, of which it must be the first.
    pub fn ctrl_c(&self) {
        let child = self.child();
        let _ = Command::new("kill")
            .args(["-INT", "--", &format!("-{}", child.id())])
            .stderr(Stdio::null())
            .status();
    }

    /// kill -9, and waits until it is gone.
    pub fn kill9(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
        guardian().forget(self.pid);
    }

    /// SIGTERM, then waits. A process that does not end in time is killed, and the test fails.
    pub async fn stop(&self, deadline: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(deadline).await
    }

    /// Waits for its end.
    pub async fn wait(&self, deadline: Duration) -> ExitStatus {
        eventually(&format!("{} ends", self.name), deadline, || async {
            self.exited()
        })
        .await
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
