//! Child processes that cannot outlive the test process, however it ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;

/// A child process that is killed when this is dropped, and by the kernel when the test process dies first.
pub struct BoundChild {
    child: Child,
    reaped: Option<ExitStatus>,
}

/// The signals tests send.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// Ask to stop.
    Terminate,
    /// End at once, without a chance to clean up.
    Kill,
    /// Freeze: the process keeps its connections and notices nothing.
    Stop,
    /// Thaw.
    Continue,
}

impl BoundChild {
    /// Starts `command`.
    pub fn spawn(command: Command) -> io::Result<Self> {
        Ok(Self { child: spawn_bound(command)?, reaped: None })
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The captured standard output and error, whichever was piped; each only once.
    pub fn take_output(&mut self) -> (Option<std::process::ChildStdout>, Option<std::process::ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Sends `signal`; a process that has ended is left alone. A frozen process is frozen when this returns.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            send(self.child.id(), signal);
            if matches!(signal, Signal::Stop) {
                await_stop(self.child.id());
            }
        }
    }

    /// The exit status, if the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.reaped.is_none() {
            self.reaped = self.child.try_wait().expect("the child is ours to wait for");
        }
        self.reaped
    }

    /// Waits for the end, at most for `patience`; `None`: still running.
    pub fn wait(&mut self, patience: std::time::Duration) -> Option<ExitStatus> {
        super::poll_until(patience, || self.exited())
    }

    /// Kills the process and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::Kill);
        self.reaped.get_or_insert_with(|| self.child.wait().expect("the child is ours to wait for"));
    }
}

impl Drop for BoundChild {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Spawns from a thread that never ends: the parent-death signal fires when the spawning *thread* ends, and test
/// threads end with their test.
fn spawn_bound(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (command, reply) in inbox {
                    // A test that stopped waiting drops the answer, and with it nothing: the child is not made yet.
                    let _ = reply.send(spawn_with_parent_death_signal(command));
                }
            })
            .expect("a thread can be started");
        Mutex::new(requests)
    });
    let (reply, answer) = mpsc::channel();
    spawner.lock().unwrap().send((command, reply)).expect("the spawner never ends");
    answer.recv().expect("the spawner answers each request")
}

#[allow(unsafe_code, reason = "only here can a child be tied to the life of the test process")]
fn spawn_with_parent_death_signal(mut command: Command) -> io::Result<Child> {
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid, and the construction
        // of an error from errno, which does not allocate.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before the call above took effect.
                if libc::getppid() as u32 == parent {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(libc::ESRCH))
                }
            });
        }
    }
    command.spawn()
}

#[allow(unsafe_code, reason = "the standard library sends no signal but SIGKILL")]
fn send(pid: u32, signal: Signal) {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    // SAFETY: kill has no memory effects; the caller has not reaped the child, so the ID is still the child's.
    unsafe { libc::kill(libc::pid_t::try_from(pid).expect("process IDs fit pid_t"), number) };
}

/// The signal is only on its way when `kill` returns; a later one of a lower number would overtake it.
#[allow(unsafe_code, reason = "the standard library waits for the end only")]
fn await_stop(pid: u32) {
    // SAFETY: all-zero is a valid siginfo_t, and it outlives the call that fills it. WNOWAIT leaves the child, stopped
    // or ended, to be waited for by its owner.
    unsafe {
        let mut info = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid, &raw mut info, libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT);
    }
}

/// Runs `last` when the process exits, for what statics own: they are never dropped.
#[allow(unsafe_code, reason = "the standard library has no hook at exit")]
pub fn at_exit(last: extern "C" fn()) {
    // SAFETY: `last` is a plain function that stays valid for the life of the process.
    unsafe { libc::atexit(last) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::time::Duration;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[test]
    fn a_child_outlives_the_thread_that_started_it() {
        let mut child = thread::spawn(|| BoundChild::spawn(sleeper()).unwrap()).join().unwrap();
        assert_eq!(child.wait(Duration::from_millis(200)), None);
        child.kill();
        assert_eq!(child.exited().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_frozen_child_notices_nothing_until_it_is_thawed() {
        let mut child = BoundChild::spawn(sleeper()).unwrap();
        child.signal(Signal::Stop);
        child.signal(Signal::Terminate);
        assert_eq!(child.wait(Duration::from_millis(200)), None);
        child.signal(Signal::Continue);
        assert_eq!(child.wait(super::super::PATIENCE).unwrap().signal(), Some(libc::SIGTERM));
    }
}
