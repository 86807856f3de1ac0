//! The guardian: a small shell that outlives this process by a moment.
//!
//! It reads our orders from a pipe. When the pipe ends – we returned, panicked, were interrupted or
//! killed – it ends every process it was told of and removes our folder. Children also join its
//! process group, so one that was started but not yet announced is ended, too.

use std::{
    fs,
    io::Write,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// What the guardian runs. `watch` takes `<signal>:<pid>`; QUIT is for Postgres, which leaves
/// shared memory behind when it is killed.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT PIPE
watched='' ; folder=''
alive() {
  kill -0 "$1" 2>/dev/null || return 1
  case "$(ps -o stat= -p "$1" 2>/dev/null)" in Z*) return 1 ;; esac
}
while read -r order rest; do
  case "$order" in
    watch) watched="$watched $rest" ;;
    forget)
      kept=''
      for one in $watched; do [ "${one#*:}" = "$rest" ] || kept="$kept $one"; done
      watched=$kept ;;
    folder) folder=$rest ;;
  esac
done
for one in $watched; do kill -"${one%%:*}" "${one#*:}" 2>/dev/null; kill -CONT "${one#*:}" 2>/dev/null; done
tries=0
while [ $tries -lt 50 ]; do
  left=''
  for one in $watched; do alive "${one#*:}" && left=yes; done
  [ -z "$left" ] && break
  tries=$((tries + 1)); sleep 0.1
done
[ -n "$folder" ] && rm -rf "$folder"
kill -KILL 0
"#;

/// How a process wants to be ended when we are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGKILL.
    Kill,
    /// SIGQUIT: Postgres' immediate shutdown.
    Quit,
    /// SIGTERM: for a Redis whose data is wanted again.
    Term,
    /// SIGINT: Postgres' fast, clean shutdown.
    Interrupt,
}

/// The one guardian of this process.
pub struct Guardian {
    shell: Mutex<Child>,
    group: i32,
    folder: PathBuf,
    counter: AtomicU32,
}

static GUARDIAN: OnceLock<Guardian> = OnceLock::new();

/// The guardian, started at the first call.
pub fn guardian() -> &'static Guardian {
    GUARDIAN.get_or_init(Guardian::start)
}

impl Guardian {
    fn start() -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "tidegate-guardian"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a machine without sh cannot run the tests");
        let folder = std::env::temp_dir().join(format!(
            "tg-{}-{:04x}",
            std::process::id(),
            rand::random::<u16>()
        ));
        // Postgres may have to run as another user, so that user must be able to pass through.
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&folder)
            .expect("the temporary folder is writable");
        let order = format!("folder {}\n", folder.display());
        let stdin = shell.stdin.as_mut().expect("stdin was piped");
        stdin
            .write_all(order.as_bytes())
            .expect("the guardian reads its orders");
        let group = i32::try_from(shell.id()).expect("process ids fit an i32");
        Self {
            shell: Mutex::new(shell),
            group,
            folder,
            counter: AtomicU32::new(0),
        }
    }

    /// The process group that is ended with us.
    pub fn group(&self) -> i32 {
        self.group
    }

    /// A new empty folder that is removed with us.
    pub fn folder(&self, name: &str) -> PathBuf {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(format!("{n}-{name}"));
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&folder)
            .expect("the temporary folder is writable");
        folder
    }

    /// The folder all others are in.
    pub fn root(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn watch(&self, pid: u32, end: End) {
        let signal = match end {
            End::Kill => "KILL",
            End::Quit => "QUIT",
            End::Term => "TERM",
            End::Interrupt => "INT",
        };
        self.order(&format!("watch {signal}:{pid}\n"));
    }

    pub(crate) fn forget(&self, pid: u32) {
        self.order(&format!("forget {pid}\n"));
    }

    fn order(&self, line: &str) {
        let mut shell = self
            .shell
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(stdin) = shell.stdin.as_mut() {
            // A guardian that was killed from outside must not fail the test as well.
            let _ = stdin.write_all(line.as_bytes());
        }
    }
}
