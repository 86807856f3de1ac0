//! Ticks of a fixed rate, finer than the millisecond of epoll.

use std::{io, os::fd::AsRawFd as _, time::Duration};

use mio::{Interest, Registry, Token, event::Source, unix::SourceFd};
use rustix::{
    fd::OwnedFd,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec},
};

/// A timer that becomes readable at every tick.
pub struct Ticks(OwnedFd);

impl Ticks {
    /// A stopped timer.
    pub fn new() -> io::Result<Self> {
        Ok(Self(rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK,
        )?))
    }

    /// Ticks every `period` from now on; zero stops it.
    pub fn every(&self, period: Duration) -> io::Result<()> {
        let period = Timespec {
            tv_sec: period.as_secs() as i64,
            tv_nsec: i64::from(period.subsec_nanos()),
        };
        let timer = Itimerspec {
            it_interval: period,
            it_value: period,
        };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &timer)?;
        Ok(())
    }

    /// How many ticks have passed since the last call.
    pub fn passed(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }
}

impl Source for Ticks {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}
